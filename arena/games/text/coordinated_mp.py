"""Coordinated matching pennies."""

from __future__ import annotations

from typing import ClassVar

import pyspiel

from arena.games.state import CHANCE, State
from arena.games.text.base import GameText, Playout


class CoordinatedPenniesText(GameText):
    games = ("coordinated_mp",)
    playouts: ClassVar = {"coordinated_mp": Playout(2, 2.0, 198)}

    def __init__(self, game: pyspiel.Game) -> None:
        self.rules = """\
Game: coordinated matching pennies.
Rules: player 0 chooses Heads or Tails. Then Top or Bottom is drawn at random, which has no effect \
on the result; only player 1 sees it. Then player 1 chooses Heads or Tails without knowing what \
player 0 has chosen. Player 0 wins if both choices are equal, player 1 wins if they differ.
Actions: Heads or Tails.
Returns: 1 for a win, -1 for a loss."""

    def position(self, state: State, seat: int) -> str:
        drawn = next((played.text for played in state.history if played.seat == CHANCE), None)
        return "You choose now." if seat == 0 else f"Drawn at random: {drawn}"

    def board(self, state: State) -> str:
        return ", ".join(played.text for played in state.history) or "Nobody has chosen yet."
