"""Games with one simultaneous move and a table of payoffs, played once or repeatedly."""

from __future__ import annotations

from itertools import product
from math import prod
from typing import ClassVar

import pyspiel

from arena.games.state import State
from arena.games.text.base import GameText, Playout, player

#: Games with a longer table get the generic text.
_MAX_ROWS = 64


class MatrixGameText(GameText):
    """game: any game of one simultaneous move without chance, or OpenSpiel's repeated_game of one.

    The payoffs are read from the game itself.
    """

    playouts: ClassVar = {
        "matrix_mp": Playout(2, 2.0, 266),
        "matrix_pd": Playout(2, 2.0, 281),
        "matrix_rps": Playout(2, 2.0, 410),
    }

    def __init__(self, game: pyspiel.Game) -> None:
        self._rounds: int = game.get_parameters().get("num_repetitions", 1)
        self._players: int = game.num_players()
        stage = _stage_game(game)
        seats = range(self._players)
        first = stage.new_initial_state()
        names = [
            {action: first.action_to_string(seat, action) for action in first.legal_actions(seat)}
            for seat in seats
        ]
        table = "\n".join(
            f"- {', '.join(f'{player(s)}: {names[s][a]}' for s, a in enumerate(actions))} -> "
            + ", ".join(f"{player(s)} gets {value:g}" for s, value in _payoffs(stage, actions))
            for actions in product(*names)
        )
        if self._rounds > 1:
            times, returns = (
                f"The game has {self._rounds} rounds",
                "the sum of the payoffs of all rounds",
            )
        else:
            times, returns = "The game has one round", "the payoff"
        lists = [", ".join(own.values()) for own in names]
        actions = lists[0]
        if len(set(lists)) > 1:
            actions = "; ".join(f"{player(s)} chooses from {own}" for s, own in enumerate(lists))
        who = "two players" if self._players == 2 else f"{self._players} players"
        other = "the other player chooses" if self._players == 2 else "the other players choose"
        self.rules = f"""\
Game: {game.get_type().long_name}.
Rules: {who} choose one action each, at the same time, without knowing what {other}. {times}. The \
payoffs of a round are:
{table}
Actions: {actions}.
Returns: {returns}."""

    @classmethod
    def describes(cls, game: pyspiel.Game) -> bool:
        stage = _stage_game(game)
        kind = stage.get_type()
        if kind.information != pyspiel.GameType.Information.ONE_SHOT or (
            kind.dynamics != pyspiel.GameType.Dynamics.SIMULTANEOUS
        ):
            return False
        state = stage.new_initial_state()
        sizes = (len(state.legal_actions(seat)) for seat in range(stage.num_players()))
        return prod(sizes) <= _MAX_ROWS

    def position(self, state: State, seat: int) -> str:
        if self._rounds == 1:
            everybody = "Both" if self._players == 2 else "All"
            return f"{everybody} players choose now."
        number = len(state.history) // self._players + 1
        return f"{self.board(state)}\nNow: round {number} of {self._rounds}"

    def board(self, state: State) -> str:
        actions = [f"{player(played.seat)}: {played.text}" for played in state.history]
        starts = range(0, len(actions), self._players)
        rounds = (", ".join(actions[start : start + self._players]) for start in starts)
        lines = [f"Round {number}: {chosen}" for number, chosen in enumerate(rounds, 1)]
        return "\n".join(lines) or "No round has been played yet."


def _stage_game(game: pyspiel.Game) -> pyspiel.Game:
    """Return the game that a repeated_game repeats; another game is its own stage."""
    if game.get_type().short_name != "repeated_game":
        return game
    parameters = game.get_parameters()["stage_game"]
    return pyspiel.load_game(parameters.pop("name"), parameters)


def _payoffs(stage: pyspiel.Game, actions: tuple[int, ...]) -> list[tuple[int, float]]:
    state = stage.new_initial_state()
    state.apply_actions(list(actions))
    # Adding 0.0 turns -0.0 into 0.0.
    return [(seat, value + 0.0) for seat, value in enumerate(state.returns())]
