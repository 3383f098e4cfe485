"""The rows of schema.sql as dataclasses, and requests and replies as JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from arena.agents.calls import ModelCall, ModelReply

#: The statuses of episodes whose returns are a result.
PLAYED = ("finished", "truncated")


@dataclass(frozen=True, slots=True)
class ExperimentRow:
    """The row of the table experiments."""

    name: str
    config: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class ModelRow:
    """A row of the table models: a participant, whether it is a model or not."""

    agent: str
    type: str
    model: str | None
    config: str


@dataclass(frozen=True, slots=True)
class EpisodeRow:
    """A row of the table episodes. agents and returns are JSON lists in the file."""

    episode: str
    game: str
    number: int
    agents: tuple[str, ...]
    seed: int
    status: str
    plies: int
    reason: str | None = None
    loser: int | None = None
    returns: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class MoveRow:
    """A row of the table moves. legal_actions is a JSON list of [action, name] in the file."""

    episode: str
    ply: int
    seat: int
    attempt: int
    status: str
    agent: str | None = None
    problem: str | None = None
    policy: str | None = None
    action: int | None = None
    action_text: str | None = None
    legal_actions: tuple[tuple[int, str], ...] | None = None
    board: str | None = None
    prompt: str | None = None
    reply: str | None = None
    reasoning: str | None = None
    model: str | None = None
    latency_ms: float | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost_usd: float | None = None


@dataclass(frozen=True, slots=True)
class CallKey:
    """Identifies a call of an experiment. It is the same in every run."""

    episode: str
    ply: int
    seat: int
    attempt: int


def canonical_json(value: Any, *, allow_nan: bool = True) -> str:
    """Return JSON text that is equal for equal values: sorted keys, no spaces, ASCII."""
    return json.dumps(value, separators=(",", ":"), sort_keys=True, allow_nan=allow_nan)


# The fields are listed by hand because dataclasses.asdict copies deeply, and this runs for
# every move.


def request_to_json(call: ModelCall) -> str:
    """Return a request as JSON, without its timeout, which does not change the reply."""
    sampling = {name: value for name, value in call.sampling.items() if name != "timeout"}
    return canonical_json(
        {
            "model": call.model,
            "messages": call.messages,
            "sampling": sampling,
            "choices": call.choices,
            "continuations": call.continuations,
        }
    )


def reply_to_json(reply: ModelReply) -> str:
    """Return a reply as JSON."""
    return canonical_json({name: getattr(reply, name) for name in ModelReply.__slots__})


_REPLY = TypeAdapter(ModelReply)


def reply_from_json(text: str) -> ModelReply:
    """Parse a stored reply. Raises pydantic.ValidationError."""
    return _REPLY.validate_json(text, strict=True)
