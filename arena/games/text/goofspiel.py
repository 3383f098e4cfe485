"""Goofspiel, for two or more players."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

import pyspiel

from arena.games.state import State
from arena.games.text.base import GameText, Playout, player

_ORDERS = {
    "random": "in random order",
    "ascending": "from 1 upwards",
    "descending": "from the highest number downwards",
}


class GoofspielText(GameText):
    """With imp_info, a seat sees its own bids and who won each card."""

    games = ("goofspiel",)
    bounds: ClassVar = {"players": (2, 10), "num_cards": (1, 100)}
    playouts: ClassVar = {"goofspiel": Playout(2, 24.0, 610)}

    def __init__(self, game: pyspiel.Game) -> None:
        parameters = game.get_parameters()
        self._players: int = parameters["players"]
        self._cards: int = parameters["num_cards"]
        rounds = parameters["num_turns"]
        self._rounds = rounds if rounds > 0 else self._cards
        self._hidden: bool = parameters["imp_info"]
        self._order: str = parameters["points_order"]
        after = (
            "The bids stay secret: players only see who won each card"
            if self._hidden
            else "Then all bids are shown"
        )
        # With one card left there is nothing to choose.
        last = " The last cards are played automatically." if self._rounds == self._cards else ""
        self.rules = f"""\
Game: Goofspiel with {self._players} players.
Rules: each player has the cards 1 to {self._cards} to bid with. The prizes are the numbers 1 to \
{self._cards}; they are turned up one by one, {_ORDERS[self._order]}. In each of the \
{self._rounds} rounds a prize is turned up, and all players bid one of their cards at the same \
time. The highest bid wins the prize, which is worth its number in points; if several players \
share the highest bid, nobody gets it. {after}. Every card can be bid once.{last}
Actions: the bid. [P0]Bid: 3 is player 0's bid of card 3.
Returns: {self._returns(parameters["returns_type"])}."""

    def _returns(self, kind: str) -> str:
        if kind == "total_points":
            return "your points"
        if kind == "point_difference":
            return "your points minus the mean of all players' points"
        if self._players == 2:
            return "1 if you have more points, 0 for a draw, -1 if you have fewer points"
        return (
            "the players with the most points share a win of 1 equally, the others share a loss of "
            "-1; 0 if all have the same points"
        )

    def aliases(self, text: str) -> tuple[str, ...]:
        bid = text.partition("Bid: ")[2]
        return (bid, f"Bid: {bid}", f"Bid {bid}")

    def side(self, seat: int) -> str:
        return f"You are player {seat}. Your bids are called [P{seat}]."

    def position(self, state: State, seat: int) -> str:
        return self._show(state, [seat] if self._hidden else range(self._players), seat)

    def board(self, state: State) -> str:
        return self._show(state, range(self._players))

    def _show(self, state: State, shown: Sequence[int], seat: int | None = None) -> str:
        """The rounds so far, with the bids and cards of some seats."""
        points = [0] * self._players
        cards = {s: set(range(1, self._cards + 1)) for s in shown}
        lines = []
        for number, (prize, bids) in enumerate(self._rounds_of(state), 1):
            if not bids:
                lines.append(f"Round {number} of {self._rounds}: the prize is {prize}.")
                continue
            for s in shown:
                cards[s].discard(bids[s])
            best = [s for s, bid in bids.items() if bid == max(bids.values())]
            winner = "nobody"
            if len(best) == 1:
                winner = player(best[0])
                points[best[0]] += prize
            own = ", ".join(f"{player(s)} bid {bids[s]}" for s in shown)
            lines.append(f"Round {number}: the prize was {prize}; {own}; {winner} won it.")
        for s, left in cards.items():
            name = "Your cards" if s == seat else f"Cards of {player(s)}"
            lines.append(f"{name}: {' '.join(map(str, sorted(left))) or 'none'}")
        scores = ", ".join(f"{player(s)}: {score}" for s, score in enumerate(points))
        return "\n".join((*lines, f"Points so far: {scores}"))

    def _rounds_of(self, state: State) -> Iterator[tuple[int, dict[int, int]]]:
        """The prize and the bids of each round. The bids of the current round are empty."""
        order = [int(p.text.split()[-1]) for p in state.history if p.seat < 0]
        if self._order == "ascending":
            order = list(range(1, self._cards + 1))
        elif self._order == "descending":
            order = list(range(self._cards, 0, -1))
        bids = [played for played in state.history if played.seat >= 0]
        for number, prize in enumerate(order):
            own = bids[number * self._players : (number + 1) * self._players]
            yield prize, {played.seat: int(played.text.rpartition(" ")[2]) for played in own}
            if not own:
                return
