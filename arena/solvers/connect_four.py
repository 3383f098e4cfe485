"""Solves connect four with the package bitbully (under the AGPL, so it is a separate extra)."""

from __future__ import annotations

from typing import Any

import pyspiel

from arena.solvers import Judged, SolverMissing, judge_values


class ConnectFourSolver:
    """Wins are worth 1, draws 0, losses -1; of several wins the fastest is called best."""

    unit = ""
    tolerance = 0.0

    def __init__(self, board: Any, engine: Any) -> None:
        """board: the class of positions."""
        self._board = board
        self._engine = engine

    def judge(self, state: pyspiel.State, action: int) -> Judged | None:
        board = self._board()
        for played in state.history():
            board.play(played)
        scores: dict[int, int] = self._engine.score_all_moves(board)
        values = {column: float((score > 0) - (score < 0)) for column, score in scores.items()}
        regret = judge_values(values, action, self.tolerance).regret
        most = max(scores.values())
        return Judged(regret, tuple(sorted(c for c, score in scores.items() if score == most)))


def load(game: pyspiel.Game) -> ConnectFourSolver | None:
    """Return the solver; None for other boards than 6 x 7. Raises SolverMissing."""
    parameters = game.get_parameters()
    if (parameters.get("rows", 6), parameters.get("columns", 7), parameters.get("x_in_row", 4)) != (
        6, 7, 4,
    ):  # fmt: skip
        return None
    try:
        from bitbully import BitBully, Board
    except ImportError:
        raise SolverMissing(
            "connect_four: moves are not judged without the package bitbully: run "
            "`make setup WITH=solvers`, or install the extra solvers of arena-llm-services"
        ) from None
    return ConnectFourSolver(Board, BitBully())
