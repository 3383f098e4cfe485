"""Constraints on a hosted model: asked for as a JSON schema, checked on return."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from decimal import Decimal

from arena_llm.types import (
    Completion,
    FinishReason,
    GenerationRequest,
    Input,
    Message,
    Usage,
)
from services.common.errors import InvalidRequest, Unsupported
from services.common.hosted.rules import ResponseFormat, rule_of

#: Asks the provider once; the second argument is what goes out as `response_format`.
Ask = Callable[[GenerationRequest, ResponseFormat | None], Awaitable[Completion]]


async def constrained(request: GenerationRequest, ask: Ask, structured: bool) -> Completion:
    """A completion whose text keeps to the request's constraint.

    structured: whether the model takes a JSON schema as `response_format`. Without,
    the wish stands in the prompt. A reply that does not fit is asked for once more,
    more strictly; tokens, cost and attempts of both are added up.

    Raises Unsupported (a regex; a model that does not keep to the constraint, the
    field named), InvalidRequest (a broken schema; max_tokens too few for the reply).
    Where the model has replied, their metadata tell what that took.
    """
    constraint = request.constraint
    if constraint is None:
        return await ask(request, None)
    rule = rule_of(constraint)
    shape = rule.response_format if structured else None
    prompt = request.input if structured else with_note(request.input, rule.wish)
    first = await ask(replace(request, input=prompt), shape)
    if (text := rule.accept(first.text)) is not None:
        return replace(first, text=text)
    _check_whole(first)
    again = (*messages(prompt), Message("assistant", first.text), Message("user", rule.stricter))
    second = await ask(replace(request, input=again), shape)
    second = replace(
        second,
        usage=add(first.usage, second.usage),
        attempts=first.attempts + second.attempts,
    )
    if (text := rule.accept(second.text)) is not None:
        return replace(second, text=text)
    _check_whole(second)
    raise Unsupported(
        f"{request.model} was asked twice and kept to {rule.field} neither time",
        field=rule.field,
        metadata=_taken(second),
    )


def _check_whole(completion: Completion) -> None:
    if completion.finish_reason is FinishReason.LENGTH:
        raise InvalidRequest(
            "config.max_tokens was reached before the constrained reply was whole",
            field="config.max_tokens",
            metadata=_taken(completion),
        )


def _taken(completion: Completion) -> dict[str, str]:
    """Attempts, tokens and, where it is known, the cost: they were paid for."""
    usage = completion.usage
    taken = {
        "attempts": str(completion.attempts),
        "prompt_tokens": str(usage.prompt_tokens),
        "completion_tokens": str(usage.completion_tokens),
    }
    if usage.cost_usd is not None:
        taken["cost_usd"] = repr(usage.cost_usd)
    return taken


def messages(prompt: Input) -> tuple[Message, ...]:
    """The input as a conversation."""
    return (Message("user", prompt),) if isinstance(prompt, str) else prompt


def with_note(prompt: Input, note: str) -> tuple[Message, ...]:
    """The input with a note at its end, in the last user's message if that ends it."""
    *before, last = messages(prompt)
    if last.role != "user":
        return (*before, last, Message("user", note))
    return (*before, Message("user", f"{last.content}\n\n{note}"))


def add(one: Usage, other: Usage) -> Usage:
    """Tokens and cost of two calls; the cost in decimal, to the provider's last digit."""
    cost = None
    if one.cost_usd is not None and other.cost_usd is not None:
        cost = float(Decimal(repr(one.cost_usd)) + Decimal(repr(other.cost_usd)))
    return Usage(
        one.prompt_tokens + other.prompt_tokens,
        one.completion_tokens + other.completion_tokens,
        one.reasoning_tokens + other.reasoning_tokens,
        one.cached_tokens + other.cached_tokens,
        cost,
    )
