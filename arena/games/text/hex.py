"""Hex, on a board of any size."""

from __future__ import annotations

from typing import ClassVar

import pyspiel

from arena.games.state import State
from arena.games.text.base import GameText, Playout, list_cells

_SIDES = (
    "You are player 0. Your stones are x; they must connect the top row and the bottom row.",
    "You are player 1. Your stones are o; they must connect the leftmost column and the "
    "rightmost column.",
)

_SWAP = """
Instead of placing the first stone, player 1 may play swap: player 0's stone is removed, and an \
o is placed on the cell with row and column exchanged."""


class HexText(GameText):
    games = ("hex",)
    forms = ("list",)
    # OpenSpiel writes a column as one letter; nobody can win on a single row or column.
    bounds: ClassVar = {"board_size": (2, 26), "num_rows": (2, 26), "num_cols": (2, 26)}
    playouts: ClassVar = {"hex": Playout(2, 106.9, 859)}

    def __init__(self, game: pyspiel.Game) -> None:
        size = game.get_parameters()
        rows, columns = size["num_rows"], size["num_cols"]
        if size["string_rep"] != "standard":
            raise ValueError("parameter 'string_rep' must be standard: the arena draws the board")
        if size["swap"] and rows != columns:
            raise ValueError("parameter 'swap' needs a square board: OpenSpiel mirrors the stone")
        self._columns = [chr(ord("a") + column) for column in range(columns)]
        self._width = len(str(rows))
        last = self._columns[-1]
        self.rules = f"""\
Game: Hex on a board with {rows} rows and {columns} columns.
Rules: two players take turns to place a stone on a free cell. Player 0 has the stones x and \
moves first; x wins with an unbroken chain of x from the top row (1) to the bottom row ({rows}). \
Player 1 has the stones o; o wins with an unbroken chain of o from the leftmost column (a) to \
the rightmost column ({last}). There are no draws.
Each row is drawn half a cell further to the right than the row above it. A cell has up to six \
neighbours: the cells to its left and right; above it, the cells in the same column and in the \
next column to the right; below it, the cells in the same column and in the next column to the \
left. For example, b2 touches a2, c2, b1, c1, b3 and a3, as far as these cells are on the \
board.{_SWAP if size["swap"] else ""}
Actions: the column's letter and the row's number. a1 is the top left cell, {last}{rows} the \
bottom right cell.
Returns: 1 for a win, -1 for a loss."""

    def side(self, seat: int) -> str:
        return _SIDES[seat]

    def position(self, state: State, seat: int) -> str:
        return f"The board (. is a free cell):\n{self.board(state)}"

    def position_as(self, form: str, state: State, seat: int) -> str:
        rows = [(str(n), line.split()) for n, line in enumerate(str(state).split("\n"), 1)]
        cells = list_cells(rows, lambda row, column: f"{self._columns[column]}{row}")
        return f"The stones; all other cells are free:\n{cells}"

    def board(self, state: State) -> str:
        head = " " * (self._width + 1) + " ".join(self._columns)
        lines = (
            f"{' ' * index}{str(index + 1).rjust(self._width)} {line.strip()}"
            for index, line in enumerate(str(state).split("\n"))
        )
        return "\n".join((head, *lines))
