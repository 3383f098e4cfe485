"""How a game is told to a player."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import pyspiel

from arena.games.state import LegalAction, State


class Family(ABC):
    """The words for one game with its parameters.

    `rules` never change during a game and are the same for all seats, so that they can
    open a prompt and its prefix stays cached. `position` and `note` hold only what the
    seat can see. bounds: least and greatest value of parameters for which OpenSpiel
    checks nothing and may crash.
    """

    bounds: ClassVar[Mapping[str, tuple[int, int]]] = {}
    rules: str

    @abstractmethod
    def __init__(self, game: pyspiel.Game) -> None:
        """Raises ValueError where a variant of the game cannot be told."""

    @abstractmethod
    def side(self, seat: int) -> str:
        """Who the player is, in one line."""

    @abstractmethod
    def position(self, state: State, seat: int) -> str:
        """The position as the seat sees it."""

    def note(self, state: State, seat: int, action: LegalAction) -> str:
        """What a legal action means now, where its string does not tell."""
        return ""

    def board(self, state: State) -> str:
        """The position as a spectator sees it."""
        return str(state)


def player(seat: int) -> str:
    return f"player {seat}"


def grid(rows: Sequence[tuple[str, Sequence[str]]], columns: Sequence[str]) -> str:
    """Cells in a table: the columns' names on top, each row's name on its left."""
    left = max(len(name) for name, _ in rows)
    width = max(len(name) for name in columns)
    head = " " * (left + 1) + " ".join(name.rjust(width) for name in columns)
    lines = (
        f"{name.rjust(left)} {' '.join(cell.rjust(width) for cell in cells)}"
        for name, cells in rows
    )
    return "\n".join((head, *lines))
