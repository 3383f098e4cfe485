"""A position: OpenSpiel's state and the actions that led to it."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import NamedTuple

import pyspiel

#: The seat number of chance.
CHANCE = -1


class LegalAction(NamedTuple):
    """An action: the number and the name that OpenSpiel gives it."""

    action: int
    text: str


class Played(NamedTuple):
    """An action that was played. seat: CHANCE for a chance event."""

    seat: int
    action: int
    text: str


class State:
    """A position of one game, changed by `apply`.

    raw: OpenSpiel's state, which includes all players' hidden information. history: all
    actions so far, oldest first; simultaneous actions in seat order.
    """

    def __init__(self, raw: pyspiel.State, draw_board: Callable[[State], str] = str) -> None:
        self.raw = raw
        self.history: list[Played] = []
        self._draw_board = draw_board

    @property
    def is_terminal(self) -> bool:
        """Whether the game has ended."""
        return bool(self.raw.is_terminal())

    @property
    def is_chance(self) -> bool:
        """Whether the next action is a chance event."""
        return bool(self.raw.is_chance_node())

    def players_to_move(self) -> tuple[int, ...]:
        """Return the seats to move; several if they move at the same time.

        Empty at chance events and at the end of the game.
        """
        if self.raw.is_simultaneous_node():
            seats = range(self.raw.num_players())
            return tuple(seat for seat in seats if self.raw.legal_actions(seat))
        player = self.raw.current_player()
        return (player,) if player >= 0 else ()

    def legal_actions(self, seat: int) -> tuple[LegalAction, ...]:
        """Return a seat's legal actions, in ascending order of their numbers."""
        name = self.raw.action_to_string
        return tuple(LegalAction(a, name(seat, a)) for a in self.raw.legal_actions(seat))

    def draw_chance(self, rng: random.Random) -> LegalAction:
        """Draw a chance outcome by its probability, without applying it."""
        actions, weights = zip(*self.raw.chance_outcomes(), strict=True)
        (action,) = rng.choices(actions, weights)
        return LegalAction(action, self.raw.action_to_string(CHANCE, action))

    def apply(self, actions: Mapping[int, int]) -> None:
        """Play one action for each seat to move, or {CHANCE: action} for a chance event.

        Raises ValueError for a wrong seat or an illegal action, because OpenSpiel itself would
        continue with a corrupt state.
        """
        expected = (CHANCE,) if self.is_chance else self.players_to_move()
        if tuple(sorted(actions)) != expected:
            raise ValueError(f"seats {sorted(actions)} do not move now, but {list(expected)} do")
        played = [self._check(seat, actions[seat]) for seat in expected]
        if self.raw.is_simultaneous_node():
            # OpenSpiel expects 0 for seats that have no choice.
            seats = range(self.raw.num_players())
            self.raw.apply_actions([actions.get(seat, 0) for seat in seats])
        else:
            self.raw.apply_action(played[0].action)
        self.history += played

    def _check(self, seat: int, action: int) -> Played:
        legal = self.raw.legal_actions() if seat == CHANCE else self.raw.legal_actions(seat)
        if action not in legal:
            raise ValueError(f"seat {seat} may not play {action}: legal are {legal}")
        return Played(seat, action, self.raw.action_to_string(seat, action))

    def returns(self) -> tuple[float, ...]:
        """Return each seat's return, in seat order."""
        # Adding 0.0 turns -0.0, which OpenSpiel returns for some draws, into 0.0.
        return tuple(float(value) + 0.0 for value in self.raw.returns())

    def board(self) -> str:
        """Return the position as a spectator sees it, with all hidden information."""
        return self._draw_board(self)

    def __str__(self) -> str:
        return str(self.raw)
