"""Dots and boxes, on a board of any size."""

from __future__ import annotations

import re
from typing import ClassVar

import pyspiel

from arena.games.state import State
from arena.games.text.base import GameText, Playout

_ACTION = re.compile(r"P\d\((.),(\d+),(\d+)\)")


class DotsAndBoxesText(GameText):
    games = ("dots_and_boxes",)
    bounds: ClassVar = {"num_rows": (1, 20), "num_cols": (1, 20)}
    playouts: ClassVar = {"dots_and_boxes": Playout(2, 12.0, 442)}

    def __init__(self, game: pyspiel.Game) -> None:
        parameters = game.get_parameters()
        rows, columns = parameters["num_rows"], parameters["num_cols"]
        self._rows, self._columns = rows, columns
        returns = "1 for a win, 0 for a draw, -1 for a loss"
        if parameters["utility_margin"]:
            returns = "the number of your boxes minus the number of the other player's boxes"
        self.rules = f"""\
Game: dots and boxes, with {rows} rows and {columns} columns of boxes.
Rules: the corners of the boxes are dots. Two players take turns, starting with player 0. On each \
turn a player draws one line between two neighbouring dots. A player who draws the fourth side of \
a box owns the box and must draw another line. The game ends when all lines are drawn. The player \
with more boxes wins.
Actions: P1(...) is a line that player 0 draws, P2(...) a line that player 1 draws. Inside the \
brackets are the direction, the row and the column of the line. Rows and columns of dots are \
counted from 0, from the top left. (h,0,1) is the horizontal line from the dot in row 0, column 1 \
to the dot on its right. (v,0,1) is the vertical line from the dot in row 0, column 1 to the dot \
below it.
Returns: {returns}."""

    def aliases(self, text: str) -> tuple[str, ...]:
        return (text[2:], text[3:-1])

    def side(self, seat: int) -> str:
        return (
            f"You are player {seat}. Your lines are called P{seat + 1}, and your boxes are marked "
            f"{seat}."
        )

    def position(self, state: State, seat: int) -> str:
        return f"The board (+ is a dot; a box is marked with its owner):\n{self.board(state)}"

    def board(self, state: State) -> str:
        drawn = {
            (match[1], int(match[2]), int(match[3]))
            for played in state.history
            if (match := _ACTION.fullmatch(played.text))
        }
        owners = self._find_owners(state)
        width = len(str(self._rows))
        columns = range(self._columns + 1)
        lines = [f"{'':{width}} {''.join(f'{column:<4}' for column in columns)}"]
        for row in range(self._rows + 1):
            dots = (f"+{'---' if ('h', row, column) in drawn else '   '}" for column in columns)
            lines.append(f"{row:{width}} {''.join(dots)}")
            if row < self._rows:
                sides = (
                    f"{'|' if ('v', row, column) in drawn else ' '}"
                    f" {owners.get((row, column), ' ')} "
                    for column in columns
                )
                lines.append(f"{'':{width}} {''.join(sides)}")
        return "\n".join(line.rstrip() for line in lines)

    def _find_owners(self, state: State) -> dict[tuple[int, int], int]:
        """The owner of each box: the player who drew the last of its sides."""
        owners = {}
        drawn = set()
        for played in state.history:
            if match := _ACTION.fullmatch(played.text):
                drawn.add((match[1], int(match[2]), int(match[3])))
                for row in range(self._rows):
                    for column in range(self._columns):
                        if (row, column) not in owners and _sides(row, column) <= drawn:
                            owners[row, column] = played.seat
        return owners


def _sides(row: int, column: int) -> set[tuple[str, int, int]]:
    return {
        ("h", row, column),
        ("h", row + 1, column),
        ("v", row, column),
        ("v", row, column + 1),
    }
