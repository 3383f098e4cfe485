"""The rows of schema.sql as dataclasses, and requests and replies as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from hashlib import blake2b
from typing import Any, NamedTuple, Self

from pydantic import TypeAdapter, ValidationError

from arena.agents.calls import ModelCall, ModelReply
from arena_llm.types import to_picousd

#: The statuses of episodes whose returns are a result.
PLAYED = ("finished", "truncated")


class UnreadableRow(Exception):
    """A row has values that the schema allows but the arena does not write."""


@dataclass(frozen=True, slots=True)
class ExperimentRow:
    """A row of the table experiments."""

    name: str
    config: str


@dataclass(frozen=True, slots=True)
class ModelRow:
    """A participant of an experiment, whether it is a model or not: its name and its player."""

    agent: str
    type: str
    model: str | None
    config: str


@dataclass(frozen=True, slots=True)
class EpisodeRow:
    """An episode.

    episode: its key. agents: the players' names, in seat order. seed: of its deal. versions: of
    each seat's prompts and reader. ended: seconds since 1970; 0 if not known.
    """

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
    versions: tuple[str, ...] = ()
    ended: int = 0

    @property
    def name(self) -> str:
        """A name to read: game/number/agents. Several episodes of a file can have the same."""
        return name_episode(self.game, self.number, self.agents)


def name_episode(game: str, number: int, agents: Sequence[str]) -> str:
    """Return the name of an episode for people."""
    return f"{game}/{number}/{','.join(agents)}"


@dataclass(frozen=True, slots=True)
class MoveRow:
    """An answer or a chance event of an episode; transcripts contain them.

    episode: its key. seat: -1 for chance. attempt: 0, and one more after each illegal answer in the
    same turn. agent: None for chance. status: ok, illegal, unparseable, error. problem: why it is
    not ok; code, reason and message of an error. policy: what was done about it (retry, forfeit,
    random). action: the played one (policy random: the drawn one). legal_actions: pairs of
    action and name. board: before the move, as a spectator sees it.

    The columns from model on describe the model's reply. They have the names of the fields of
    ModelReply and ServedBy. replayed: 1 if it is the reply to an earlier call with this
    request_id, which was lost; it is paid once. tokens: JSON of the message TokenTrace.
    prompt_ids: JSON list of the ids of the prompt's tokens. reading: by which rule the reply was
    read, and the strict reader's verdict (reply.describe_reading).
    failed_models: those that could not answer before `model`: "NAME: REASON", joined by commas.
    cached: 1 if the router's cache had the reply.
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
    prompt_ids: str | None = None
    reading: str | None = None
    failed_models: str | None = None
    cached: int | None = None


class Origin(NamedTuple):
    """Who answered and how, as far as known; an empty text is not known.

    model: the one that answered. enforcement: how the choices were enforced.
    """

    model: str
    provider: str
    region: str
    precision: str
    revision: str
    engine: str
    enforcement: str

    @classmethod
    def of(cls, move: MoveRow) -> Self:
        """Return who gave the answer of a move."""
        return cls(
            move.model or "",
            move.provider or "",
            move.region or "",
            move.precision or "",
            move.model_revision or "",
            move.engine or "",
            move.enforcement or "",
        )


@dataclass(frozen=True, slots=True)
class SeatRow:
    """What a seat did in an episode, counted; see the table seats.

    details: policies and ends (counts by what was done about illegal answers, and by why replies
    ended), replayed, cached, fallbacks (answers of another model), retried,
    failed_attempts_picousd. Counts that are 0 are left out.
    """

    seat: int
    version: str
    turns: int
    first_legal: int
    calls: int
    ok: int
    illegal: int
    unparseable: int
    errors: int
    prompt_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    reasoned: int
    uncounted: int
    cost_picousd: int
    unpriced: int
    latency_ms: float
    details: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """A row of the table scores: what a model would play where a seat knows `state`.

    version: of the agent's prompts. state: see games.information.make_key. logprobs: pairs of a
    legal action and its log-probability.
    """

    agent: str
    game: str
    version: str
    state: str
    logprobs: tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class CallKey:
    """Identifies a call in every run. episode: the episode's key."""

    episode: str
    ply: int
    seat: int
    attempt: int


@dataclass(frozen=True, slots=True)
class FailedCallRow:
    """A row of the table failed_calls. number: set by the store.

    cost_picousd: None if it is not known, so that the provider may have billed something.
    max_cost_picousd: the most that it can be then; None: not known.
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
    max_cost_picousd: int | None = None


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


def parse_json(kind: TypeAdapter[Any], where: str, text: str | None) -> Any:
    """Return the value of a JSON column; None if it is NULL.

    where: the table and column, for the message of UnreadableRow.
    """
    if text is None:
        return None
    try:
        return kind.validate_json(text)
    except ValidationError as error:
        raise UnreadableRow(f"{where}: {error.errors()[0]['msg']}") from error
