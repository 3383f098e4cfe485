"""Othello."""

from __future__ import annotations

from typing import ClassVar

import pyspiel

from arena.games.state import State
from arena.games.text.base import GameText, Playout, draw_grid


class OthelloText(GameText):
    games = ("othello",)
    playouts: ClassVar = {"othello": Playout(2, 60.4, 407)}

    def __init__(self, game: pyspiel.Game) -> None:
        self.rules = """\
Game: Othello.
Rules: two players take turns to place a disc on a board with 8 rows and 8 columns. Player 0 has \
the black discs x and moves first; player 1 has the white discs o. A disc must be placed so that \
it encloses at least one straight line (horizontal, vertical or diagonal) of discs of the other \
player between the new disc and another disc of the player's own. All discs that are enclosed in \
this way change their color. A player who cannot place a disc must pass. The game ends when \
neither player can place a disc. The player with more discs wins.
Actions: the column's letter and the row's number, or pass. a1 is the top left cell, h8 the bottom \
right cell.
Returns: 1 for a win, 0 for a draw, -1 for a loss."""

    def side(self, seat: int) -> str:
        return f"You are player {seat}. Your discs are {'xo'[seat]}."

    def position(self, state: State, seat: int) -> str:
        return f"The board (. is a free cell):\n{self.board(state)}"

    def board(self, state: State) -> str:
        lines = (line.split() for line in str(state).split("\n"))
        rows = [
            (line[0], [cell.replace("-", ".") for cell in line[1:9]])
            for line in lines
            if len(line) == 10 and line[0].isdigit()
        ]
        return draw_grid(rows, "abcdefgh")
