"""Disguises: games of OpenSpiel with other words and the same tree.

A model that knows a game may recall moves that it has read; under other words it must reason. A
disguise is a separate game for OpenSpiel: every position, legal action, chance event and return
is that of the original. The names of the actions differ, and so may their numbers, because prompts
list actions by number: the original's order would give it away.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import pyspiel

#: The original of each disguise, by OpenSpiel's names.
ORIGINALS: dict[str, str] = {}

#: Returns the name of an action, given the player and the original's name of it.
Rename = Callable[[int, str], str]


class Numbering:
    """The numbers of a disguise's actions. order: the original's numbers in the disguise's order;
    empty if they are the same. Chance events always have the original's numbers.
    """

    def __init__(self, order: Sequence[int] = ()) -> None:
        self._originals = tuple(order)
        self._own = {action: number for number, action in enumerate(order)}

    def to_original(self, action: int) -> int:
        """Return the original's number of an action."""
        return self._originals[action] if self._originals else action

    def to_disguised(self, action: int) -> int:
        """Return the disguise's number of an action of the original."""
        return self._own[action] if self._own else action


#: The numbering of each disguise.
NUMBERINGS: dict[str, Numbering] = {}


def register_disguise(
    name: str, title: str, original: str, rename: Rename, order: Sequence[int] = ()
) -> None:
    """Register a disguise with OpenSpiel. It has the original's default parameters.

    order: see Numbering.
    """
    kind = pyspiel.load_game(original).get_type()
    disguised = pyspiel.GameType(
        short_name=name,
        long_name=title,
        dynamics=kind.dynamics,
        chance_mode=kind.chance_mode,
        information=kind.information,
        utility=kind.utility,
        reward_model=kind.reward_model,
        max_num_players=2,
        min_num_players=2,
        provides_information_state_string=kind.provides_information_state_string,
        provides_information_state_tensor=False,
        provides_observation_string=kind.provides_observation_string,
        provides_observation_tensor=False,
        parameter_specification={},
    )

    # A class, not a function, because OpenSpiel releases it only after Python has ended.
    numbering = Numbering(order)
    members = {
        "kind": disguised, "original": original, "rename": staticmethod(rename),
        "numbering": numbering,
    }  # fmt: skip
    pyspiel.register_game(disguised, type(name, (DisguisedGame,), members))
    ORIGINALS[name] = original
    NUMBERINGS[name] = numbering


class DisguisedGame(pyspiel.Game):  # type: ignore[misc]  # OpenSpiel has no types
    """The original with other names and numbers of the actions; a subclass for each disguise."""

    kind: ClassVar[pyspiel.GameType]
    numbering: ClassVar[Numbering]
    original: ClassVar[str]
    rename: ClassVar[Rename]

    def __init__(self, params: dict[str, Any] | None = None) -> None:
        self.inner = pyspiel.load_game(self.original)
        info = pyspiel.GameInfo(
            num_distinct_actions=self.inner.num_distinct_actions(),
            max_chance_outcomes=self.inner.max_chance_outcomes(),
            num_players=self.inner.num_players(),
            min_utility=self.inner.min_utility(),
            max_utility=self.inner.max_utility(),
            utility_sum=self.inner.utility_sum(),
            max_game_length=self.inner.max_game_length(),
        )
        super().__init__(self.kind, info, params or {})

    def new_initial_state(self) -> DisguisedState:
        return DisguisedState(self)


class DisguisedState(pyspiel.State):  # type: ignore[misc]  # OpenSpiel has no types
    """A position. inner: the original's."""

    def __init__(self, game: DisguisedGame) -> None:
        super().__init__(game)
        self.inner: pyspiel.State = game.inner.new_initial_state()
        self._rename: Rename = type(game).rename
        self._numbering = type(game).numbering

    def current_player(self) -> int:
        return int(self.inner.current_player())

    def _legal_actions(self, player: int) -> list[int]:
        return sorted(map(self._numbering.to_disguised, self.inner.legal_actions(player)))

    def chance_outcomes(self) -> list[tuple[int, float]]:
        return list(self.inner.chance_outcomes())

    def _apply_action(self, action: int) -> None:
        is_chance = self.inner.is_chance_node()
        self.inner.apply_action(action if is_chance else self._numbering.to_original(action))

    def _apply_actions(self, actions: Sequence[int]) -> None:
        self.inner.apply_actions(list(map(self._numbering.to_original, actions)))

    def _action_to_string(self, player: int, action: int) -> str:
        original = action if player < 0 else self._numbering.to_original(action)
        return self._rename(player, self.inner.action_to_string(player, original))

    def is_terminal(self) -> bool:
        return bool(self.inner.is_terminal())

    def returns(self) -> list[float]:
        return list(self.inner.returns())

    def information_state_string(self, player: int | None = None) -> str:
        seat = self.current_player() if player is None else player
        return str(self.inner.information_state_string(seat))

    def observation_string(self, player: int | None = None) -> str:
        seat = self.current_player() if player is None else player
        return str(self.inner.observation_string(seat))

    def __str__(self) -> str:
        return str(self.inner)
