"""Describes games without a text of their own, in OpenSpiel's words."""

from __future__ import annotations

from typing import ClassVar

import pyspiel

from arena.games.state import CHANCE, Played, State
from arena.games.text.base import GameText, Playout, player

#: A prompt lists at most this many of the latest moves.
_LATEST = 40


class GenericText(GameText):
    """Shows public information as far as OpenSpiel says which information is public.

    In a game with hidden information, a position is the seat's information state string,
    which contains everything that the seat has seen. Where OpenSpiel has no such string, it is
    the seat's observation.
    """

    playouts: ClassVar = {
        "backgammon": Playout(2, 117.1, 1290),
        "checkers": Playout(2, 71.9, 515),
        "dots_and_boxes": Playout(2, 12.0, 375),
        "go": Playout(2, 570.2, 1519),
        "goofspiel": Playout(2, 24.0, 558),
        "nim": Playout(2, 7.7, 315),
        "othello": Playout(2, 60.4, 516),
        "pig": Playout(2, 116.7, 416),
        "y": Playout(2, 174.6, 1135),
    }

    def __init__(self, game: pyspiel.Game) -> None:
        kind = game.get_type()
        self._hidden = kind.information == pyspiel.GameType.Information.IMPERFECT_INFORMATION
        self._has_information_state: bool = kind.provides_information_state_string
        self._has_observation: bool = kind.provides_observation_string
        if self._hidden and not (self._has_information_state or self._has_observation):
            raise ValueError("it has hidden information and OpenSpiel has no view for one player")
        turns = "at the same time" if kind.dynamics == _SIMULTANEOUS else "in turn"
        chance = "no chance events" if kind.chance_mode == _DETERMINISTIC else "chance events"
        hidden = "part of the position is hidden" if self._hidden else "no information is hidden"
        self.rules = f"""\
Game: {kind.long_name} ({game} in the library OpenSpiel).
Rules: the usual rules of this game, as the library OpenSpiel implements them. There are \
{game.num_players()} players, numbered from 0, who act {turns}. There are {chance}, and {hidden}.
Actions: named as in OpenSpiel; the legal actions are listed.
Returns: from {game.min_utility():g} to {game.max_utility():g}; higher is better."""

    def position(self, state: State, seat: int) -> str:
        public = [] if self._hidden else state.history
        latest = [_describe(played) for played in public[-_LATEST:]]
        moves = f"Latest moves: {', '.join(latest)}\n" if latest else ""
        return f"{moves}The position as you see it:\n{self._view(state, seat).rstrip()}"

    def _view(self, state: State, seat: int) -> str:
        if self._hidden and self._has_information_state:
            return str(state.raw.information_state_string(seat))
        if self._has_observation and (view := state.raw.observation_string(seat)):
            return str(view)
        return "" if self._hidden else str(state)


_SIMULTANEOUS = pyspiel.GameType.Dynamics.SIMULTANEOUS
_DETERMINISTIC = pyspiel.GameType.ChanceMode.DETERMINISTIC


def _describe(played: Played) -> str:
    if played.seat == CHANCE:
        return played.text if played.text.startswith("chance") else f"chance: {played.text}"
    return f"{player(played.seat)}: {played.text}"
