"""What an agent asks a model, and the model's reply: plain data that can be stored."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from arena_llm import ArenaError
from arena_llm.types import Attempt, ServedBy, Usage

#: Nothing is known about who answered.
NOT_KNOWN = ServedBy()

#: Stands for the model's name where a person answers at the terminal.
PERSON = "a person"


@dataclass(frozen=True, slots=True)
class ModelCall:
    """One call of the client.

    messages: pairs of (role, content). sampling: keyword arguments of `Client.generate`
    (temperature, max_tokens, seed, reasoning_effort, routing, ...), as JSON can hold them.
    choices: the model must generate one of these texts. continuations: the model scores each of
    these texts. At most one of the two is set. store_tokens: keep the tokens of the reply.
    answer: answers in place of a model, such as a person; not part of the stored request.
    preferred_schema: a JSON Schema that the reply must fit if the model has structured output; a
    model without it writes freely.
    """

    model: str
    messages: tuple[tuple[str, str], ...]
    sampling: dict[str, Any] = field(default_factory=dict)
    choices: tuple[str, ...] | None = None
    continuations: tuple[str, ...] | None = None
    store_tokens: bool = False
    answer: Callable[[], Awaitable[ModelReply]] | None = field(default=None, compare=False)
    preferred_schema: str = ""

    def __post_init__(self) -> None:
        for message in self.messages:
            match message:
                case (str(), str()):
                    continue
            raise TypeError('ModelCall.messages must be pairs such as ("user", "Your move?")')


@dataclass(frozen=True, slots=True)
class ModelReply:
    """What the model answered. None or an empty text: unknown or missing.

    text: empty if continuations were scored (then logprobs has one natural logarithm for each of
    them, in the same order), if the model refused, and if no reply of the model satisfied the
    choices. model: the model that answered. latency_ms: measured by the client, including waiting
    and retries. refusal: the words with which the model refused.

    cost_picousd: in 10^-12 US dollars, all attempts together whose cost is known. replayed: it is
    the reply to an earlier call with the same request_id, and is paid once. cost_basis: billed,
    price_list or free. attempts: the requests to a hosted model's provider.
    failed_attempts_picousd: the cost of those that failed, which is part of cost_picousd.
    unknown_attempts: further requests of unknown cost, which the provider may have billed.
    max_cost_picousd: an upper bound for each request of unknown cost. finds_lost: the attempts
    include those of an earlier call with the same request_id, whose reply was lost.
    enforcement: how the choices were enforced. tokens: the tokens of the reply as JSON (see
    tokens.py). prompt_ids: the ids of the prompt's tokens, as a JSON list. failed_models: those
    that were called before the model that answered, with their reasons. cached: the router's
    cache had the reply, so it cost nothing.
    """

    text: str
    model: str
    latency_ms: float
    reasoning: str = ""
    finish_reason: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost_picousd: int | None = None
    logprobs: tuple[float, ...] | None = None
    refusal: str = ""
    cost_basis: str = ""
    request_id: str = ""
    replayed: bool = False
    attempts: int | None = None
    failed_attempts_picousd: int | None = None
    unknown_attempts: int = 0
    max_cost_picousd: int | None = None
    finds_lost: bool = False
    enforcement: str = ""
    served_by: ServedBy = NOT_KNOWN
    tokens: str = ""
    prompt_ids: str = ""
    failed_models: str = ""
    cached: bool = False


#: How an agent calls a model. Raises arena_llm.ArenaError.
Ask = Callable[[ModelCall], Awaitable[ModelReply]]


def describe_usage(usage: Usage, attempts: Sequence[Attempt] = ()) -> dict[str, Any]:
    """The fields of a ModelReply for the tokens and the cost of a call."""
    failed = [attempt.cost_picousd for attempt in attempts if attempt.reason]
    cost = usage.cost_picousd
    bounds = [attempt.max_cost_picousd for attempt in attempts if attempt.cost_picousd is None]
    known_bounds = [bound for bound in bounds if bound is not None]
    unknown = len(bounds)
    if cost is None and attempts:
        # The whole cost is not known, but perhaps that of the answer, or of a part.
        known = sum(attempt.cost_picousd or 0 for attempt in attempts)
        answered = any(not a.reason and a.cost_picousd is not None for a in attempts)
        if known or answered or not unknown:
            cost = known
        else:
            unknown -= 1  # this call itself counts as one of unknown cost
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
        "cost_picousd": cost,
        "cost_basis": name_of(usage.cost_basis),
        "attempts": len(attempts) or None,
        "failed_attempts_picousd": sum(cost or 0 for cost in failed) if any(failed) else None,
        "unknown_attempts": unknown,
        "max_cost_picousd": max(known_bounds) if known_bounds == bounds != [] else None,
        "finds_lost": any(attempt.reason == "INTERRUPTED" for attempt in attempts),
    }


#: Reasons of errors whose call may have reached a provider, although they report no usage.
_LOST = frozenset(
    ("", "CONNECTION_LOST", "BACKEND_DOWN", "DEADLINE_EXCEEDED", "CANCELLED", "INTERNAL")
)


def is_lost(error: ArenaError) -> bool:
    """Whether a call without a report may cost something."""
    return (
        error.reason in _LOST
        and error.code != "UNIMPLEMENTED"
        and error.metadata.get("reached") != "false"
    )


#: Reasons of attempts whose backend the router has lost, before it knew a provider.
_LOST_BY_ROUTER = frozenset(("BACKEND_DOWN", "DEADLINE_EXCEEDED"))


def is_lost_attempt(attempt: Attempt) -> bool:
    """Whether only the router knows of an attempt.

    Its service may report the usage later, to a call with the same request_id.
    """
    known = attempt.provider or attempt.upstream_id or attempt.http_status
    return not known and attempt.reason in _LOST_BY_ROUTER


def name_of(value: StrEnum | None) -> str:
    """The text of an enum's value; empty for None and for unknown."""
    return "" if value is None or value == "unknown" else value.value
