"""Any other game, in OpenSpiel's own words."""

from __future__ import annotations

import pyspiel

from arena.games.families.family import Family, player
from arena.games.state import CHANCE, Played, State

#: Most moves told; the latest ones.
_LATEST = 40


class Generic(Family):
    """What is public is told as far as OpenSpiel says which information is public.

    With hidden information a position is the seat's information state string, which
    tells all that the seat has seen (or, where the game has none, its observation), and
    nothing else.
    """

    def __init__(self, game: pyspiel.Game) -> None:
        kind = game.get_type()
        self._hidden = kind.information == pyspiel.GameType.Information.IMPERFECT_INFORMATION
        self._informs: bool = kind.provides_information_state_string
        self._observes: bool = kind.provides_observation_string
        if self._hidden and not (self._informs or self._observes):
            raise ValueError("it has hidden information, and no view for one player")
        turns = "at the same time" if kind.dynamics == _SIMULTANEOUS else "in turn"
        chance = "no chance" if kind.chance_mode == _DETERMINISTIC else "chance"
        hidden = "part of the position is hidden" if self._hidden else "all is open"
        self.rules = f"""\
Game: {kind.long_name}, as OpenSpiel implements it: {game}.
Rules: those of the game of that name. There are {game.num_players()} players, counted from 0, \
who act {turns}; there is {chance}, and {hidden}.
Actions: as OpenSpiel writes them; the legal ones are listed.
Returns: from {game.min_utility():g} to {game.max_utility():g}; the more the better."""

    def side(self, seat: int) -> str:
        return f"You are player {seat}."

    def position(self, state: State, seat: int) -> str:
        told = state.history if not self._hidden else []
        latest = [_told(played) for played in told[-_LATEST:]]
        moves = f"Latest moves: {', '.join(latest)}\n" if latest else ""
        return f"{moves}The position as you see it:\n{self._view(state, seat).rstrip()}"

    def _view(self, state: State, seat: int) -> str:
        if self._hidden:
            sees = "information_state_string" if self._informs else "observation_string"
            return str(getattr(state.raw, sees)(seat))
        return (self._observes and state.raw.observation_string(seat)) or str(state)


_SIMULTANEOUS = pyspiel.GameType.Dynamics.SIMULTANEOUS
_DETERMINISTIC = pyspiel.GameType.ChanceMode.DETERMINISTIC


def _told(played: Played) -> str:
    return f"{'chance' if played.seat == CHANCE else player(played.seat)}: {played.text}"
