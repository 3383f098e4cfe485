"""Checkers (American rules), on a board of any size."""

from __future__ import annotations

from typing import ClassVar

import pyspiel

from arena.games.state import State
from arena.games.text.base import GameText, Playout, draw_grid

#: OpenSpiel's game ends after this many moves of both players without a capture.
_WITHOUT_CAPTURE = 40


class CheckersText(GameText):
    games = ("checkers",)
    # OpenSpiel writes a column as one letter.
    bounds: ClassVar = {"rows": (7, 26), "columns": (4, 26)}
    playouts: ClassVar = {"checkers": Playout(2, 71.9, 506)}

    def __init__(self, game: pyspiel.Game) -> None:
        size = game.get_parameters()
        rows, self._columns = size["rows"], [chr(ord("a") + c) for c in range(size["columns"])]
        self._sides = (
            f"You are player 0. Your pieces are o, your kings are 8; o move up, to row {rows}.",
            "You are player 1. Your pieces are +, your kings are *; + move down, to row 1.",
        )
        self.rules = f"""\
Game: checkers on a board with {rows} rows (row 1 at the bottom) and {len(self._columns)} columns.
Rules: two players take turns to move one of their pieces. Player 0 has the pieces o, starts at \
the bottom, moves first and moves up. Player 1 has the pieces +, starts at the top and moves \
down. A piece moves one cell diagonally forward to a free cell. It captures a piece of the other \
player that is diagonally in front of it by jumping over it to the free cell behind it. If a \
player can capture, they must. A piece that has captured and can capture again moves again on \
the same turn. A piece that reaches the farthest row becomes a king (8 for player 0, * for player \
1), and its turn ends; kings move and capture in all four diagonal directions. A player who cannot \
move loses. After {_WITHOUT_CAPTURE} moves in a row without a capture, the game is a draw.
Actions: the cell that the piece leaves and the cell that it moves to, each written as the \
column's letter and the row's number: c3d4 moves from c3 to d4. Each jump is an action of its own.
Returns: 1 for a win, 0 for a draw, -1 for a loss."""

    def side(self, seat: int) -> str:
        return self._sides[seat]

    def position(self, state: State, seat: int) -> str:
        return f"The board (. is a free cell):\n{self.board(state)}"

    def board(self, state: State) -> str:
        lines = str(state).rstrip("\n").split("\n")[:-1]
        width = len(lines[0]) - len(self._columns)
        rows = [(line[:width].strip(), line[width:]) for line in lines]
        return draw_grid(rows, self._columns)
