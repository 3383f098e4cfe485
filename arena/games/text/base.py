"""The base class for the text that describes a game to players and spectators."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple

import pyspiel

from arena.games.state import LegalAction, State


class Playout(NamedTuple):
    """The mean size of an episode between random players, from 200 episodes.

    players: number of seats. moves: all players' moves in an episode; simultaneous moves count
    one for each player. prompt_tokens: the length of one prompt with reply format json, counted
    by the embedded model's tokenizer. Better players may end a game sooner.
    """

    players: int
    moves: float
    prompt_tokens: float


class GameText(ABC):
    """The text for one game with its parameters.

    `rules` stays the same during a game and for all seats, so that prompts can start with it
    and inference servers can cache this prefix. `position` and `note` contain only what the
    seat may see.

    games: OpenSpiel's names of the games that the class describes. bounds: lowest and highest
    allowed value of integer parameters that OpenSpiel does not check itself: other values may
    crash it. playouts: by OpenSpiel's name, measured with the game's default parameters
    by scripts/utils/measure_games.py.
    """

    games: ClassVar[tuple[str, ...]] = ()
    bounds: ClassVar[Mapping[str, tuple[int, int]]] = {}
    playouts: ClassVar[Mapping[str, Playout]] = {}
    rules: str

    @abstractmethod
    def __init__(self, game: pyspiel.Game) -> None:
        """Raises ValueError if the text does not fit these parameters of the game."""

    @classmethod
    def describes(cls, game: pyspiel.Game) -> bool:
        """Whether this class has the text for the game."""
        return game.get_type().short_name in cls.games

    def side(self, seat: int) -> str:
        """Return a line that says which player the seat is, and which pieces are its own."""
        return f"You are player {seat}."

    @abstractmethod
    def position(self, state: State, seat: int) -> str:
        """Return the position as the seat sees it."""

    def note(self, state: State, seat: int, action: LegalAction) -> str:
        """Return what a legal action means in this position; "" if its name is enough."""
        return ""

    def board(self, state: State) -> str:
        """Return the position as a spectator sees it, with all hidden information."""
        return str(state)


def player(seat: int) -> str:
    """Return the name of a seat in prompts."""
    return f"player {seat}"


def draw_grid(rows: Sequence[tuple[str, Sequence[str]]], columns: Sequence[str]) -> str:
    """Draw cells as a text table, with the columns' names above and the rows' names on the left."""
    left = max(len(name) for name, _ in rows)
    width = max(len(name) for name in columns)
    head = " " * (left + 1) + " ".join(name.rjust(width) for name in columns)
    lines = (
        f"{name.rjust(left)} {' '.join(cell.rjust(width) for cell in cells)}"
        for name, cells in rows
    )
    return "\n".join((head, *lines))
