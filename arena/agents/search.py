"""OpenSpiel's own players, which search: yardsticks that need no model."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pyspiel
from open_spiel.python.algorithms.minimax import alpha_beta_search

from arena.agents.base import Agent, Attempt, Status, Turn
from arena.agents.config import MctsConfig, MinimaxConfig
from arena.calls import Ask
from arena.games.game import Game, GameError

#: OpenSpiel's seeds have 31 bits.
_SEEDS = 2**31
#: Of one search; far more than the most simulations need.
_MEMORY_MB = 4096


class MctsAgent(Agent):
    """Monte Carlo tree search; a search of its own for each turn, from the turn's seed."""

    def __init__(self, config: MctsConfig) -> None:
        self._config = config

    async def act(self, turn: Turn, before: Sequence[Attempt], ask: Ask) -> Attempt:
        return Attempt(Status.OK, await asyncio.to_thread(self._search, turn))

    def _search(self, turn: Turn) -> int:
        seed = turn.seed % _SEEDS
        bot = pyspiel.MCTSBot(
            turn.game.raw,
            pyspiel.RandomRolloutEvaluator(n_rollouts=1, seed=seed),
            uct_c=self._config.uct_c,
            max_simulations=self._config.simulations,
            max_memory_mb=_MEMORY_MB,
            solve=True,
            seed=seed,
            verbose=False,
        )
        return int(bot.step(turn.state.raw))

    @staticmethod
    def check(game: Game) -> None:
        """Raise GameError where the search would need more than the seat may know."""
        _check(game, "mcts", _open_turns(game), "open, in turn, with rewards at the end")


class MinimaxAgent(Agent):
    """Alpha-beta search to a depth; of equally good actions, the first."""

    def __init__(self, config: MinimaxConfig) -> None:
        self._config = config

    async def act(self, turn: Turn, before: Sequence[Attempt], ask: Ask) -> Attempt:
        return Attempt(Status.OK, await asyncio.to_thread(self._search, turn))

    def _search(self, turn: Turn) -> int:
        _, action = alpha_beta_search(
            turn.game.raw,
            state=turn.state.raw,
            value_function=lambda state: 0,
            maximum_depth=self._config.depth,
        )
        return int(action)

    @staticmethod
    def check(game: Game) -> None:
        """Raise GameError where alpha-beta does not hold."""
        kind = game.raw.get_type()
        fits = (
            _open_turns(game)
            and game.players == 2
            and game.deterministic
            and kind.utility == pyspiel.GameType.Utility.ZERO_SUM
        )
        _check(game, "minimax", fits, "open, in turn, of two players, zero-sum, without chance")


def _open_turns(game: Game) -> bool:
    """Whether all is known to all, one moves at a time, and rewards come at the end."""
    kind = game.raw.get_type()
    return (
        game.perfect_information
        and kind.dynamics == pyspiel.GameType.Dynamics.SEQUENTIAL
        and kind.reward_model == pyspiel.GameType.RewardModel.TERMINAL
    )


def _check(game: Game, player: str, fits: bool, wanted: str) -> None:
    if not fits:
        raise GameError(f"game {game.spec}: {player} plays only games that are {wanted}")
