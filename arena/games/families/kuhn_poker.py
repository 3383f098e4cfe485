"""Kuhn poker, for two players or more.

A seat's position is told from OpenSpiel's information state string of that seat alone: its
card's number, and a letter for each pass and bet.
"""

from __future__ import annotations

import re

import pyspiel

from arena.games.families.family import Family, player
from arena.games.state import LegalAction, State

_VIEW = re.compile(r"(\d*)([pb]*)")
_NAMES = {"p": "Pass", "b": "Bet"}


class KuhnPoker(Family):
    def __init__(self, game: pyspiel.Game) -> None:
        self._players: int = game.num_players()
        self._cards = ranks(self._players + 1)
        self.rules = f"""\
Game: Kuhn poker with {self._players} players.
Rules: the deck has {self._players + 1} cards: {", ".join(self._cards)}, from the lowest to \
the highest. Each player puts 1 chip into the pot and is dealt one card, which \
nobody else sees; one card stays in the deck. Players act in turn, player 0 first. While \
nobody has bet, Pass checks, and Bet puts 1 more chip into the pot. Once somebody has bet, \
every other player acts one last time, in turn: Pass folds, which gives up the pot, and Bet \
calls, which puts 1 more chip into the pot. The hand is over when all have checked, or when \
all others have answered the bet. Of those who put in most, the highest card wins the pot.
Actions: Pass or Bet.
Returns: the chips that a player has won or lost, those put in counted."""

    def side(self, seat: int) -> str:
        return f"You are player {seat}."

    def position(self, state: State, seat: int) -> str:
        card, betting = _view(state, seat)
        return f"Your card: {self._cards[int(card)]}\n{self._public(betting)}"

    def note(self, state: State, seat: int, action: LegalAction) -> str:
        _, betting = _view(state, seat)
        return _meaning(betting, action.text == "Bet")

    def board(self, state: State) -> str:
        views = [_view(state, seat) for seat in range(self._players)]
        cards = (self._cards[int(card)] if card else "no card yet" for card, _ in views)
        hands = (f"{player(seat)}: {card}" for seat, card in enumerate(cards))
        return "\n".join((*hands, self._public(views[0][1])))

    def _public(self, betting: str) -> str:
        told = (
            f"{player(index % self._players)}: {_NAMES[letter]} "
            f"({_meaning(betting[:index], letter == 'b')})"
            for index, letter in enumerate(betting)
        )
        pot = self._players + betting.count("b")
        return f"Betting so far: {', '.join(told) or 'none'}\nPot: {pot} chips"


def ranks(count: int) -> tuple[str, ...]:
    """Names of a small deck's ranks, the lowest first."""
    return (
        ("Jack", "Queen", "King") if count == 3 else tuple(str(rank + 1) for rank in range(count))
    )


def _view(state: State, seat: int) -> tuple[str, str]:
    """The seat's card ("" before the deal) and the letters of the betting."""
    match = _VIEW.fullmatch(state.raw.information_state_string(seat))
    if match is None:
        raise ValueError("OpenSpiel's information state of kuhn_poker has another form")
    return match[1], match[2]


def _meaning(before: str, bet: bool) -> str:
    if "b" in before:
        return "Call" if bet else "Fold"
    return "Bet" if bet else "Check"
