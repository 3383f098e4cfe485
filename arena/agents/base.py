"""The interface of every agent: the turn that it gets, and the answer that it returns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar

from arena.agents.calls import Ask, ModelReply
from arena.agents.settings import AgentSettings
from arena.games.game import Game, LegalAction, State


@dataclass(frozen=True, slots=True)
class Turn:
    """A player's turn.

    state: the whole state, for agents that search. A language model's prompt contains
    only what its own seat can see. ply: counts from 0; players who move simultaneously
    share a ply. seed: 63 bits, derived from experiment, game, episode, seat and ply. agents:
    the players' names, in seat order. number: of the episode, from 0.
    """

    game: Game
    state: State
    seat: int
    ply: int
    legal: tuple[LegalAction, ...]
    seed: int
    agents: tuple[str, ...] = ()
    number: int = 0


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of an episode for one seat.

    status: as in the results; empty if the episode was left and can be continued. reason: why
    it was not played to its end.
    """

    game: Game
    state: State
    seat: int
    agents: tuple[str, ...]
    status: str = ""
    reason: str = ""


class AnswerStatus(StrEnum):
    """Whether an answer is a move."""

    OK = "ok"
    ILLEGAL = "illegal"  # in the documented format, but not a legal action
    UNPARSEABLE = "unparseable"  # not in the documented format


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer to a turn: it becomes one row of moves.

    action: a legal action if the status is OK, else None. problem: why the status is not
    OK, in words that the player can read. reply: the text to show for the answer. call: the
    model's reply that the answer was read from; its tokens, cost and origin are stored. Agents
    without a model set only status and action. reading: how the reply was read (see
    reply.describe_reading).
    """

    status: AnswerStatus
    action: int | None
    problem: str = ""
    prompt: str = ""
    reply: str = ""
    reasoning: str = ""
    call: ModelReply | None = None
    reading: str = ""


class PlayerLeft(Exception):
    """A human player has left: no more turns can be answered in this run."""

    remedy = "the same command continues"


class Agent(ABC):
    """A player. One object plays one seat of one episode.

    Settings: the class of its settings. An experiment's file is checked against it.
    """

    Settings: ClassVar[type[AgentSettings]] = AgentSettings

    def __init__(self, settings: Any) -> None:
        """settings: an instance of the class's `Settings`."""
        self.settings = settings

    @classmethod
    def check_game(cls, settings: Any, game: Game) -> None:
        """Raise GameError if an agent with these settings cannot play the game."""
        return

    @classmethod
    def version(cls, settings: Any, game: Game) -> str:
        """Return a text that changes whenever the agent's code would play this game differently.

        It is part of an episode's key: after a change, episodes are played again. Settings and
        OpenSpiel's version have their own place in the key.
        """
        return ""

    @abstractmethod
    async def act(self, turn: Turn, before: Sequence[Answer], ask: Ask) -> Answer:
        """Answer a turn.

        before: the earlier answers at this turn, oldest first; none was OK. ask:
        calls a model; every call and reply is stored. Raises what `ask` raises, and
        PlayerLeft.
        """

    def finish(self, ending: Ending) -> None:
        """Called once, when the episode has ended or was left. Does nothing by default."""
        return
