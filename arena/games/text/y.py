"""The connection game Y, on a board of any size."""

from __future__ import annotations

from typing import ClassVar

import pyspiel

from arena.games.state import State
from arena.games.text.base import GameText, Playout


class YText(GameText):
    games = ("y",)
    # OpenSpiel writes a column as one letter.
    bounds: ClassVar = {"board_size": (1, 26)}
    playouts: ClassVar = {"y": Playout(2, 174.6, 1173)}

    def __init__(self, game: pyspiel.Game) -> None:
        self._size: int = game.get_parameters()["board_size"]
        last = chr(ord("a") + self._size - 1)
        self.rules = f"""\
Game: Y on a triangular board with {self._size} cells on each side.
Rules: two players take turns to place a stone on a free cell. Player 0 has the stones x and \
moves first; player 1 has the stones o. The board is a triangle that stands on its tip: row 1 \
at the top has {self._size} cells, and each further row has one cell less. The three sides are row \
1, column a, and the last cells of all rows; a corner belongs to two sides. A player whose stones \
connect all three sides with one unbroken chain wins. There are no draws.
Each row is drawn half a cell further to the right than the row above it. A cell has up to six \
neighbours: the cells to its left and right; above it, the cells in the same column and in the \
next column to the right; below it, the cells in the same column and in the next column to the \
left. For example, b2 touches a2, c2, b1, c1, b3 and a3, as far as these cells are on the board.
Actions: the column's letter and the row's number. a1 is the top left cell, {last}1 the top right \
cell, a{self._size} the cell at the bottom.
Returns: 1 for a win, -1 for a loss."""

    def side(self, seat: int) -> str:
        return f"You are player {seat}. Your stones are {'xo'[seat]}."

    def position(self, state: State, seat: int) -> str:
        return f"The board (. is a free cell):\n{self.board(state)}"

    def board(self, state: State) -> str:
        stones = {played.text: "xo"[played.seat] for played in state.history}
        columns = [chr(ord("a") + column) for column in range(self._size)]
        width = len(str(self._size))
        lines = [" " * (width + 1) + " ".join(columns)]
        for row in range(1, self._size + 1):
            cells = (
                stones.get(f"{column}{row}", ".") for column in columns[: self._size + 1 - row]
            )
            lines.append(f"{' ' * (row - 1)}{row:{width}} {' '.join(cells)}")
        return "\n".join(lines)
