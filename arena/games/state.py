"""A position: OpenSpiel's state, with what was played to reach it."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import NamedTuple

import pyspiel

#: The seat of chance.
CHANCE = -1


class LegalAction(NamedTuple):
    """OpenSpiel's number of an action and its string."""

    action: int
    text: str


class Played(NamedTuple):
    """An action that was played. seat: CHANCE for an event of chance."""

    seat: int
    action: int
    text: str


class State:
    """A position of one game, changed by `apply`.

    raw: OpenSpiel's state, which knows every player's secrets. history: all actions so
    far, oldest first; of players who moved at once, in seat order.
    """

    def __init__(self, raw: pyspiel.State, draw: Callable[[State], str] = str) -> None:
        self.raw = raw
        self.history: list[Played] = []
        self._draw = draw

    @property
    def is_terminal(self) -> bool:
        return bool(self.raw.is_terminal())

    @property
    def is_chance(self) -> bool:
        return bool(self.raw.is_chance_node())

    def players_to_move(self) -> tuple[int, ...]:
        """The seats to move: several where they move at once, none at chance or the end."""
        if self.raw.is_simultaneous_node():
            seats = range(self.raw.num_players())
            return tuple(seat for seat in seats if self.raw.legal_actions(seat))
        player = self.raw.current_player()
        return (player,) if player >= 0 else ()

    def legal_actions(self, seat: int) -> tuple[LegalAction, ...]:
        """What a seat may do now, in ascending order of numbers."""
        name = self.raw.action_to_string
        return tuple(LegalAction(a, name(seat, a)) for a in self.raw.legal_actions(seat))

    def draw_chance(self, rng: random.Random) -> LegalAction:
        """An outcome of chance, drawn by its probability; it is not applied."""
        actions, weights = zip(*self.raw.chance_outcomes(), strict=True)
        (action,) = rng.choices(actions, weights)
        return LegalAction(action, self.raw.action_to_string(CHANCE, action))

    def apply(self, actions: Mapping[int, int]) -> None:
        """Play: one action for each seat that is to move, or {CHANCE: action}.

        Raises ValueError for another seat or an action that is not legal: OpenSpiel
        itself would play on from a corrupt state.
        """
        expected = (CHANCE,) if self.is_chance else self.players_to_move()
        if tuple(sorted(actions)) != expected:
            raise ValueError(f"seats {sorted(actions)} do not move now, but {list(expected)} do")
        played = [self._played(seat, actions[seat]) for seat in expected]
        if self.raw.is_simultaneous_node():
            # OpenSpiel wants 0 for those who have nothing to choose.
            seats = range(self.raw.num_players())
            self.raw.apply_actions([actions.get(seat, 0) for seat in seats])
        else:
            self.raw.apply_action(played[0].action)
        self.history += played

    def _played(self, seat: int, action: int) -> Played:
        legal = self.raw.legal_actions() if seat == CHANCE else self.raw.legal_actions(seat)
        if action not in legal:
            raise ValueError(f"seat {seat} may not play {action}: legal are {legal}")
        return Played(seat, action, self.raw.action_to_string(seat, action))

    def returns(self) -> tuple[float, ...]:
        """Each seat's return, in seat order."""
        # Of -0.0, OpenSpiel's for some draws, this makes 0.0.
        return tuple(float(value) + 0.0 for value in self.raw.returns())

    def board(self) -> str:
        """The position as a spectator sees it, all cards open."""
        return self._draw(self)

    def __str__(self) -> str:
        return str(self.raw)
