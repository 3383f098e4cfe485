"""Kuhn poker, for two or more players.

What a seat sees is read from OpenSpiel's information state string for that seat alone: the
number of its card, and a letter for each pass and bet.
"""

from __future__ import annotations

import re
from typing import ClassVar

import pyspiel

from arena.games.state import LegalAction, State
from arena.games.text.base import GameText, Playout, player

_VIEW = re.compile(r"(\d*)([pb]*)")
_NAMES = {"p": "Pass", "b": "Bet"}


class KuhnPokerText(GameText):
    games = ("kuhn_poker",)
    playouts: ClassVar = {"kuhn_poker": Playout(2, 2.2, 319)}

    def __init__(self, game: pyspiel.Game) -> None:
        self._players: int = game.num_players()
        self._cards = name_ranks(self._players + 1)
        self.rules = f"""\
Game: Kuhn poker with {self._players} players.
Rules: the deck has {self._players + 1} cards: {", ".join(self._cards)}, from the lowest to \
the highest. Each player puts 1 chip into the pot and is dealt one card, which \
nobody else sees; one card stays in the deck. Players act in turn, starting with player 0. As \
long as nobody has bet, Pass checks, and Bet puts 1 more chip into the pot. Once somebody has \
bet, every other player acts one last time, in turn: Pass folds, which gives up the pot, and Bet \
calls, which puts 1 more chip into the pot. The hand ends when all players have checked, or \
when all other players have answered the bet. Among the players still in, the highest card wins \
the pot.
Actions: Pass or Bet.
Returns: the chips a player wins or loses overall, including the chips put in."""

    def position(self, state: State, seat: int) -> str:
        card, betting = _view(state, seat)
        return f"Your card: {self._cards[int(card)]}\n{self._public(betting)}"

    def note(self, state: State, seat: int, action: LegalAction) -> str:
        _, betting = _view(state, seat)
        meaning = _meaning(betting, action.text == "Bet")
        return "" if meaning == action.text else meaning

    def board(self, state: State) -> str:
        views = [_view(state, seat) for seat in range(self._players)]
        cards = (self._cards[int(card)] if card else "no card yet" for card, _ in views)
        hands = (f"{player(seat)}: {card}" for seat, card in enumerate(cards))
        return "\n".join((*hands, self._public(views[0][1])))

    def _public(self, betting: str) -> str:
        actions = []
        for index, letter in enumerate(betting):
            name, meaning = _NAMES[letter], _meaning(betting[:index], letter == "b")
            note = "" if meaning == name else f" ({meaning})"
            actions.append(f"{player(index % self._players)}: {name}{note}")
        pot = self._players + betting.count("b")
        return f"Betting so far: {', '.join(actions) or 'none'}\nPot: {pot} chips"


def name_ranks(count: int) -> tuple[str, ...]:
    """Return the ranks of a small deck, lowest first."""
    if count == 3:
        return ("Jack", "Queen", "King")
    return tuple(str(rank + 1) for rank in range(count))


def _view(state: State, seat: int) -> tuple[str, str]:
    """Return the seat's card ("" before the deal), and the betting as letters."""
    match = _VIEW.fullmatch(state.raw.information_state_string(seat))
    if match is None:
        raise ValueError("OpenSpiel's information state of kuhn_poker has another form")
    return match[1], match[2]


def _meaning(before: str, bet: bool) -> str:
    if "b" in before:
        return "Call" if bet else "Fold"
    return "Bet" if bet else "Check"
