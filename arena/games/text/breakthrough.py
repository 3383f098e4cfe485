"""Breakthrough, on a board of any size."""

from __future__ import annotations

from typing import ClassVar

import pyspiel

from arena.games.state import State
from arena.games.text.base import GameText, Playout, draw_grid, list_cells


class BreakthroughText(GameText):
    games = ("breakthrough",)
    ornaments = "*"
    forms = ("list",)
    # OpenSpiel writes a row as one digit and a column as one letter.
    bounds: ClassVar = {"rows": (2, 9), "columns": (2, 26)}
    playouts: ClassVar = {"breakthrough": Playout(2, 64.2, 630)}

    def __init__(self, game: pyspiel.Game) -> None:
        size = game.get_parameters()
        rows, columns = size["rows"], size["columns"]
        self._columns = [chr(ord("a") + column) for column in range(columns)]
        self._sides = (
            f"You are player 0. Your pieces are b; they move down, from row {rows} to row 1.",
            f"You are player 1. Your pieces are w; they move up, from row 1 to row {rows}.",
        )
        self.rules = f"""\
Game: Breakthrough on a board with {rows} rows (row 1 at the bottom) and {columns} columns.
Rules: two players take turns. On each turn a player moves one of their own pieces by one cell. \
Player 0 has the pieces b, starts at the top, moves first and always moves down, to a lower row. \
Player 1 has the pieces w, starts at the bottom and always moves up, to a higher row. A piece \
moves straight or diagonally forward to a free cell. It can capture a piece of the other player \
by moving diagonally forward to its cell, but not by moving straight. Captures are optional. The \
first player to move a piece to the farthest row (row 1 for b, row {rows} for w) wins. Capturing \
all pieces of the other player also wins. There are no draws.
Actions: the cell that the piece leaves and the cell that it moves to, each written as the \
column's letter and the row's number, with * at the end for a capture: a{rows}a{rows - 1} moves \
from a{rows} to a{rows - 1}, a{rows}b{rows - 1}* captures on b{rows - 1}.
Returns: 1 for a win, -1 for a loss."""

    def aliases(self, text: str) -> tuple[str, ...]:
        start, end = text[:2], text[2:]
        return tuple(f"{start}{sign}{end}" for sign in ("-", "->", "\u2192", "to"))

    def side(self, seat: int) -> str:
        return self._sides[seat]

    def position(self, state: State, seat: int) -> str:
        return f"The board (. is a free cell):\n{self.board(state)}"

    def position_as(self, form: str, state: State, seat: int) -> str:
        cells = list_cells(_rows(state), lambda row, column: f"{self._columns[column]}{row}")
        return f"The pieces; all other cells are free:\n{cells}"

    def board(self, state: State) -> str:
        return draw_grid(_rows(state), self._columns)


def _rows(state: State) -> list[tuple[str, str]]:
    lines = str(state).rstrip("\n").split("\n")[:-1]
    return [(line[0], line[1:]) for line in lines]
