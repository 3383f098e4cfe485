"""Blackjack against the bank, one hand."""

from __future__ import annotations

import re
from typing import ClassVar

import pyspiel

from arena.games.state import State
from arena.games.text.base import GameText, Playout

_SUITS = {"C": "clubs", "D": "diamonds", "H": "hearts", "S": "spades"}
_RANKS = {"A": "ace", "T": "10", "J": "jack", "Q": "queen", "K": "king"}


class BlackjackText(GameText):
    games = ("blackjack",)
    playouts: ClassVar = {"blackjack": Playout(1, 1.3, 316)}

    def __init__(self, game: pyspiel.Game) -> None:
        self.rules = """\
Game: blackjack, one hand of one player against the dealer, with one deck of 52 cards.
Rules: numbered cards count their number; jack, queen and king count 10; an ace counts 11, or 1 \
if the total would be over 21. The player and the dealer get two cards each; the player sees only \
one of the dealer's cards. Hit draws another card. A player whose total is over 21 loses \
immediately. Stand ends the player's turn. Then the dealer draws cards as long as the dealer's \
total is 16 or less. If the dealer's total is over 21, or lower than the player's total, the \
player wins. If it is higher, the player loses. Equal totals are a draw.
Actions: Hit or Stand.
Returns: 1 for a win, 0 for a draw, -1 for a loss."""

    def position(self, state: State, seat: int) -> str:
        view = state.raw.observation_string(seat)
        own, dealer = (_read_cards(view, name) for name in ("Player 0", "Dealer"))
        shown = [_name(card) for card in dealer if card != "??"]
        return (
            f"Your cards: {', '.join(map(_name, own))} (total {_total(own)})\n"
            f"The dealer's cards: {', '.join(shown)}, and one that you cannot see"
        )

    def board(self, state: State) -> str:
        hands = []
        for title, name in (("Player 0", "Player 0"), ("Dealer", "Dealer")):
            cards = _read_cards(str(state), name)
            hands.append(f"{title}: {', '.join(map(_name, cards)) or 'no cards yet'}")
        return "\n".join(hands)


def _read_cards(view: str, name: str) -> list[str]:
    match = re.search(rf"^{name}: Cards: ?(.*)$", view, re.MULTILINE)
    return match[1].split() if match else []


def _name(card: str) -> str:
    return f"{_RANKS.get(card[1], card[1])} of {_SUITS[card[0]]}"


def _total(cards: list[str]) -> int:
    """The best total: aces count 11 where that is not over 21."""
    aces = sum(card[1] == "A" for card in cards)
    total = aces + sum(
        10 if card[1] in "TJQK" else int(card[1]) for card in cards if card[1] != "A"
    )
    return total + 10 if aces and total <= 11 else total
