"""Games that a row of stones wins: Gomoku and the m,n,k-game."""

from __future__ import annotations

from typing import ClassVar

import pyspiel

from arena.games.state import State
from arena.games.text.base import GameText, Playout, draw_grid, find_parameters


class RowOfStonesText(GameText):
    games = ("gomoku", "mnk")
    playouts: ClassVar = {"gomoku": Playout(2, 110.8, 1836), "mnk": Playout(2, 109.4, 2237)}

    def __init__(self, game: pyspiel.Game) -> None:
        parameters = find_parameters(game)
        result, extra = "wins", ""
        if game.get_type().short_name == "mnk":
            # OpenSpiel's m is the number of columns, n the number of rows.
            self._rows, self._columns = parameters["n"], parameters["m"]
            length: int = parameters["k"]
            title = f"the m,n,k-game with m={self._columns}, n={self._rows}, k={length}"
            action = "x(0,2) places x"
        else:
            if parameters["dims"] != 2:
                raise ValueError("parameter 'dims' must be 2: the arena draws the board")
            self._rows = self._columns = parameters["size"]
            length = parameters["connect"]
            title = "Gomoku"
            if parameters["anti"]:
                title, result = "Anti-Gomoku", "loses"
            if parameters["wrap"]:
                extra = " Lines continue at the opposite edge of the board."
            action = "0,2 places a stone"
        self.rules = f"""\
Game: {title}, on a board with {self._rows} rows and {self._columns} columns.
Rules: two players take turns to place a stone on a free cell. Player 0 has the stones x and moves \
first; player 1 has the stones o. A player who has {length} or more stones in an unbroken line \
(horizontal, vertical or diagonal) {result}.{extra} A full board without such a line is a draw.
Actions: the row and the column of the cell, counted from 0, from the top left. {action} in the \
top row, third column.
Returns: 1 for a win, 0 for a draw, -1 for a loss."""

    def aliases(self, text: str) -> tuple[str, ...]:
        inner = text.strip("xo()")
        return (inner, f"({inner})")

    def side(self, seat: int) -> str:
        return f"You are player {seat}. Your stones are {'xo'[seat]}."

    def position(self, state: State, seat: int) -> str:
        return f"The board (. is a free cell):\n{self.board(state)}"

    def board(self, state: State) -> str:
        stones = {played.text.strip("xo()"): "xo"[played.seat] for played in state.history}
        rows = [
            (str(row), [stones.get(f"{row},{column}", ".") for column in range(self._columns)])
            for row in range(self._rows)
        ]
        return draw_grid(rows, [str(column) for column in range(self._columns)])
