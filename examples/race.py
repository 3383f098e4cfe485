"""A game of your own: two players add 1, 2 or 3 to a sum, and the one who reaches the goal wins.

Run it from this folder's parent, where Python finds `examples.race`:

    arena run --config examples/race.yaml

RaceGame and RaceState are a game as OpenSpiel needs it (see its python/games). Race describes the
game to players, and experiments name this class.
"""

from __future__ import annotations

from typing import Any, ClassVar

import pyspiel

from arena.games.state import State
from arena.games.text.base import GameText, player

_TYPE = pyspiel.GameType(
    short_name="example_race",
    long_name="Race to a sum",
    dynamics=pyspiel.GameType.Dynamics.SEQUENTIAL,
    chance_mode=pyspiel.GameType.ChanceMode.DETERMINISTIC,
    information=pyspiel.GameType.Information.PERFECT_INFORMATION,
    utility=pyspiel.GameType.Utility.ZERO_SUM,
    reward_model=pyspiel.GameType.RewardModel.TERMINAL,
    max_num_players=2,
    min_num_players=2,
    provides_information_state_string=True,
    provides_information_state_tensor=False,
    provides_observation_string=True,
    provides_observation_tensor=False,
    parameter_specification={"goal": 21},
)


class RaceGame(pyspiel.Game):  # type: ignore[misc]  # OpenSpiel has no types
    """goal: the sum that wins."""

    def __init__(self, params: dict[str, Any] | None = None) -> None:
        self.goal = (params or {}).get("goal", 21)
        info = pyspiel.GameInfo(
            num_distinct_actions=4,
            max_chance_outcomes=0,
            num_players=2,
            min_utility=-1.0,
            max_utility=1.0,
            utility_sum=0.0,
            max_game_length=self.goal,
        )
        super().__init__(_TYPE, info, params or {})

    def new_initial_state(self) -> RaceState:
        return RaceState(self)


class RaceState(pyspiel.State):  # type: ignore[misc]  # OpenSpiel has no types
    """An action is the number to add."""

    def __init__(self, game: RaceGame) -> None:
        super().__init__(game)
        self._goal = game.goal
        self._sum = 0
        self._next = 0

    def current_player(self) -> int:
        return int(pyspiel.PlayerId.TERMINAL) if self.is_terminal() else self._next

    def _legal_actions(self, player: int) -> list[int]:
        return [number for number in (1, 2, 3) if self._sum + number <= self._goal]

    def _apply_action(self, action: int) -> None:
        self._sum += action
        self._next = 1 - self._next

    def _action_to_string(self, player: int, action: int) -> str:
        return f"add {action}"

    def is_terminal(self) -> bool:
        return bool(self._sum == self._goal)

    def returns(self) -> list[float]:
        if not self.is_terminal():
            return [0.0, 0.0]
        return [-1.0, 1.0] if self._next == 0 else [1.0, -1.0]

    def information_state_string(self, player: int | None = None) -> str:
        return str(self)

    observation_string = information_state_string

    def __str__(self) -> str:
        return f"{self._sum} of {self._goal}"


pyspiel.register_game(_TYPE, RaceGame)


class Race(GameText):
    """The description for players. bounds: of parameters, checked before the game is loaded."""

    games = ("example_race",)
    bounds: ClassVar = {"goal": (4, 1000)}

    def __init__(self, game: pyspiel.Game) -> None:
        goal = game.get_parameters().get("goal", 21)
        self.rules = (
            f"Two players take turns to add 1, 2 or 3 to a sum that starts at 0. The player who "
            f"makes it exactly {goal} wins; nobody may exceed {goal}."
        )

    def side(self, seat: int) -> str:
        return f"You are {player(seat)}."

    def position(self, state: State, seat: int) -> str:
        return f"The sum is {state}."
