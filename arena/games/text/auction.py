"""The first-price sealed-bid auction."""

from __future__ import annotations

from typing import ClassVar

import pyspiel

from arena.games.state import State
from arena.games.text.base import GameText, Playout


class AuctionText(GameText):
    games = ("first_sealed_auction",)
    bounds: ClassVar = {"players": (2, 10), "max_value": (1, 1000)}
    playouts: ClassVar = {"first_sealed_auction": Playout(2, 2.0, 293)}

    def __init__(self, game: pyspiel.Game) -> None:
        parameters = game.get_parameters()
        players, most = parameters["players"], parameters["max_value"]
        self.rules = f"""\
Game: first-price sealed-bid auction with {players} players.
Rules: one object is sold. Each player has a private value of the object, a whole number that is \
drawn evenly from 1 to {most}; nobody else sees it. Each player makes one bid, which nobody else \
sees: a whole number from 0 to one less than the player's own value. The highest bid wins the \
object, and its player pays the bid. If several players make the highest bid, one of them is \
drawn.
Actions: the bid. "Player 0 bid: 3" is a bid of 3 by player 0.
Returns: your value minus your bid if you win the object, otherwise 0."""

    def aliases(self, text: str) -> tuple[str, ...]:
        bid = text.rpartition(" ")[2]
        return (bid, f"bid: {bid}", f"bid {bid}")

    def position(self, state: State, seat: int) -> str:
        return f"Your value of the object: {state.raw.observation_string(seat).split()[-1]}"

    def board(self, state: State) -> str:
        known = (played for played in state.history if "value" in played.text or played.seat >= 0)
        return "\n".join(played.text for played in known)
