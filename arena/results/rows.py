"""Rows of the results, as schema.sql has them."""

from __future__ import annotations

from dataclasses import dataclass

#: Statuses of episodes whose returns are a result.
PLAYED = ("finished", "truncated")


@dataclass(frozen=True, slots=True)
class ExperimentRow:
    """The row of experiments."""

    name: str
    config: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class ModelRow:
    """A row of models: a participant."""

    agent: str
    type: str
    model: str | None
    config: str


@dataclass(frozen=True, slots=True)
class EpisodeRow:
    """A row of episodes; agents and returns are JSON lists in the file."""

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
    """A row of moves; legal_actions is a JSON list of [action, string] in the file."""

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
    """Which call of an experiment: the same in every run of it."""

    episode: str
    ply: int
    seat: int
    attempt: int
