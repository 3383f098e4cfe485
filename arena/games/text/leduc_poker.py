"""Leduc poker, for two or more players.

What a seat sees is read from OpenSpiel's information state string for that seat alone, such
as "[Observer: 0][Private: 3][Round 1][Player: 0][Pot: 4][Money: 99 97][Round1: 1 2][Round2: ]",
and from the order in which the seats acted. Source of the game: Southey et al., "Bayes' Bluff:
Opponent Modelling in Poker" (UAI 2005).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import pyspiel

from arena.games.state import CHANCE, LegalAction, State
from arena.games.text.base import GameText, Playout, player
from arena.games.text.kuhn_poker import name_ranks

_FIELD = re.compile(r"\[(\w+):? ?([-\d. ]*)\]")
_NAMES = ("Fold", "Call", "Raise")
_RAISES = (2, 4)  # chips, by round
_MOST_RAISES = 2  # by all players together, in one round
_MONEY = 100  # chips at the start


class LeducPokerText(GameText):
    games = ("leduc_poker",)
    playouts: ClassVar = {"leduc_poker": Playout(2, 3.9, 409)}

    def __init__(self, game: pyspiel.Game) -> None:
        parameters = game.get_parameters()
        self._players: int = parameters["players"]
        first: int = parameters["starting_player"]
        if not 0 <= first < self._players:
            raise ValueError("parameter 'starting_player' must be the number of a player")
        self._isomorphic: bool = parameters["suit_isomorphism"]
        self._cards = name_ranks(self._players + 1)
        self.rules = f"""\
Game: Leduc poker with {self._players} players.
Rules: the deck has two cards of each rank; the ranks are {", ".join(self._cards)}, from the \
lowest to the highest. Each player puts 1 chip into the pot and is dealt one card, which \
nobody else sees. After a first round of betting one public card is dealt, and a second round of \
betting follows. {player(first).capitalize()} acts first in each round, or the next player who \
has not folded. Call matches the highest amount put in; if nothing is owed, it is a check. Raise \
calls and adds {_RAISES[0]} chips in the first round, {_RAISES[1]} in the second; all players \
together may raise at most {_MOST_RAISES} times in a round. Fold gives up the pot. A round ends \
when all players still in have put in the same amount. If all others fold, the last player wins \
the pot. Otherwise a card with the public card's rank (a pair) beats all other cards, and \
without a pair the highest rank wins; a tie splits the pot.\
{_MAPPING if parameters["action_mapping"] else ""}
Actions: Fold, Call or Raise.
Returns: the chips a player wins or loses overall, including the chips put in."""

    def position(self, state: State, seat: int) -> str:
        return f"Your card: {self._card(_view(state, seat).private)}\n{self._public(state, seat)}"

    def note(self, state: State, seat: int, action: LegalAction) -> str:
        view = _view(state, seat)
        owed = max(view.paid) - view.paid[seat]
        if action.text == "Fold":
            return "" if owed else "counts as Call"
        if action.text == "Call":
            return f"puts in {owed} chips" if owed else "check"
        if view.betting[-1].count("2") == _MOST_RAISES:
            return "counts as Call"
        return f"puts in {owed + _RAISES[len(view.betting) - 1]} chips"

    def board(self, state: State) -> str:
        cards = (self._card(_view(state, seat).private) for seat in range(self._players))
        hands = (f"{player(seat)}: {card}" for seat, card in enumerate(cards))
        return "\n".join((*hands, self._public(state, 0)))

    def _public(self, state: State, seat: int) -> str:
        view = _view(state, seat)
        seats = iter(played.seat for played in state.history if played.seat != CHANCE)
        lines = [f"Public card: {self._card(view.public)}"]
        for number, letters in enumerate(view.betting, 1):
            actions = [f"{player(next(seats))}: {_NAMES[int(letter)]}" for letter in letters]
            lines.append(f"Betting in round {number}: {', '.join(actions) or 'none'}")
        if not state.is_terminal:  # at the end, the money includes the winnings
            chips = ", ".join(f"{player(seat)}: {paid}" for seat, paid in enumerate(view.paid))
            lines.append(f"Chips put in: {chips}")
        return "\n".join(lines)

    def _card(self, number: int | None) -> str:
        if number is None:
            return "none yet"
        return self._cards[number if self._isomorphic else number // 2]


_MAPPING = (
    " If nothing is owed, Fold counts as Call. After the last allowed raise, Raise counts as Call."
)


@dataclass(frozen=True, slots=True)
class _View:
    """betting: the digits of the actions in each round so far. paid: chips by seat."""

    private: int | None
    public: int | None
    betting: Sequence[str]
    paid: Sequence[int]


def _view(state: State, seat: int) -> _View:
    text = state.raw.information_state_string(seat)
    fields = dict(_FIELD.findall(text))
    rounds = 2 if "Public" in fields else 1
    return _View(
        private=_number(fields.get("Private")),
        public=_number(fields.get("Public")),
        betting=[fields[f"Round{number}"].replace(" ", "") for number in (1, 2)][:rounds],
        paid=[_MONEY - round(float(money)) for money in fields["Money"].split()],
    )


def _number(text: str | None) -> int | None:
    return int(text) if text and int(text) >= 0 else None
