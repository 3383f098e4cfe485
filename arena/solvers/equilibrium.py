"""Solves small poker games with counterfactual regret minimisation (CFR+).

The value of an action is what it brings on average, given what the seat knows, if everything after
it is played as in the equilibrium. Source: Tammelin, "Solving Large Imperfect Information Games
Using CFR+" (2014); the implementation is OpenSpiel's.
"""

from __future__ import annotations

from collections import defaultdict

import pyspiel

from arena.solvers import Judged, Unreached, judge_values

#: Iterations of CFR+: more of them take minutes for Leduc poker, and change no value by more than
#: the tolerance.
_ITERATIONS = 150
#: No move is judged in an information state that the equilibrium reaches in a smaller share of its
#: deals: play there hardly matters, so CFR+ leaves it almost arbitrary. After these iterations,
#: actions that the equilibrium never takes have smaller shares than this.
_REACHED = 3e-3


class EquilibriumSolver:
    """The value of each action at each information state. Only for games with two players."""

    unit = ""
    tolerance = 0.02

    def __init__(self, game: pyspiel.Game) -> None:
        solver = pyspiel.CFRPlusSolver(game)
        for _ in range(_ITERATIONS):
            solver.evaluate_and_update_policy()
        self._policy = solver.tabular_average_policy().policy_table()
        self._sums: defaultdict[str, defaultdict[int, float]] = defaultdict(
            lambda: defaultdict(float)
        )
        self._weights: defaultdict[str, float] = defaultdict(float)
        self._reached: defaultdict[str, float] = defaultdict(float)
        self._dealt: defaultdict[str, float] = defaultdict(float)
        self._walk(game.new_initial_state(), 1.0, (1.0, 1.0))

    def judge(self, state: pyspiel.State, action: int) -> Judged | None:
        key = state.information_state_string()
        if not self.is_reached(key):
            raise Unreached
        weight = self._weights[key]
        values = {legal: total / weight for legal, total in self._sums[key].items()}
        return judge_values(values, action, self.tolerance)

    def is_reached(self, key: str) -> bool:
        """Return whether the equilibrium leads to an information state."""
        return self._reached[key] > _REACHED * self._dealt[key]

    def _walk(self, state: pyspiel.State, dealt: float, reach: tuple[float, float]) -> float:
        """Return player 0's value of a position.

        dealt: the probability of its chance events. reach: the probability of each player's moves.
        """
        if state.is_terminal():
            return float(state.returns()[0])
        if state.is_chance_node():
            expected = 0.0
            for action, share in state.chance_outcomes():
                expected += share * self._walk(state.child(action), dealt * share, reach)
            return expected
        seat, key = state.current_player(), state.information_state_string()
        policy = dict(self._policy[key])
        sign = 1 if seat == 0 else -1
        value = 0.0
        weight = dealt * reach[1 - seat]  # of this position in its information state
        self._weights[key] += weight
        self._reached[key] += weight * reach[seat]
        self._dealt[key] += dealt
        for action in state.legal_actions():
            share = policy.get(action, 0.0)
            below = (reach[0] * share, reach[1]) if seat == 0 else (reach[0], reach[1] * share)
            worth = self._walk(state.child(action), dealt, below)
            self._sums[key][action] += weight * sign * worth
            value += share * worth
        return value


def load(game: pyspiel.Game) -> EquilibriumSolver | None:
    """Return the solver; None with more players, for whom an equilibrium says little."""
    return EquilibriumSolver(game) if game.num_players() == 2 else None
