"""Liar's dice, one round of it."""

from __future__ import annotations

from typing import ClassVar

import pyspiel

from arena.games.families.family import Family, player
from arena.games.state import CHANCE, State

_HIGHER = {
    "reset-face": "a higher quantity of any face, or the same quantity of a higher face",
    "reset-quantity": "a higher quantity of the same face, or any quantity of a higher face",
}


class LiarsDice(Family):
    bounds: ClassVar = {"numdice": (1, 20), "dice_sides": (2, 20)}

    def __init__(self, game: pyspiel.Game) -> None:
        given = game.get_parameters()
        self._dice, sides = given["numdice"], given["dice_sides"]
        self._players: int = given["players"]
        total = self._dice * self._players
        own = "1 die" if self._dice == 1 else f"{self._dice} dice"
        self.rules = f"""\
Game: liar's dice with {self._players} players, one round.
Rules: each player secretly rolls {own} with the faces 1 to {sides}, so there are \
{total} dice in all. Players take turns, player 0 first. A turn is either a bid, that at least \
so many of all the {total} dice show a certain face, or Liar, which doubts the last bid and \
ends the round. Each bid must be higher than the last one: {_HIGHER[given["bidding_rule"]]}. \
Face {sides} is wild: a die that shows {sides} counts as every face. After Liar all dice are \
shown: if at least as many dice as the last bid says show its face or {sides}, whoever made \
that bid wins, otherwise whoever said Liar wins.
Actions: a bid as quantity-face, or Liar. 2-3 says that at least 2 dice show a 3.
Returns: 1 for a win, -1 for a loss."""

    def side(self, seat: int) -> str:
        return f"You are player {seat}."

    def position(self, state: State, seat: int) -> str:
        return f"Your dice: {self._rolled(state, seat)}\n{_bids(state)}"

    def board(self, state: State) -> str:
        hands = (f"{player(s)}: {self._rolled(state, s)}" for s in range(self._players))
        return "\n".join((*hands, _bids(state)))

    def _rolled(self, state: State, seat: int) -> str:
        # Chance rolls all dice of player 0, then all of player 1.
        rolls = state.history[: self._dice * self._players]
        own = rolls[self._dice * seat : self._dice * (seat + 1)]
        return " ".join(map(str, sorted(roll.action + 1 for roll in own))) or "none yet"


def _bids(state: State) -> str:
    bids = (f"{player(p.seat)}: {p.text}" for p in state.history if p.seat != CHANCE)
    return f"Bids so far: {', '.join(bids) or 'none'}"
