"""Players from their settings."""

from __future__ import annotations

from functools import cache

from arena.agents.base import Agent
from arena.agents.config import AgentConfig, HumanConfig, LlmConfig, MctsConfig, MinimaxConfig
from arena.agents.human import HumanAgent, Terminal
from arena.agents.llm import LlmAgent
from arena.agents.search import MctsAgent, MinimaxAgent
from arena.agents.uniform import RandomAgent
from arena.games.game import Game

#: The one terminal of this process.
_terminal = cache(Terminal)


def build(config: AgentConfig) -> Agent:
    """A player for one seat of one episode."""
    match config:
        case LlmConfig():
            return LlmAgent(config)
        case MctsConfig():
            return MctsAgent(config)
        case MinimaxConfig():
            return MinimaxAgent(config)
        case HumanConfig():
            return HumanAgent(_terminal())
        case _:
            return RandomAgent()


def check_game(config: AgentConfig, game: Game) -> None:
    """Raise GameError where a player of these settings cannot play the game."""
    match config:
        case MctsConfig():
            MctsAgent.check(game)
        case MinimaxConfig():
            MinimaxAgent.check(game)
