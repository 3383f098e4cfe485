"""Games in which the other player's stones are invisible: phantom tic-tac-toe and dark hex."""

from __future__ import annotations

from typing import ClassVar

import pyspiel

from arena.games.state import State
from arena.games.text.base import GameText, Playout, draw_grid

_TIC_TAC_TOE = """\
Rules: two players mark cells of a board with 3 rows and 3 columns. Player 0 marks x and moves \
first; player 1 marks o. Three marks of one player in a line (a row, a column or a diagonal) win. \
A full board without such a line is a draw."""
_TIC_TAC_TOE_ACTIONS = """\
Actions: the mark and its cell as (row,column). Rows and columns are counted from 0, from the top \
left.
Returns: 1 for a win, 0 for a draw, -1 for a loss."""


class PhantomText(GameText):
    """A seat sees its own stones, those that it has found, and its own earlier attempts."""

    games = ("phantom_ttt", "dark_hex")
    bounds: ClassVar = {"board_size": (2, 26), "num_rows": (2, 26), "num_cols": (2, 26)}
    playouts: ClassVar = {"dark_hex": Playout(2, 10.8, 440), "phantom_ttt": Playout(2, 10.8, 376)}

    def __init__(self, game: pyspiel.Game) -> None:
        parameters = game.get_parameters()
        self._counts: bool = parameters["obstype"] == "reveal-numturns"
        again = (
            "the turn ends"
            if parameters["gameversion"] in ("abrupt", "adh")
            else "must try another cell on the same turn"
        )
        hidden = f"""\
Players do not see the other player's cells. If a player tries a cell that the other player has \
taken, the player learns this, and {again}. The other player does not learn of the attempt."""
        self._rows = self._columns = 3
        if game.get_type().short_name == "phantom_ttt":
            title, rules, actions = "phantom tic-tac-toe", _TIC_TAC_TOE, _TIC_TAC_TOE_ACTIONS
            self._names = [str(column) for column in range(3)]
            self._first = 0
        else:
            self._rows, self._columns = parameters["num_rows"], parameters["num_cols"]
            self._names = [chr(ord("a") + column) for column in range(self._columns)]
            self._first = 1
            last = self._names[-1]
            title = f"dark Hex on a board with {self._rows} rows and {self._columns} columns"
            rules = f"""\
Rules: two players place stones on free cells. Player 0 has the stones x and moves first; x wins \
with an unbroken chain of x from the top row (1) to the bottom row ({self._rows}). Player 1 has \
the stones o; o wins with an unbroken chain of o from the leftmost column (a) to the rightmost \
column ({last}). There are no draws. Each row is drawn half a cell further to the right than the \
row above it. A cell has up to six neighbours: b2 touches a2, c2, b1, c1, b3 and a3, as far as \
these cells are on the board."""
            actions = f"""\
Actions: the column's letter and the row's number. a1 is the top left cell, {last}{self._rows} the \
bottom right cell.
Returns: 1 for a win, -1 for a loss."""
        self.rules = f"Game: {title}.\n{rules} {hidden}\n{actions}"

    def aliases(self, text: str) -> tuple[str, ...]:
        return (text[1:],) if "(" in text else ()

    def side(self, seat: int) -> str:
        goal = ""
        if self._first:
            goal = (
                "; they must connect the leftmost column and the rightmost column"
                if seat
                else "; they must connect the top row and the bottom row"
            )
        return f"You are player {seat}. Your cells are {'xo'[seat]}{goal}."

    def position(self, state: State, seat: int) -> str:
        own = [played.text for played in state.history if played.seat == seat]
        lines = [f"The cells that you have tried so far, oldest first: {', '.join(own) or 'none'}"]
        if self._counts:
            order = (
                f"player {played.seat}: {played.text if played.seat == seat else '?'}"
                for played in state.history
            )
            lines = [f"All attempts so far, oldest first: {', '.join(order) or 'none'}"]
        elif self._first:  # OpenSpiel's dark hex always counts them
            lines.append(f"Attempts of both players so far: {len(state.history)}")
        return "\n".join(lines) + (
            f"\nThe board as far as you know it (. may be free or taken):\n"
            f"{self._draw(state.raw.observation_string(seat))}"
        )

    def board(self, state: State) -> str:
        return self._draw(str(state))

    def _draw(self, text: str) -> str:
        lines = ["".join(line.split()) for line in text.split("\n")[: self._rows]]
        rows = []
        for index, line in enumerate(lines):
            # OpenSpiel marks stones that touch an edge with other letters.
            cells = [_simplify(cell) for cell in line]
            name = str(index + self._first)
            rows.append((f"{' ' * index}{name}" if self._first else name, cells))
        if not self._first:
            return draw_grid(rows, self._names)
        head = f"  {' '.join(self._names)}"
        return "\n".join((head, *(f"{name} {' '.join(cells)}" for name, cells in rows)))


def _simplify(cell: str) -> str:
    if cell in "xyzX":
        return "x"
    return "o" if cell in "opqO" else cell
