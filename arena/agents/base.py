"""What a player is given and what it answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from arena.calls import Ask
from arena.games.game import Game, LegalAction, State


@dataclass(frozen=True, slots=True)
class Turn:
    """A player's turn.

    state: the whole state, for those players that search; a language model's prompt is
    made of what its own seat can see. ply: counts from 0; players who move at once share
    one. seed: 63 bits from experiment, game, episode, seat and ply.
    """

    game: Game
    state: State
    seat: int
    ply: int
    legal: tuple[LegalAction, ...]
    seed: int


class Status(StrEnum):
    """What became of a reply."""

    OK = "ok"
    ILLEGAL = "illegal"  # in the documented format, but no legal action
    UNPARSEABLE = "unparseable"  # not in the documented format


@dataclass(frozen=True, slots=True)
class Attempt:
    """One answer to a turn: what becomes one row of moves.

    action: legal where status is OK, else None. problem: why it is not OK, in words that
    the player can be told. Of players that ask no model, only action is set.
    """

    status: Status
    action: int | None
    problem: str = ""
    prompt: str = ""
    reply: str = ""
    reasoning: str = ""
    model: str = ""
    latency_ms: float | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost_usd: float | None = None


class PlayerLeft(Exception):
    """Somebody who plays has left, and answers no more turns in this run."""


class Agent(ABC):
    """A player. One object plays one seat of one episode."""

    @abstractmethod
    async def act(self, turn: Turn, before: Sequence[Attempt], ask: Ask) -> Attempt:
        """Answer a turn.

        before: the attempts at this same turn that were not OK, oldest first. ask: the
        way to a model, which keeps what it is asked. Raises what `ask` raises,
        and PlayerLeft.
        """
