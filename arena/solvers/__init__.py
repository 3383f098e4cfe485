"""Solvers of games: what each legal action of a position is worth, and so how good a move was.

A solver is a module of this package with a function `load`. It costs nothing until one of its games
is judged. A disguise is judged as its original.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from importlib import import_module
from typing import NamedTuple, Protocol

import pyspiel

from arena.games.disguise import NUMBERINGS, ORIGINALS

#: The module that solves each game.
MODULES = {
    "tic_tac_toe": "arena.solvers.tree",
    "kuhn_poker": "arena.solvers.equilibrium",
    "leduc_poker": "arena.solvers.equilibrium",
    "connect_four": "arena.solvers.connect_four",
    "chess": "arena.solvers.chess",
}

#: Games with a slow solver, and how many moves of a file are judged at most, in about 15 seconds.
LIMITS = {"chess": 300, "connect_four": 1_000}

#: The largest regret in chess: from a mate for one side to one for the other.
PAWNS = 20.0


class SolverMissing(Exception):
    """A game has a solver that is not installed. The message says how to install it."""


class Unreached(Exception):
    """Best play of all players does not lead to a position, so no value of it is right or wrong."""


class Judged(NamedTuple):
    """How good a move was.

    regret: how much more the best action is worth, in the game's returns (chess: in pawns); 0 for a
    best one. best: the actions that are worth most.
    """

    regret: float
    best: tuple[int, ...]


class Solver(Protocol):
    """Values the actions of one game. unit: of the values, for people; empty: returns.

    tolerance: a smaller difference of values says nothing.
    """

    unit: str
    tolerance: float

    def judge(self, state: pyspiel.State, action: int) -> Judged | None:
        """Judge an action of the seat that moves; None if the position cannot be solved.

        Raises Unreached.
        """


def judge_values(values: Mapping[int, float], action: int, tolerance: float) -> Judged:
    """Judge an action by the values of all legal actions."""
    most = max(values.values())
    regret = most - values[action]
    best = tuple(one for one, value in values.items() if most - value <= tolerance)
    return Judged(0.0 if regret <= tolerance else regret, best)


def find_original(game: str) -> str:
    """Return OpenSpiel's short name of a game; of a disguise, the original's."""
    short = game.partition("(")[0]
    return ORIGINALS.get(short, short)


@lru_cache(maxsize=16)
def load_solver(game: str) -> Solver | None:
    """Return the solver of a game; None if there is none.

    Raises SolverMissing.
    """
    if original := ORIGINALS.get(game.partition("(")[0]):
        solver = load_solver(original)
        return solver and _DisguiseSolver(game, solver)
    raw = pyspiel.load_game(game)
    module = MODULES.get(raw.get_type().short_name)
    if module is None:
        return None
    found: Solver | None = import_module(module).load(raw)
    return found


class _DisguiseSolver:
    """Judges the actions of a disguise as those of its original: the trees are equal."""

    def __init__(self, game: str, solver: Solver) -> None:
        """solver: of the original."""
        self._numbering = NUMBERINGS[game]
        self._solver = solver
        self.unit, self.tolerance = solver.unit, solver.tolerance

    def judge(self, state: pyspiel.State, action: int) -> Judged | None:
        judged = self._solver.judge(state.inner, self._numbering.to_original(action))
        if judged is None:
            return None
        return judged._replace(best=tuple(sorted(map(self._numbering.to_disguised, judged.best))))
