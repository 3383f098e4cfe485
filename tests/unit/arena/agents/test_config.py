"""The settings of players, and the players made of them."""

from __future__ import annotations

from typing import Any

import pytest

from arena.agents.config import LlmConfig, MctsConfig, agent_config
from arena.agents.human import HumanAgent
from arena.agents.llm import LlmAgent
from arena.agents.registry import build, check_game
from arena.agents.search import MctsAgent, MinimaxAgent
from arena.agents.uniform import RandomAgent
from arena.games.game import Game, GameError

LLM = {"type": "llm", "model": "hf_m"}


def test_what_is_not_given_has_its_documented_default() -> None:
    config = agent_config(LLM)
    assert isinstance(config, LlmConfig)
    assert (config.reply, config.on_illegal, config.score_pick) == ("json", "forfeit", "argmax")
    assert (config.send_seed, config.system) == (False, "")
    assert [getattr(config, name) for name in LlmConfig.SAMPLING] == [None] * 8
    assert agent_config({"type": "mcts"}) == MctsConfig(type="mcts", simulations=1000, uct_c=2.0)


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        (LLM, LlmAgent),
        ({"type": "random"}, RandomAgent),
        ({"type": "human"}, HumanAgent),
        ({"type": "mcts", "simulations": 10}, MctsAgent),
        ({"type": "minimax", "depth": 3}, MinimaxAgent),
    ],
)
def test_each_type_has_its_player(settings: dict[str, Any], kind: type) -> None:
    assert type(build(agent_config(settings))) is kind


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({}, "type: must be one of llm, random, human, mcts, minimax, not None"),
        ({"type": "robot"}, "not 'robot'"),
        ({"type": ["llm"]}, "not ['llm']"),
        ({"type": "llm"}, "model: is missing"),
        ({"type": "llm", "model": ""}, "model: String should have at least 1"),
        ({"type": "llm", "model": 3}, "model: "),
        (LLM | {"temprature": 1}, "temprature: is no known key; near it: temperature"),
        (LLM | {"reply": "yaml"}, "reply: Input should be 'json', 'choices' or 'score'"),
        (LLM | {"on_illegal": "retry"}, "on_illegal: "),
        (LLM | {"on_illegal": "retry 0"}, "must be forfeit, random, retry N"),
        (LLM | {"on_illegal": "retry 2 then resign"}, "on_illegal: "),
        (LLM | {"temperature": -1}, "temperature: "),
        (LLM | {"temperature": float("nan")}, "temperature: "),
        (LLM | {"temperature": "0"}, "temperature: "),
        (LLM | {"top_p": 0}, "top_p: "),
        (LLM | {"max_tokens": 0}, "max_tokens: "),
        (LLM | {"max_tokens": True}, "max_tokens: "),
        (LLM | {"timeout_seconds": 0}, "timeout_seconds: "),
        (LLM | {"frequency_penalty": 3}, "frequency_penalty: "),
        ({"type": "random", "model": "hf_m"}, "model: is no known key; there are: type"),
        ({"type": "mcts", "simulations": 0}, "simulations: "),
        ({"type": "minimax"}, "depth: is missing"),
        ({"type": "minimax", "depth": 0}, "depth: "),
    ],
)
def test_wrong_settings_are_named_with_the_reason(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=r"^[a-z_]+: ") as caught:
        agent_config(settings)
    assert problem in str(caught.value)


def test_every_wrong_setting_has_its_line() -> None:
    with pytest.raises(ValueError, match="top_k") as caught:
        agent_config(LLM | {"top_k": -1, "stop": 3, "x": 1})
    keys = {line.split(":")[0].split(".")[0] for line in str(caught.value).splitlines()}
    assert keys == {"top_k", "stop", "x"}


@pytest.mark.parametrize("policy", ["forfeit", "random", "retry 3", "retry 12 then random"])
def test_the_policies_of_the_issue_are_settings(policy: str) -> None:
    config = agent_config(LLM | {"on_illegal": policy})
    assert isinstance(config, LlmConfig)
    assert config.on_illegal == policy


@pytest.mark.parametrize(
    ("settings", "spec", "plays"),
    [
        ({"type": "mcts"}, "connect_four", True),
        ({"type": "mcts"}, "backgammon", True),
        ({"type": "mcts"}, "kuhn_poker", False),
        ({"type": "mcts"}, "matrix_pd", False),
        ({"type": "mcts"}, "phantom_ttt", False),
        ({"type": "minimax", "depth": 2}, "tic_tac_toe", True),
        ({"type": "minimax", "depth": 2}, "chess", True),
        ({"type": "minimax", "depth": 2}, "backgammon", False),
        ({"type": "minimax", "depth": 2}, "kuhn_poker", False),
        ({"type": "minimax", "depth": 2}, "matrix_rps", False),
        ({"type": "minimax", "depth": 2}, "chinese_checkers(players=3)", False),
        ({"type": "random"}, "kuhn_poker", True),
        ({"type": "human"}, "matrix_pd", True),
        (LLM, "liars_dice", True),
    ],
)
def test_players_that_search_refuse_games_where_they_would_see_too_much_or_be_wrong(
    settings: dict[str, Any], spec: str, plays: bool
) -> None:
    game = Game.load(spec)
    if plays:
        check_game(agent_config(settings), game)
        return
    with pytest.raises(GameError) as caught:
        check_game(agent_config(settings), game)
    assert str(caught.value).startswith(f"game {game.spec}: {settings['type']} plays only games")
