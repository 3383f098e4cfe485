"""Constraints on hosted models: choices and JSON schemas.

A model with structured output gets a JSON schema as `response_format`; other models get an
instruction in the prompt. Every reply is checked. If the first reply does not fit, the model gets
it back with a stricter instruction, and may reply once more.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

from arena_llm.types import (
    Choices,
    Completion,
    Constraint,
    FinishReason,
    GenerationRequest,
    JsonSchema,
    Message,
    Regex,
    Usage,
)
from services.common.errors import InvalidRequest, Unsupported
from services.common.hosted.request import ResponseFormat, append_note, as_conversation
from services.common.hosted.schema import FIELD, Schema
from services.common.reply import spent_metadata

#: Calls the provider; the second argument is the `response_format`, or None.
Ask = Callable[[GenerationRequest, ResponseFormat | None], Awaitable[Completion]]


async def generate_constrained(
    request: GenerationRequest, ask: Ask, structured: bool
) -> Completion:
    """Return a completion whose text fits the request's constraint.

    structured: whether the model takes a JSON schema as `response_format`.
    A completion that took two replies has the tokens, cost and attempts of both.

    Raises Unsupported if neither reply fits the constraint, and InvalidRequest for an invalid
    schema or a reply cut off by max_tokens. If the model has replied, the error's metadata has the
    tokens and the cost.
    """
    constraint = request.constraint
    if constraint is None:
        return await ask(request, None)
    rule = make_rule(constraint)
    response_format = rule.response_format if structured else None
    prompt = request.input if structured else append_note(request.input, rule.instruction)
    first = await ask(replace(request, input=prompt), response_format)
    if (text := rule.accept(first.text)) is not None:
        return replace(first, text=text)
    _check_whole(first)
    retry = (
        *as_conversation(prompt),
        Message("assistant", first.text),
        Message("user", rule.stricter_instruction),
    )
    second = await ask(replace(request, input=retry), response_format)
    second = replace(
        second,
        usage=_add_usage(first.usage, second.usage),
        attempts=first.attempts + second.attempts,
    )
    if (text := rule.accept(second.text)) is not None:
        return replace(second, text=text)
    _check_whole(second)
    raise Unsupported(
        f"{request.model} replied twice, and neither reply fits {rule.field}",
        field=rule.field,
        metadata=spent_metadata(second),
    )


class ChoicesRule:
    """The reply must be one of the strings, requested as an enum inside an object."""

    field = "constraint.choices"

    def __init__(self, choices: Choices) -> None:
        self._values = choices.values
        lines = "\n".join(choices.values)
        self.instruction = f"Answer with exactly one of these lines and nothing else:\n{lines}"
        self.stricter_instruction = (
            "That is none of the allowed answers. Your whole reply must be one of these "
            f"lines, character by character, with nothing before or after it:\n{lines}"
        )
        properties = {"choice": {"type": "string", "enum": list(choices.values)}}
        schema = {
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }
        self.response_format = _build_response_format("choice", schema, strict=True)

    def accept(self, text: str) -> str | None:
        """Read a choice from the object or from plain text; None if it is not an allowed choice."""
        if text in self._values:
            return text
        text = _strip_fence(text)
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            value = text
        if isinstance(value, dict) and value.keys() == {"choice"}:
            value = value["choice"]
        if not isinstance(value, str):
            value = text  # a choice such as 5 is also a JSON number
        if value in self._values:
            return value
        matches = [choice for choice in self._values if choice.strip() == value.strip()]
        return matches[0] if len(matches) == 1 else None


class SchemaRule:
    """The reply must be JSON that a schema (draft 2020-12) accepts."""

    field = FIELD

    def __init__(self, constraint: JsonSchema) -> None:
        self._schema = Schema(constraint.schema)
        self.instruction = (
            "Answer with JSON that this JSON schema accepts, and nothing else:\n"
            f"{constraint.schema}"
        )
        self.stricter_instruction = f"That is not JSON that the schema accepts. {self.instruction}"
        value = self._schema.value
        self.response_format = _build_response_format("reply", value, strict=_is_strict(value))

    def accept(self, text: str) -> str | None:
        """The JSON text; None if it is not valid."""
        text = _strip_fence(text)
        return text if self._schema.accepts(text) else None


def make_rule(constraint: Constraint) -> ChoicesRule | SchemaRule:
    """Make the rule for a constraint. Raises InvalidRequest for an invalid schema."""
    match constraint:
        case Choices():
            return ChoicesRule(constraint)
        case JsonSchema():
            return SchemaRule(constraint)
        case Regex():
            raise AssertionError("the servicer refuses it")


_FENCED = re.compile(r"\s*```[\w-]*\n(.*?)\n?```\s*", re.DOTALL)


def _strip_fence(text: str) -> str:
    """The content of a Markdown code block, if the text is exactly one block."""
    match = _FENCED.fullmatch(text)
    return match[1] if match else text


def _build_response_format(name: str, schema: Any, strict: bool) -> ResponseFormat:
    """https://platform.openai.com/docs/guides/structured-outputs"""
    return {
        "type": "json_schema",
        "json_schema": {"name": name, "strict": strict, "schema": schema},
    }


def _is_strict(schema: Any) -> bool:
    """Whether every object in the schema requires all its properties and allows no others.

    Providers answer 400 to `strict` with any other schema. Such a schema is sent without
    `strict`, and only the reply is checked.
    """
    if isinstance(schema, list):
        return all(map(_is_strict, schema))
    if not isinstance(schema, dict):
        return True
    if schema.get("type") == "object" or "properties" in schema:
        names = set(schema.get("properties", {}))
        if (
            schema.get("additionalProperties") is not False
            or set(schema.get("required", ())) != names
        ):
            return False
    return all(map(_is_strict, schema.values()))


def _check_whole(completion: Completion) -> None:
    """Raise InvalidRequest if max_tokens cut the completion off."""
    if completion.finish_reason is FinishReason.LENGTH:
        raise InvalidRequest(
            "config.max_tokens was reached before the constrained reply was whole",
            field="config.max_tokens",
            metadata=spent_metadata(completion),
        )


def _add_usage(first: Usage, second: Usage) -> Usage:
    """The sum of two usages. Costs are added in decimal, so no digit is lost."""
    cost = None
    if first.cost_usd is not None and second.cost_usd is not None:
        cost = float(Decimal(repr(first.cost_usd)) + Decimal(repr(second.cost_usd)))
    return Usage(
        first.prompt_tokens + second.prompt_tokens,
        first.completion_tokens + second.completion_tokens,
        first.reasoning_tokens + second.reasoning_tokens,
        first.cached_tokens + second.cached_tokens,
        cost,
    )
