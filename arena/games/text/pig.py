"""Pig, a game of dice for two or more players."""

from __future__ import annotations

import re
from typing import ClassVar

import pyspiel

from arena.games.state import State
from arena.games.text.base import GameText, Playout, player

_VIEW = re.compile(r"Scores: ([\d ]+), Turn total: (\d+)")


class PigText(GameText):
    games = ("pig",)
    playouts: ClassVar = {"pig": Playout(2, 116.7, 293)}

    def __init__(self, game: pyspiel.Game) -> None:
        parameters = game.get_parameters()
        players, sides = parameters["players"], parameters["diceoutcomes"]
        win, horizon = parameters["winscore"], parameters["horizon"]
        adds = "adds 1 to" if parameters["piglet"] else "adds its number to"
        loss = f"{-1 / (players - 1):.4g}"
        self.rules = f"""\
Game: Pig with {players} players.
Rules: players take turns, starting with player 0. On each turn a player rolls a die with the \
numbers 1 to {sides} as often as they like. A roll of 1 ends the turn, and the points of this turn \
are lost. Any other roll {adds} the points of this turn, and the player chooses again. If the \
player stops, the points of this turn are added to their score, and the turn ends. The first \
player whose score is {win} or more wins. A player whose score and points of this turn add up to \
{win} or more must stop. After {horizon} rolls and stops in all, nobody wins.
Actions: roll or stop.
Returns: 1 for a win, {loss} for a loss, 0 if nobody wins."""

    def position(self, state: State, seat: int) -> str:
        match = _VIEW.match(str(state))
        if match is None:
            raise ValueError("OpenSpiel's state of pig has another form")
        scores = enumerate(match[1].split())
        return (
            f"Scores: {', '.join(f'{player(seat)}: {score}' for seat, score in scores)}\n"
            f"Points of this turn: {match[2]}"
        )

    def board(self, state: State) -> str:
        return self.position(state, 0)
