"""Liar's dice, one round of it."""

from __future__ import annotations

from typing import ClassVar

import pyspiel

from arena.games.state import CHANCE, State
from arena.games.text.base import GameText, Playout, player

_HIGHER = {
    "reset-face": "a higher quantity of any face, or the same quantity of a higher face",
    "reset-quantity": "a higher quantity of the same face, or any quantity of a higher face",
}


class LiarsDiceText(GameText):
    games = ("liars_dice",)
    bounds: ClassVar = {"numdice": (1, 20), "dice_sides": (2, 20)}
    playouts: ClassVar = {"liars_dice": Playout(2, 3.4, 368)}

    def __init__(self, game: pyspiel.Game) -> None:
        parameters = game.get_parameters()
        self._dice, sides = parameters["numdice"], parameters["dice_sides"]
        self._players: int = parameters["players"]
        total = self._dice * self._players
        own = "1 die" if self._dice == 1 else f"{self._dice} dice"
        self.rules = f"""\
Game: liar's dice with {self._players} players, one round.
Rules: each player secretly rolls {own} with the faces 1 to {sides}, so there are \
{total} dice in all. Players take turns, starting with player 0. On each turn a player either \
makes a bid or says Liar. A bid says that at least that many of the {total} dice show a certain \
face. Each bid must be higher than the last one: {_HIGHER[parameters["bidding_rule"]]}. Liar \
challenges the last bid and ends the round. Face {sides} is wild: a die that shows {sides} \
counts as every face. After Liar all dice are shown. If at least as many dice as the last bid \
says show its face or {sides}, the player who made that bid wins; otherwise the player who said \
Liar wins.
Actions: a bid as quantity-face, or Liar. 2-3 says that at least 2 dice show a 3.
Returns: 1 for a win, -1 for a loss."""

    def position(self, state: State, seat: int) -> str:
        return f"Your dice: {self._show_dice(state, seat)}\n{_bids(state)}"

    def board(self, state: State) -> str:
        hands = (f"{player(s)}: {self._show_dice(state, s)}" for s in range(self._players))
        return "\n".join((*hands, _bids(state)))

    def _show_dice(self, state: State, seat: int) -> str:
        # Chance rolls all dice of player 0 first, then all of player 1.
        rolls = state.history[: self._dice * self._players]
        own = rolls[self._dice * seat : self._dice * (seat + 1)]
        return " ".join(map(str, sorted(roll.action + 1 for roll in own))) or "none yet"


def _bids(state: State) -> str:
    bids = (f"{player(p.seat)}: {p.text}" for p in state.history if p.seat != CHANCE)
    return f"Bids so far: {', '.join(bids) or 'none'}"
