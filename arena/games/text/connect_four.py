"""Connect four, on a board of any size."""

from __future__ import annotations

from typing import ClassVar

import pyspiel

from arena.games.state import State
from arena.games.text.base import GameText, Playout

_DISCS = "xo"


class ConnectFourText(GameText):
    games = ("connect_four",)
    forms = ("list",)
    bounds: ClassVar = {"rows": (1, 50), "columns": (1, 50), "x_in_row": (2, 50)}
    playouts: ClassVar = {"connect_four": Playout(2, 20.7, 361)}

    def __init__(self, game: pyspiel.Game) -> None:
        size = game.get_parameters()
        self._columns = [str(column) for column in range(size["columns"])]
        self._width = len(self._columns[-1])
        last = self._columns[-1]
        self.rules = f"""\
Game: connect four.
Rules: two players take turns. On each turn a player drops a disc into a column that is not full, \
on a board with {size["rows"]} rows and {size["columns"]} columns; the disc falls to the lowest \
free cell. Player 0 has the discs x and moves first; player 1 has the discs o. \
{size["x_in_row"]} discs of one player in an unbroken line (horizontal, vertical or diagonal) \
win. A full board without such a line is a draw.
Actions: the disc and its column. Columns are counted from 0, from the left. x0 drops x into the \
first column, o{last} drops o into the last column.
Returns: 1 for a win, 0 for a draw, -1 for a loss."""

    def aliases(self, text: str) -> tuple[str, ...]:
        return (text[1:], f"column {text[1:]}")

    def side(self, seat: int) -> str:
        return f"You are player {seat}. Your discs are {_DISCS[seat]}."

    def position(self, state: State, seat: int) -> str:
        return (
            "The board (. is a free cell), with the top row first and the columns' numbers "
            f"above it:\n{self.board(state)}"
        )

    def position_as(self, form: str, state: State, seat: int) -> str:
        columns = list(zip(*reversed(str(state).split()), strict=True))
        lines = (
            f"column {name}: {', '.join(cell for cell in cells if cell != '.') or 'empty'}"
            for name, cells in zip(self._columns, columns, strict=True)
        )
        return "The discs of each column, from the bottom to the top:\n" + "\n".join(lines)

    def board(self, state: State) -> str:
        rows = (self._columns, *str(state).split())
        return "\n".join(" ".join(cell.rjust(self._width) for cell in row) for row in rows)
