"""Mancala (Kalah)."""

from __future__ import annotations

import re
from typing import ClassVar

import pyspiel

from arena.games.state import State
from arena.games.text.base import GameText, Playout

_PITS = 6
_SIDES = (
    "You are player 0. Your pits are 1 to 6, and your store is 7.",
    "You are player 1. Your pits are 8 to 13, and your store is 0.",
)


class MancalaText(GameText):
    games = ("mancala",)
    playouts: ClassVar = {"mancala": Playout(2, 42.8, 513)}

    def __init__(self, game: pyspiel.Game) -> None:
        self.rules = f"""\
Game: Mancala (Kalah).
Rules: there are 14 pits, numbered from 0, in a circle. Pits 1 to 6 belong to player 0, whose \
store is 7. Pits 8 to 13 belong to player 1, whose store is 0. Every pit but the stores starts \
with 4 beans. Two players take turns, starting with player 0. On each turn a player takes all \
beans out of one of their own pits and puts them one by one into the next pits, in the order of \
their numbers (0 follows 13), leaving out the other player's store. If the last bean falls into \
the player's own store, the player moves again. If it falls into an empty pit of the player's own \
and the pit opposite to it has beans, that bean and all beans of the opposite pit go into the \
player's store. Opposite are the pits whose numbers add up to 14. The game ends when one player's \
pits are all empty, or after {game.max_game_length()} moves. The beans that are left then count \
for the player in whose pits they are. The player with more beans in store and pits wins.
Actions: the number of the pit to empty.
Returns: 1 for a win, 0 for a draw, -1 for a loss."""

    def side(self, seat: int) -> str:
        return _SIDES[seat]

    def position(self, state: State, seat: int) -> str:
        return self.board(state)

    def board(self, state: State) -> str:
        top, middle, bottom = (re.findall(r"\d+", row) for row in str(state).split("\n")[:3])
        own = ", ".join(f"pit {number}: {beans}" for number, beans in enumerate(bottom, 1))
        # The upper row shows pit 13 first.
        other = ", ".join(f"pit {number}: {beans}" for number, beans in enumerate(top[::-1], 8))
        return (
            f"Player 0's beans: {own}, store 7: {middle[1]}\n"
            f"Player 1's beans: {other}, store 0: {middle[0]}"
        )
