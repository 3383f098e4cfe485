"""Breakthrough, on a board of any size."""

from __future__ import annotations

from typing import ClassVar

import pyspiel

from arena.games.families.family import Family, grid
from arena.games.state import State


class Breakthrough(Family):
    # OpenSpiel names rows by one digit and columns by one letter.
    bounds: ClassVar = {"rows": (2, 9), "columns": (2, 26)}

    def __init__(self, game: pyspiel.Game) -> None:
        size = game.get_parameters()
        rows, columns = size["rows"], size["columns"]
        self._columns = [chr(ord("a") + column) for column in range(columns)]
        self._sides = (
            f"You are player 0, have b and move down, from row {rows} to row 1.",
            f"You are player 1, have w and move up, from row 1 to row {rows}.",
        )
        self.rules = f"""\
Game: Breakthrough on a board of {rows} rows (1 at the bottom) and {columns} columns.
Rules: two players take turns to move one piece of their own by one cell. Player 0 has b, \
starts at the top, moves first and always down, to a lower row. Player 1 has w, starts at the \
bottom and always moves up, to a higher row. A piece moves straight or diagonally forward to \
a free cell; diagonally forward, never straight, it may also capture a piece of the other \
player by taking its cell. Capturing is never compulsory. The first piece to reach the \
farthest row (row 1 for b, row {rows} for w) wins, and so does capturing all of the other \
player's pieces. There are no draws.
Actions: the cell a piece leaves and the cell it goes to, each as the column's letter and the \
row's number, with * after a capture: a{rows}a{rows - 1} moves from a{rows} to a{rows - 1}, \
a{rows}b{rows - 1}* captures on b{rows - 1}.
Returns: 1 for a win, -1 for a loss."""

    def side(self, seat: int) -> str:
        return self._sides[seat]

    def position(self, state: State, seat: int) -> str:
        return f"The board, with . for a free cell:\n{self.board(state)}"

    def board(self, state: State) -> str:
        lines = str(state).rstrip("\n").split("\n")[:-1]
        return grid([(line[0], line[1:]) for line in lines], self._columns)
