"""OpenSpiel's search algorithms as agents: baselines that need no model."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pyspiel
from open_spiel.python.algorithms.minimax import alpha_beta_search

from arena.agents.base import Agent, Answer, AnswerStatus, Turn
from arena.agents.calls import Ask
from arena.agents.settings import MctsSettings, MinimaxSettings
from arena.games.game import Game, GameError

#: OpenSpiel's seeds have 31 bits.
_SEEDS = 2**31
#: Limit of one search, far above what the highest number of simulations needs.
_MEMORY_MB = 4096


class MctsAgent(Agent):
    """Monte Carlo tree search. Each turn starts a new search with the turn's seed."""

    Settings = MctsSettings
    settings: MctsSettings

    async def act(self, turn: Turn, before: Sequence[Answer], ask: Ask) -> Answer:
        return Answer(AnswerStatus.OK, await asyncio.to_thread(self._search, turn))

    def _search(self, turn: Turn) -> int:
        seed = turn.seed % _SEEDS
        bot = pyspiel.MCTSBot(
            turn.game.raw,
            pyspiel.RandomRolloutEvaluator(n_rollouts=1, seed=seed),
            uct_c=self.settings.uct_c,
            max_simulations=self.settings.simulations,
            max_memory_mb=_MEMORY_MB,
            solve=True,
            seed=seed,
            verbose=False,
        )
        return int(bot.step(turn.state.raw))

    @classmethod
    def check_game(cls, settings: Any, game: Game) -> None:
        """Raise GameError if the search would use information that the seat must not have."""
        _require(
            game,
            "mcts",
            _is_open_and_sequential(game),
            "with perfect information, in which players move in turn and rewards come at the end",
        )


class MinimaxAgent(Agent):
    """Alpha-beta search to a fixed depth. Of equally good actions it takes the first."""

    Settings = MinimaxSettings
    settings: MinimaxSettings

    async def act(self, turn: Turn, before: Sequence[Answer], ask: Ask) -> Answer:
        return Answer(AnswerStatus.OK, await asyncio.to_thread(self._search, turn))

    def _search(self, turn: Turn) -> int:
        _, action = alpha_beta_search(
            turn.game.raw,
            state=turn.state.raw,
            value_function=lambda state: 0,
            maximum_depth=self.settings.depth,
        )
        return int(action)

    @classmethod
    def check_game(cls, settings: Any, game: Game) -> None:
        """Raise GameError if alpha-beta search does not apply to the game."""
        fits = (
            _is_open_and_sequential(game)
            and game.players == 2
            and game.deterministic
            and game.raw.get_type().utility == pyspiel.GameType.Utility.ZERO_SUM
        )
        _require(
            game,
            "minimax",
            fits,
            "of two players in turn, zero-sum, without chance, with perfect information and "
            "rewards at the end",
        )


def _is_open_and_sequential(game: Game) -> bool:
    """Whether players see everything, move one at a time, and are rewarded at the end."""
    kind = game.raw.get_type()
    return (
        game.perfect_information
        and kind.dynamics == pyspiel.GameType.Dynamics.SEQUENTIAL
        and kind.reward_model == pyspiel.GameType.RewardModel.TERMINAL
    )


def _require(game: Game, player: str, fits: bool, condition: str) -> None:
    if not fits:
        raise GameError(f"game {game.spec}: {player} plays only games {condition}")
