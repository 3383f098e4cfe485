"""Backgammon, without the doubling cube."""

from __future__ import annotations

import re
from typing import Any, ClassVar

import pyspiel

from arena.games.state import State
from arena.games.text.base import GameText, Playout, list_moves, player

_BAR = 100  # OpenSpiel's number of the bar
_POINTS = 24
_SCORES = re.compile(r"Scores, X: (\d+), O: (\d+)")
_DICE = re.compile(r"Dice: (\d*)")
_LOSSES = {
    "winloss_scoring": "1 for a win, -1 for a loss",
    "enable_gammons": (
        "1 for a win, -1 for a loss, and twice as much if the loser has borne off no checker"
    ),
    "full_scoring": (
        "1 for a win, -1 for a loss; twice as much if the loser has borne off no checker, and "
        "three times as much if the loser then has a checker on the bar or in the winner's home"
    ),
}


class BackgammonText(GameText):
    """Shows each seat all points in the numbering of that seat's actions."""

    games = ("backgammon",)
    ornaments = "*"
    playouts: ClassVar = {"backgammon": Playout(2, 117.1, 1089)}

    def __init__(self, game: pyspiel.Game) -> None:
        parameters = game.get_parameters()
        if parameters["scoring_type"] not in _LOSSES:
            raise ValueError(f"parameter 'scoring_type' must be one of {', '.join(_LOSSES)}")
        small: bool = parameters["hyper_backgammon"]
        self.rules = f"""\
Game: {"Hyper-backgammon" if small else "backgammon"}, without the doubling cube.
Rules: the standard rules of backgammon. Player 0 has the checkers x, player 1 has the checkers o; \
each has {3 if small else 15}. Each player counts the 24 points from their own side: checkers move \
from high to low numbers, points 6 to 1 are the player's home, and a player's point n is the other \
player's point 25 - n. A point with two or more checkers of the other player is closed. A single \
checker that is hit goes to the bar, and must enter on the points 24 to 19 before other checkers \
move. When all of a player's checkers are at home, they may be borne off. The first player who has \
borne off all checkers wins. A double is played as two actions, each with both dice. After \
{parameters["max_player_turns"]} turns of both players nobody wins.
Actions: a number, " - ", and the two moves of a roll in your own numbering. "434 - 8/7 6/4" moves \
a checker from point 8 to 7 and one from 6 to 4; 13/11/10 moves one checker twice; Bar/24 enters \
from the bar, 3/Off bears off, and * means that a checker is hit. Pass: no checker can move.
Returns: {_LOSSES[parameters["scoring_type"]]}."""

    def aliases(self, text: str) -> tuple[str, ...]:
        _, dash, moves = text.partition(" - ")
        return (moves,) if dash else ()

    def side(self, seat: int) -> str:
        return f"You are player {seat}. Your checkers are {'xo'[seat]}."

    def position(self, state: State, seat: int) -> str:
        text = str(state)
        scores = _SCORES.search(text)
        dice = _DICE.search(text)
        if scores is None or dice is None:
            raise ValueError("OpenSpiel's state of backgammon has another form")
        lines = [f"Latest moves: {list_moves(state.history, 8)}"]
        for owner in (seat, 1 - seat):
            name = "Your" if owner == seat else f"{player(owner).capitalize()}'s"
            numbering = "" if owner == seat else ", in your numbering"
            counts = (
                (point, state.raw.board(owner, _index(point, seat)))
                for point in range(_POINTS, 0, -1)
            )
            points = ", ".join(f"point {point}: {number}" for point, number in counts if number)
            lines.append(
                f"{name} checkers ({'xo'[owner]}){numbering}: {points or 'none on the board'}; on "
                f"the bar: {state.raw.board(owner, _BAR)}; borne off: {scores[owner + 1]}"
            )
        if "Extra turn: 1" in text:
            lines.append("This is the second action of a double.")
        return "\n".join((*lines, f"Your roll: {' and '.join(dice[1])}"))


def _index(point: int, seat: int) -> Any:
    """OpenSpiel's number of a seat's point."""
    return _POINTS - point if seat == 0 else point - 1
