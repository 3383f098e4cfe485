"""Tic-tac-toe."""

from __future__ import annotations

import pyspiel

from arena.games.families.family import Family, grid
from arena.games.state import State

_MARKS = "xo"


class TicTacToe(Family):
    def __init__(self, game: pyspiel.Game) -> None:
        self.rules = """\
Game: tic-tac-toe.
Rules: two players take turns to mark one free cell of a board of 3 rows and 3 columns. \
Player 0 marks x and moves first, player 1 marks o. Three marks of one player in a line \
(a row, a column or a diagonal) win. A full board without such a line is a draw.
Actions: the mark and its cell as (row,column), both counted from 0, from the top left. \
x(0,2) marks the top right cell, o(2,0) the bottom left one.
Returns: 1 for a win, 0 for a draw, -1 for a loss."""

    def side(self, seat: int) -> str:
        return f"You are player {seat} and mark {_MARKS[seat]}."

    def position(self, state: State, seat: int) -> str:
        return f"The board, with . for a free cell:\n{self.board(state)}"

    def board(self, state: State) -> str:
        rows = [(str(index), line) for index, line in enumerate(str(state).split("\n"))]
        return grid(rows, "012")
