"""Colonel Blotto, for two or more players."""

from __future__ import annotations

from typing import ClassVar

import pyspiel

from arena.games.state import State
from arena.games.text.base import GameText, Playout


class BlottoText(GameText):
    games = ("blotto",)
    bounds: ClassVar = {"players": (2, 10)}
    playouts: ClassVar = {"blotto": Playout(2, 2.0, 749)}

    def __init__(self, game: pyspiel.Game) -> None:
        parameters = game.get_parameters()
        players, coins, fields = (parameters[name] for name in ("players", "coins", "fields"))
        example = ",".join(map(str, (coins, *[0] * (fields - 1))))
        if players == 2:
            others, returns = "the", "1 for a win, 0 for a draw, -1 for a loss"
        else:
            others = "all"
            returns = (
                "the players with the most fields share a win of 1 equally, the others share a "
                "loss of -1; 0 if all have the same number of fields"
            )
        self.rules = f"""\
Game: Colonel Blotto with {players} players.
Rules: {others} players choose at the same time, once, and without knowing the other choices, how \
to divide {coins} coins among {fields} fields. A field is won by the player who puts the most \
coins on it; if several put the same highest number on it, nobody wins it. The player who wins \
the most fields wins the game.
Actions: the number of coins on each field, such as [{example}]. They add up to {coins}.
Returns: {returns}."""

    def position(self, state: State, seat: int) -> str:
        return "All players choose now."

    def board(self, state: State) -> str:
        choices = [f"player {played.seat}: {played.text}" for played in state.history]
        return "\n".join(choices) or "Nobody has chosen yet."
