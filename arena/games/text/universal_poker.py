"""Poker with any deck, number of rounds and betting (universal_poker, after ACPC)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar

import pyspiel

from arena.games.state import CHANCE, LegalAction, State
from arena.games.text.base import GameText, Playout, count, player

_FIELD = re.compile(r"\[(\w+):? ?([^\]]*)\]")
_RANKS = "23456789TJQKA"
_SUITS = {"c": "clubs", "d": "diamonds", "h": "hearts", "s": "spades"}
_BETTING = {
    "limit": (
        "Bet raises by a fixed number of chips: {raiseSize}, by round. The most raises in a round "
        "are {maxRaises}."
    ),
    "nolimit": "The raises are those of the actions.",
}
#: OpenSpiel's abstractions of betting, and the actions that they allow.
_ACTIONS = {
    "fcpa": "Fold, Call, Bet (raise by the size of the pot), AllIn (bet all chips)",
    "fc": "Fold, Call",
    "fchpa": "Fold, Call, HalfPot (raise by half of the pot), Bet (raise by the pot), AllIn",
}


#: The chips that OpenSpiel reports for each player if the betting has a limit.
_ENDLESS = 2**31 - 1


class UniversalPokerText(GameText):
    games = ("universal_poker",)
    playouts: ClassVar = {"universal_poker": Playout(2, 3.2, 455)}

    def __init__(self, game: pyspiel.Game) -> None:
        parameters = game.get_parameters()
        self._players: int = parameters["numPlayers"]
        self._rounds: int = parameters["numRounds"]
        ranks = _RANKS[: parameters["numRanks"]]
        suits = ", ".join(
            f"{name} ({letter})" for letter, name in list(_SUITS.items())[: parameters["numSuits"]]
        )
        public = [int(number) for number in parameters["numBoardCards"].split()]
        first = [f"player {int(seat) - 1}" for seat in parameters["firstPlayer"].split()]
        self._limit = parameters["betting"] == "limit"
        stacks = parameters["stack"].split()
        # OpenSpiel does not use the stacks with a limit: nobody can run out of chips.
        self._stacks = [_ENDLESS] * self._players if self._limit else list(map(int, stacks))
        has = "has any number of chips" if self._limit else f"starts with {_by_seat(stacks)} chips"
        blinds = parameters["blind"].split()
        betting = _BETTING.get(parameters["betting"], "").format(
            raiseSize=parameters.get("raiseSize", ""),
            maxRaises=parameters["maxRaises"] or "not limited",
        )
        abstraction = _ACTIONS.get(parameters["bettingAbstraction"], "as listed")
        if self._limit:
            abstraction = "Fold, Call, Bet"
        details = ""
        for name in ("boardCards", "handReaches", "potSize"):
            if parameters[name]:
                details += f" {name}: {parameters[name]}."
        self.rules = f"""\
Game: poker with {self._players} players ({count(self._rounds, "round")}).
Rules: the deck has the ranks {" ".join(ranks)}, from the lowest to the highest, in the suits \
{suits}. Each player {has} and puts in {_by_seat(blinds)} chips \
before the cards are dealt. Each player is dealt {count(parameters["numHoleCards"], "card")}, \
which nobody else sees. {_public_cards(public)} {_first(first)} Players may fold, call (a check \
if nothing is owed) or raise. {betting} A round ends when all players still in have put in the \
same amount. If all others fold, the last player wins the pot. Otherwise the best poker hand of \
private and public cards wins; a tie splits the pot.{details}
Actions: {abstraction}. Each is written with the player's number, such as "player=0 move=Call".
Returns: the chips a player wins or loses overall, including the chips put in."""

    def aliases(self, text: str) -> tuple[str, ...]:
        return (text.rpartition("move=")[2],)

    def position(self, state: State, seat: int) -> str:
        fields = dict(_FIELD.findall(state.raw.information_state_string(seat)))
        return f"Your cards: {_cards(fields['Private'])}\n{self._public(state, fields)}"

    def note(self, state: State, seat: int, action: LegalAction) -> str:
        fields = dict(_FIELD.findall(state.raw.information_state_string(seat)))
        left = [int(chips) for chips in fields["Money"].split()]
        if action.text.endswith("move=Call"):
            spent = self._spent(left)
            owed = min(max(spent) - spent[seat], left[seat])
            return f"puts in {count(owed, 'chip')}" if owed else "check"
        return ""

    def board(self, state: State) -> str:
        if state.is_chance and not state.history:
            return "no cards yet"
        hands = [
            f"{player(seat)}: {_cards(cards)}"
            for seat, cards in re.findall(r"P(\d+) Cards: ?(\w*)", str(state))
        ]
        fields = dict(_FIELD.findall(state.raw.information_state_string(0)))
        return "\n".join((*hands, self._public(state, fields)))

    def _public(self, state: State, fields: dict[str, str]) -> str:
        actions = [
            f"{player(played.seat)}: {played.text.rpartition('move=')[2]}"
            for played in state.history
            if played.seat != CHANCE
        ]
        left = [int(chips) for chips in fields["Money"].split()]
        chips = f"Pot: {count(sum(self._spent(left)), 'chip')}"
        if not self._limit:
            own = ", ".join(f"{player(seat)}: {number}" for seat, number in enumerate(left))
            chips = f"{chips}\nChips left: {own}"
        return (
            f"Public cards: {_cards(fields['Public'])}\n"
            f"Round: {int(fields['Round']) + 1} of {self._rounds}\n"
            f"Betting so far: {', '.join(actions) or 'none'}\n"
            f"{chips}"
        )

    def _spent(self, left: Sequence[int]) -> list[int]:
        """What each player has put in. OpenSpiel's own pot is what it will be after all calls."""
        return [stack - chips for stack, chips in zip(self._stacks, left, strict=True)]


def _public_cards(numbers: Sequence[int]) -> str:
    """A sentence on the cards that all players see; numbers: of each round."""
    dealt = [
        f"{count(cards, 'public card')} before round {number}"
        for number, cards in enumerate(numbers, 1)
        if cards
    ]
    return f"Dealt for all to see: {', '.join(dealt)}." if dealt else "There are no public cards."


def _first(names: Sequence[str]) -> str:
    """A sentence on who acts first in each round."""
    if len({*names}) == 1:
        return f"In each round, {names[0]} acts first."
    return f"First to act: {', '.join(f'{name} in round {n}' for n, name in enumerate(names, 1))}."


def _cards(text: str) -> str:
    return " ".join(re.findall("..", text)) or "none"


def _by_seat(values: list[str]) -> str:
    if len(set(values)) == 1:
        return values[0]
    return ", ".join(f"{value} (player {seat})" for seat, value in enumerate(values))
