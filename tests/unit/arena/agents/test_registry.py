"""The types of agents, their settings, and the games that they can play."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from arena.agents.calls import ModelCall, ModelReply
from arena.agents.human import HumanAgent
from arena.agents.llm import LlmAgent
from arena.agents.random_agent import RandomAgent
from arena.agents.registry import build_agent, find_agent
from arena.agents.search import MctsAgent, MinimaxAgent
from arena.agents.settings import LlmSettings, MctsSettings, explain_validation_error
from arena.games.game import Game, GameError
from arena.plugins import find_offered
from arena_llm.types import PARAMETERS
from tests.support.game_turns import read_agent, turn_after

LLM = {"type": "llm", "model": "hf_m"}


def test_defaults() -> None:
    settings = read_agent(LLM)
    assert isinstance(settings, LlmSettings)
    assert (settings.reply, settings.on_illegal, settings.score_pick) == (
        "json",
        "forfeit",
        "argmax",
    )
    assert (settings.send_seed, settings.system, settings.sampling) == (False, "", {})
    assert read_agent({"type": "mcts"}) == MctsSettings(type="mcts", simulations=1000, uct_c=2.0)


def test_every_parameter_of_the_client_is_a_setting() -> None:
    """Except the seed, which comes from the turn."""
    fields = LlmSettings.model_fields.keys()
    assert PARAMETERS.keys() - fields == {"seed"}
    values = {"temperature": 0.5, "top_k": 3, "stop": "\n", "provider_options": {"a": [1]}}
    settings = read_agent(LLM | values)
    assert isinstance(settings, LlmSettings)
    assert settings.sampling == values | {"stop": ["\n"]}


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({}, False),
        ({"routing": {"providers": ["a"]}}, True),
        ({"routing": {"precisions": ["bf16"]}}, False),
        ({"provider_options": {"provider": {"only": ["a"]}}}, True),
        ({"provider_options": {"provider": "a", "x": 1}}, False),
    ],
)
def test_whether_a_provider_is_named(settings: dict[str, Any], names: bool) -> None:
    agent = read_agent(LLM | settings)
    assert isinstance(agent, LlmSettings)
    assert agent.names_provider is names


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
def test_each_type_has_its_agent(settings: dict[str, Any], kind: type) -> None:
    assert type(build_agent(read_agent(settings))) is kind


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"type": "llm"}, "model: is missing"),
        (LLM | {"model": ""}, "model: must not be empty, not ''"),
        (LLM | {"model": 3}, "model: must be text, not 3"),
        (LLM | {"temprature": 1}, "temprature: unknown key; did you mean temperature?"),
        (
            LLM | {"reply": "yaml"},
            "reply: must be 'json', 'free', 'choices' or 'score', not 'yaml'",
        ),
        (LLM | {"on_illegal": "retry 0"}, "on_illegal: must be forfeit, random, retry N or"),
        (LLM | {"temperature": -1}, "temperature: must be from 0 to 100, not -1"),
        (LLM | {"temperature": float("nan")}, "temperature: must be from 0 to 100, not nan"),
        (LLM | {"temperature": "0"}, "temperature: must be a number, not '0'"),
        (LLM | {"top_p": 0}, "top_p: must be over 0 and at most 1, not 0"),
        (LLM | {"max_tokens": True}, "max_tokens: must be a number, not True"),
        (LLM | {"stop": [3]}, "stop: must hold strings only, not [3]"),
        (LLM | {"timeout_seconds": 0}, "timeout_seconds: must be over 0, not 0"),
        (LLM | {"send_seed": "yes"}, "send_seed: must be true or false, not 'yes'"),
        (LLM | {"provider_options": {"a": {1}}}, "provider_options: must be values that JSON"),
        ({"type": "random", "x": 1}, "x: unknown key; the keys are type"),
        ({"type": "mcts", "simulations": 0}, "simulations: must be at least 1, not 0"),
        ({"type": "mcts", "simulations": 1.5}, "simulations: must be a whole number, not 1.5"),
        ({"type": "mcts", "uct_c": "much"}, "uct_c: must be a number, not 'much'"),
        ({"type": "minimax", "depth": 101}, "depth: must be at most 100, not 101"),
    ],
)
def test_a_wrong_setting_is_explained(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError) as caught:
        read_agent(settings)
    (error,) = caught.value.errors()
    keys = find_agent(settings["type"]).Settings.model_fields
    assert f"{error['loc'][0]}: {explain_validation_error(error, keys)}".startswith(problem)


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
def test_search_agents_refuse_games_to_which_their_search_does_not_apply(
    settings: dict[str, Any], spec: str, plays: bool
) -> None:
    game, checked = Game.load(spec), read_agent(settings)
    if plays:
        find_agent(settings["type"]).check_game(checked, game)
        return
    with pytest.raises(GameError) as caught:
        find_agent(settings["type"]).check_game(checked, game)
    assert str(caught.value).startswith(f"game {game.spec}: {settings['type']} plays only games")


async def _no_model(call: ModelCall) -> ModelReply:
    raise AssertionError("this agent calls no model")


async def test_an_agent_by_its_dotted_path_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_agents_1.py").write_text(
        textwrap.dedent(
            """
            from arena.agents.base import Agent, Answer, AnswerStatus
            from arena.agents.settings import AgentSettings

            class Nth(Agent):
                class Settings(AgentSettings):
                    number: int = 0

                async def act(self, turn, before, ask):
                    return Answer(AnswerStatus.OK, turn.legal[self.settings.number].action)
            """
        )
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [path for path in sys.path if path])
    agent = build_agent(read_agent({"type": "my_agents_1:Nth", "number": 2}))
    answer = await agent.act(turn_after("tic_tac_toe"), (), _no_model)
    assert answer.action == 2
    with pytest.raises(ValidationError):
        read_agent({"type": "my_agents_1:Nth", "numbr": 2})


def test_an_agent_of_an_installed_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "lucky-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lucky\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[arena.agents]\npicked = arena.agents.random_agent:RandomAgent\nbad = os:getcwd\n"
        "llm = arena.agents.random_agent:RandomAgent\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    find_offered.cache_clear()
    assert find_agent("picked") is RandomAgent
    assert find_agent("llm") is not RandomAgent  # a package cannot replace what the arena has
    with pytest.raises(ValueError, match=r"bad \(os:getcwd\) is not a subclass of arena"):
        find_agent("bad")
    with pytest.raises(ValueError, match=r"minimax, picked, bad or package.module:Class"):
        find_agent("unlucky")
    find_offered.cache_clear()


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        (None, "is missing; the types are llm, random"),
        (["llm"], "must be text, not ['llm']; the types are llm"),
        ("robot", "must be one of llm, random, human, mcts, minimax"),
        ("no_such_module:Agent", "no_such_module:Agent cannot be loaded: ModuleNotFoundError"),
        ("arena.cli:nothing", "arena.cli:nothing cannot be loaded: AttributeError"),
        ("os:getcwd", "os:getcwd is not a subclass of arena.agents.base.Agent"),
    ],
)
def test_a_wrong_type_is_explained(kind: object, problem: str) -> None:
    with pytest.raises(ValueError, match=r"Agent|types|one of|loaded") as caught:
        find_agent(kind)
    assert str(caught.value).startswith(problem)
