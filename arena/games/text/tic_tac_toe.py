"""Tic-tac-toe."""

from __future__ import annotations

from typing import ClassVar

import pyspiel

from arena.games.state import State
from arena.games.text.base import GameText, Playout, draw_grid, list_cells

_MARKS = "xo"


class TicTacToeText(GameText):
    games = ("tic_tac_toe",)
    forms = ("list",)
    playouts: ClassVar = {"tic_tac_toe": Playout(2, 7.6, 312)}

    def __init__(self, game: pyspiel.Game) -> None:
        self.rules = """\
Game: tic-tac-toe.
Rules: two players take turns to mark one free cell on a board with 3 rows and 3 columns. \
Player 0 marks x and moves first; player 1 marks o. Three marks of one player in a line \
(a row, a column or a diagonal) win. A full board without such a line is a draw.
Actions: the mark and its cell as (row,column). Rows and columns are counted from 0, from the \
top left. x(0,2) marks the top right cell, o(2,0) the bottom left cell.
Returns: 1 for a win, 0 for a draw, -1 for a loss."""

    def aliases(self, text: str) -> tuple[str, ...]:
        return (text[1:], text[2:-1])

    def side(self, seat: int) -> str:
        return f"You are player {seat}. Your marks are {_MARKS[seat]}."

    def position(self, state: State, seat: int) -> str:
        return f"The board (. is a free cell):\n{self.board(state)}"

    def position_as(self, form: str, state: State, seat: int) -> str:
        cells = list_cells(_rows(state), lambda row, column: f"({row},{column})")
        return f"The marked cells; all others are free:\n{cells}"

    def board(self, state: State) -> str:
        return draw_grid(_rows(state), "012")


def _rows(state: State) -> list[tuple[str, str]]:
    return [(str(index), line) for index, line in enumerate(str(state).split("\n"))]
