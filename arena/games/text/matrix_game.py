"""Games with one simultaneous move and a table of payoffs, played once or repeatedly."""

from __future__ import annotations

from typing import ClassVar

import pyspiel

from arena.games.state import State
from arena.games.text.base import GameText, Playout, player


class MatrixGameText(GameText):
    """game: a pyspiel.MatrixGame, or OpenSpiel's repeated_game of one."""

    playouts: ClassVar = {
        "matrix_mp": Playout(2, 2.0, 262),
        "matrix_pd": Playout(2, 2.0, 277),
        "matrix_rps": Playout(2, 2.0, 405),
    }

    def __init__(self, game: pyspiel.Game) -> None:
        self._rounds: int = game.get_parameters().get("num_repetitions", 1)
        stage = _stage_game(game) or game
        rows = [stage.row_action_name(row) for row in range(stage.num_rows())]
        columns = [stage.col_action_name(column) for column in range(stage.num_cols())]
        table = "\n".join(
            f"- player 0: {row}, player 1: {column} -> "
            f"player 0 gets {stage.row_utility(r, c):g}, player 1 gets {stage.col_utility(r, c):g}"
            for r, row in enumerate(rows)
            for c, column in enumerate(columns)
        )
        if self._rounds > 1:
            times, returns = (
                f"The game has {self._rounds} rounds",
                "the sum of the payoffs of all rounds",
            )
        else:
            times, returns = "The game has one round", "the payoff"
        actions = ", ".join(rows)
        if rows != columns:
            actions = f"player 0 chooses from {actions}; player 1 chooses from {', '.join(columns)}"
        self.rules = f"""\
Game: {game.get_type().long_name}.
Rules: two players choose one action each, at the same time, without knowing what the other \
player chooses. {times}. The payoffs of a round are:
{table}
Actions: {actions}.
Returns: {returns}."""

    @classmethod
    def describes(cls, game: pyspiel.Game) -> bool:
        return isinstance(game, pyspiel.MatrixGame) or _stage_game(game) is not None

    def position(self, state: State, seat: int) -> str:
        if self._rounds == 1:
            return "Both players choose now."
        return f"{self.board(state)}\nNow: round {len(state.history) // 2 + 1} of {self._rounds}"

    def board(self, state: State) -> str:
        actions = [f"{player(played.seat)}: {played.text}" for played in state.history]
        rounds = (", ".join(actions[first : first + 2]) for first in range(0, len(actions), 2))
        lines = [f"Round {number}: {both}" for number, both in enumerate(rounds, 1)]
        return "\n".join(lines) or "No round has been played yet."


def _stage_game(game: pyspiel.Game) -> pyspiel.MatrixGame | None:
    """Return the game that a repeated_game repeats, if it is a MatrixGame; else None."""
    if game.get_type().short_name != "repeated_game":
        return None
    parameters = game.get_parameters()["stage_game"]
    stage = pyspiel.load_game(parameters.pop("name"), parameters)
    return stage if isinstance(stage, pyspiel.MatrixGame) else None
