"""Connect four, on a board of any size."""

from __future__ import annotations

from typing import ClassVar

import pyspiel

from arena.games.families.family import Family
from arena.games.state import State

_DISCS = "xo"


class ConnectFour(Family):
    bounds: ClassVar = {"rows": (1, 50), "columns": (1, 50), "x_in_row": (2, 50)}

    def __init__(self, game: pyspiel.Game) -> None:
        size = game.get_parameters()
        self._columns = [str(column) for column in range(size["columns"])]
        self._width = len(self._columns[-1])
        last = self._columns[-1]
        self.rules = f"""\
Game: connect four.
Rules: two players take turns to drop a disc into a column that is not full, of a board of \
{size["rows"]} rows and {size["columns"]} columns; it falls to the lowest free cell. Player 0 \
has x and moves first, player 1 has o. {size["x_in_row"]} discs of one player in an unbroken \
line (across, upright or diagonal) win. A full board without such a line is a draw.
Actions: the disc and its column, columns counted from 0 on the left. x0 drops x into the \
first column, o{last} drops o into the last one.
Returns: 1 for a win, 0 for a draw, -1 for a loss."""

    def side(self, seat: int) -> str:
        return f"You are player {seat} and have {_DISCS[seat]}."

    def position(self, state: State, seat: int) -> str:
        return (
            "The board, with . for a free cell, the top row first, the columns' numbers "
            f"above:\n{self.board(state)}"
        )

    def board(self, state: State) -> str:
        rows = (self._columns, *str(state).split())
        return "\n".join(" ".join(cell.rjust(self._width) for cell in row) for row in rows)
