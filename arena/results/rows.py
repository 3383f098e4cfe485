"""The rows of schema.sql as dataclasses, and requests and replies as JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from hashlib import blake2b
from typing import Any

from pydantic import TypeAdapter

from arena.agents.calls import ModelCall, ModelReply
from arena_llm.types import to_picousd

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
    """A row of the table moves. legal_actions is a JSON list of [action, name] in the file.

    The columns from model on describe the model's reply. They have the names of the fields of
    ModelReply and ServedBy.
    """

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
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost_picousd: int | None = None
    cost_basis: str | None = None
    attempts: int | None = None
    failed_attempts_picousd: int | None = None
    request_id: str | None = None
    replayed: int | None = None
    enforcement: str | None = None
    provider: str | None = None
    region: str | None = None
    precision: str | None = None
    model_revision: str | None = None
    system_fingerprint: str | None = None
    engine: str | None = None
    replica: str | None = None
    service_version: str | None = None
    tokens: str | None = None


@dataclass(frozen=True, slots=True)
class CallKey:
    """Identifies a call of an experiment. It is the same in every run."""

    episode: str
    ply: int
    seat: int
    attempt: int


@dataclass(frozen=True, slots=True)
class FailedCallRow:
    """A row of the table failed_calls. number: set by the store.

    cost_picousd: None if it is not known, so that the provider may have billed something.
    """

    episode: str
    ply: int
    seat: int
    attempt: int
    number: int
    reason: str
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost_picousd: int | None = None


def make_request_id(run_id: str, key: CallKey, request: str) -> str:
    """Return the id of a call's requests: the same in every try and every run over one file.

    run_id: of the results file, so that two files never share a reply. request: as JSON.
    """
    digest = blake2b(digest_size=20)
    for part in (key.episode, key.ply, key.seat, key.attempt, request):
        digest.update(f"{part}\n".encode())
    return f"{run_id}-{digest.hexdigest()}"


def canonical_json(value: Any, *, allow_nan: bool = True) -> str:
    """Return JSON text that is equal for equal values: sorted keys, no spaces, ASCII."""
    return json.dumps(value, separators=(",", ":"), sort_keys=True, allow_nan=allow_nan)


# The fields are listed by hand because dataclasses.asdict copies deeply, and this runs for
# every move.


def request_to_json(call: ModelCall) -> str:
    """Return a request as JSON, without its timeout, which does not change the reply."""
    sampling = {name: value for name, value in call.sampling.items() if name != "timeout"}
    values = {
        "model": call.model,
        "messages": call.messages,
        "sampling": sampling,
        "choices": call.choices,
        "continuations": call.continuations,
    }
    if call.preferred_schema:
        values["preferred_schema"] = call.preferred_schema
    return canonical_json(values)


def reply_to_json(reply: ModelReply) -> str:
    """Return a reply as JSON, without the fields that have their default."""
    values = {
        field.name: value
        for field in fields(reply)
        if (value := getattr(reply, field.name)) != field.default
    }
    if "served_by" in values:
        values["served_by"] = {
            field.name: value
            for field in fields(reply.served_by)
            if (value := getattr(reply.served_by, field.name))
        }
    return canonical_json(values)


_REPLY = TypeAdapter(ModelReply)


def reply_from_json(text: str) -> ModelReply:
    """Parse a stored reply. Raises pydantic.ValidationError."""
    return _REPLY.validate_json(text, strict=True)


def convert_old_reply(reply: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON values of a reply of release 0.1, whose cost is in dollars, as today's."""
    if "cost_usd" not in reply:
        return reply
    values = dict(reply)
    usd = values.pop("cost_usd")
    return values if usd is None else values | {"cost_picousd": to_picousd(usd)}
