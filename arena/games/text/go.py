"""Go, on a board of any size."""

from __future__ import annotations

from typing import ClassVar

import pyspiel

from arena.games.state import State
from arena.games.text.base import GameText, Playout, draw_grid, list_moves

_COLUMNS = "abcdefghjklmnopqrst"
_STONES = {"X": "B", "O": "W", "+": "."}
_SIDES = (
    "You are player 0. You are Black; your stones are B.",
    "You are player 1. You are White; your stones are W.",
)


class GoText(GameText):
    games = ("go",)
    # The board's points have names up to t19.
    bounds: ClassVar = {"board_size": (2, 19), "handicap": (0, 9)}
    playouts: ClassVar = {"go": Playout(2, 570.2, 1792)}

    def __init__(self, game: pyspiel.Game) -> None:
        parameters = game.get_parameters()
        size, handicap = parameters["board_size"], parameters["handicap"]
        first, start = "Black", ""
        if handicap >= 2:
            first = "White"
            start = f" Black starts with {handicap} stones on the board."
        self.rules = f"""\
Game: Go on a board with {size} rows and {size} columns of points.
Rules: player 0 is Black, player 1 is White. They take turns, and {first} moves first.{start} On \
each turn a player places a stone on a free point, or passes. Points that are next to each other \
horizontally or vertically are neighbours, and neighbouring stones of one color form a group. A \
move captures all groups of the other player that have no free neighbouring point left; captured \
stones are removed. A player may not place a stone that leaves their own group without a free \
neighbouring point, unless it captures stones, and may not take back a single stone that has just \
captured a single stone (ko). The game ends when both players pass one after the other, or after \
{parameters["max_game_length"]} moves. If a move repeats an earlier position of the whole board, \
the game ends in a draw.
Scoring: a player has one point for each stone on the board and for each free point that only \
reaches stones of that player. All stones on the board count as alive. White gets \
{parameters["komi"]:g} points more (komi){_handicap(handicap)}. The player with more points wins; \
equal points are a draw.
Actions: the letter of the color and the point, as the column's letter and the row's number, or \
PASS. The letter i is not used. a1 is the bottom left point. "B c3" places a black stone on c3; \
"B PASS" passes.
Returns: 1 for a win, 0 for a draw, -1 for a loss."""

    def aliases(self, text: str) -> tuple[str, ...]:
        return (text.partition(" ")[2],)

    def side(self, seat: int) -> str:
        return _SIDES[seat]

    def position(self, state: State, seat: int) -> str:
        return (
            f"Latest moves: {list_moves(state.history, 10)}\n"
            f"The board (. is a free point):\n{self.board(state)}"
        )

    def board(self, state: State) -> str:
        lines = (line.split() for line in str(state).split("\n"))
        rows = [
            (row[0], [_STONES[sign] for sign in row[1]])
            for row in lines
            if len(row) == 2 and row[0].isdigit()
        ]
        return draw_grid(rows, _COLUMNS[: len(rows)])


def _handicap(stones: int) -> str:
    return f", and {stones} points for Black's handicap" if stones >= 2 else ""
