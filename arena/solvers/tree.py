"""Solves small games with perfect information completely, by minimax over all positions."""

from __future__ import annotations

import pyspiel

from arena.solvers import Judged, judge_values


class TreeSolver:
    """The value of each position for player 0, with best play of both."""

    unit = ""
    tolerance = 0.0

    def __init__(self) -> None:
        self._values: dict[str, float] = {}

    def judge(self, state: pyspiel.State, action: int) -> Judged | None:
        sign = 1 if state.current_player() == 0 else -1
        values = {legal: sign * self._value(state.child(legal)) for legal in state.legal_actions()}
        return judge_values(values, action, self.tolerance)

    def _value(self, state: pyspiel.State) -> float:
        if state.is_terminal():
            return float(state.returns()[0])
        key = f"{state.current_player()} {state}"
        if (known := self._values.get(key)) is None:
            values = [self._value(state.child(action)) for action in state.legal_actions()]
            known = max(values) if state.current_player() == 0 else min(values)
            self._values[key] = known
        return known


def load(game: pyspiel.Game) -> TreeSolver:
    """Return the solver of a game whose drawing shows the whole position."""
    return TreeSolver()
