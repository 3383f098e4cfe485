"""Describes games without a text of their own: OpenSpiel's words, and what the arena knows."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pyspiel

from arena.games.state import Played, State
from arena.games.text.base import GameText, describe_move, list_moves, list_parameters
from arena.games.text.notes import NOTES, GameNotes

#: The observations of at most this many of a seat's latest turns are repeated.
_LATEST_VIEWS = 8


class GenericText(GameText):
    """Shows a seat what OpenSpiel says that it knows.

    Without hidden information that is the position and the latest moves. With hidden information
    it is the seat's information state, which contains everything that the seat has seen, or, where
    OpenSpiel has none that can be read, the seat's observation together with the seat's own
    earlier turns: what it played, and what it saw.
    """

    generic = True

    def __init__(self, game: pyspiel.Game) -> None:
        kind = game.get_type()
        self._notes = NOTES.get(kind.short_name, GameNotes())
        self.case_matters = self._notes.case_matters
        self.ornaments = self._notes.ornaments
        self._hidden = kind.information == pyspiel.GameType.Information.IMPERFECT_INFORMATION
        self._has_observation: bool = kind.provides_observation_string
        self._has_information_state: bool = (
            kind.provides_information_state_string and not self._notes.coded
        )
        if self._hidden and not (self._has_information_state or self._has_observation):
            raise ValueError("it has hidden information and OpenSpiel has no view for one player")
        title = self._notes.title or kind.long_name.removeprefix("Python ")
        self.rules = "\n".join(
            (
                f"Game: {title}.",
                f"Rules: {' '.join(_list_facts(game, self._notes))}",
                f"Parameters: {list_parameters(game)}.",
                *filter(None, [self._notes.legend]),
                f"Actions: {self._notes.actions or 'the legal actions are listed'}.",
                f"Returns: from {game.min_utility():g} to {game.max_utility():g}; higher is better."
                f"{_UTILITIES.get(kind.utility, '')}",
            )
        )

    def side(self, seat: int) -> str:
        sides = self._notes.sides
        return f"You are player {seat}." + (f" {sides[seat]}" if seat < len(sides) else "")

    def position(self, state: State, seat: int) -> str:
        lines: list[str] = []
        if not self._hidden:
            if state.history:
                lines.append(f"Latest moves: {list_moves(state.history)}")
        elif not self._has_information_state:
            lines += self._list_earlier_turns(state, seat)
        return "\n".join((*lines, f"The position as you see it:\n{self._view(state.raw, seat)}"))

    def _view(self, raw: pyspiel.State, seat: int) -> str:
        """What the seat sees, without the lines that OpenSpiel ends it with."""
        if self._hidden and self._has_information_state:
            view = str(raw.information_state_string(seat))
        else:
            view = str(raw.observation_string(seat)) if self._has_observation else ""
            if not view and not self._hidden:
                view = str(raw)
        return _clean(view).strip("\n").rstrip() or "(nothing)"

    def _list_earlier_turns(self, state: State, seat: int) -> Iterator[str]:
        """The seat's earlier turns, oldest first: what it saw, and what it played."""
        turns = [index for index, played in enumerate(state.history) if played.seat == seat]
        if not turns:
            return
        own = [describe_move(state.history[index]).partition(": ")[2] for index in turns]
        yield f"Your earlier moves, oldest first: {', '.join(own)}"
        shown = turns[-_LATEST_VIEWS:]
        views = list(self._replay_views(state, seat, set(shown)))
        if all(view == views[0] for view in views):
            return
        left_out = len(turns) - len(shown)
        which = f"your latest {len(shown)} turns" if left_out else "these turns"
        yield f"What you saw at {which}:"
        for index, view in zip(shown, views, strict=True):
            inset = view.replace("\n", "\n  ")
            yield f"- before {_name(state.history[index])}:\n  {inset}"

    def _replay_views(self, state: State, seat: int, turns: set[int]) -> Iterator[str]:
        """The seat's observation before each of these actions of the history."""
        raw = state.raw.get_game().new_initial_state()
        seats = range(raw.num_players())
        joint: dict[int, int] = {}  # of a simultaneous move
        for index, played in enumerate(state.history):
            if index in turns:
                yield self._view(raw, seat)
            if not raw.is_simultaneous_node():
                raw.apply_action(played.action)
                continue
            joint[played.seat] = played.action
            if len(joint) == sum(bool(raw.legal_actions(s)) for s in seats):
                raw.apply_actions([joint.get(s, 0) for s in seats])
                joint.clear()


_COLORS = re.compile(r"\x1b\[[\d;]*m")
#: The playing cards of Unicode: a block of 16 for each suit, with the knight after the jack.
_SUITS = {0x1F0A0: "S", 0x1F0B0: "H", 0x1F0C0: "D", 0x1F0D0: "C"}
_CARDS = {
    first + number: f"{suit}{rank}"
    for first, suit in _SUITS.items()
    for number, rank in enumerate("A23456789TJCQK", 1)
} | {0x1F0A0: "?"}


def _clean(view: str) -> str:
    """A view without colors, and with cards as two letters, as in OpenSpiel's actions."""
    return _COLORS.sub("", view).translate(_CARDS)


_UTILITIES = {
    pyspiel.GameType.Utility.ZERO_SUM: " The returns of all players add up to 0.",
    pyspiel.GameType.Utility.IDENTICAL: " All players get the same return.",
}


def _name(played: Played) -> str:
    return describe_move(played).partition(": ")[2]


def _list_facts(game: pyspiel.Game, notes: GameNotes) -> Iterator[str]:
    kind = game.get_type()
    yield notes.rules or (
        f"the usual rules of this game, as the library OpenSpiel implements them "
        f"({kind.short_name})."
    )
    simultaneous = kind.dynamics == pyspiel.GameType.Dynamics.SIMULTANEOUS
    turns = "at the same time" if simultaneous else "in turn"
    players = game.num_players()
    if players == 1:
        yield "There is one player, number 0."
    else:
        yield f"There are {players} players, numbered from 0, who act {turns}."
    deterministic = kind.chance_mode == pyspiel.GameType.ChanceMode.DETERMINISTIC
    yield "There are no chance events." if deterministic else "There are chance events."
    hidden = kind.information == pyspiel.GameType.Information.IMPERFECT_INFORMATION
    yield "Part of the position is hidden." if hidden else "No information is hidden."
