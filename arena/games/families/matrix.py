"""Games of one simultaneous move and a table of payoffs, played once or repeatedly."""

from __future__ import annotations

import pyspiel

from arena.games.families.family import Family, player
from arena.games.state import State


class MatrixGame(Family):
    """game: a pyspiel.MatrixGame, or OpenSpiel's repeated_game of one."""

    def __init__(self, game: pyspiel.Game) -> None:
        self._rounds: int = game.get_parameters().get("num_repetitions", 1)
        stage = stage_of(game) or game
        rows = [stage.row_action_name(row) for row in range(stage.num_rows())]
        columns = [stage.col_action_name(column) for column in range(stage.num_cols())]
        table = "\n".join(
            f"- player 0: {row}, player 1: {column} -> "
            f"player 0 gets {stage.row_utility(r, c):g}, player 1 gets {stage.col_utility(r, c):g}"
            for r, row in enumerate(rows)
            for c, column in enumerate(columns)
        )
        times = (
            f"{self._rounds} rounds of this are played"
            if self._rounds > 1
            else "This is played once"
        )
        self.rules = f"""\
Game: {game.get_type().long_name}.
Rules: two players choose one action each, at the same time; neither knows what the other \
chooses. {times}. The payoffs of a round are:
{table}
Actions: {_listed("player 0", rows)}; {_listed("player 1", columns)}.
Returns: the payoff, summed over all rounds."""

    def side(self, seat: int) -> str:
        return f"You are player {seat}."

    def position(self, state: State, seat: int) -> str:
        if self._rounds == 1:
            return "Both players choose now."
        return f"{self.board(state)}\nNow: round {len(state.history) // 2 + 1} of {self._rounds}"

    def board(self, state: State) -> str:
        told = [f"{player(played.seat)}: {played.text}" for played in state.history]
        rounds = (", ".join(told[first : first + 2]) for first in range(0, len(told), 2))
        lines = [f"Round {number}: {both}" for number, both in enumerate(rounds, 1)]
        return "\n".join(lines) or "Nothing has been played yet."


def stage_of(game: pyspiel.Game) -> pyspiel.MatrixGame | None:
    """The game that a repeated_game repeats, if that is a MatrixGame."""
    if game.get_type().short_name != "repeated_game":
        return None
    given = game.get_parameters()["stage_game"]
    stage = pyspiel.load_game(given.pop("name"), given)
    return stage if isinstance(stage, pyspiel.MatrixGame) else None


def _listed(who: str, names: list[str]) -> str:
    return f"{', '.join(names)} of {who}"
