"""Experiments' files: their keys, and one line with file and key for each problem."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from arena.agents.settings import AgentSettings, LlmSettings, MinimaxSettings
from arena.experiment.budget import Budget
from arena.experiment.file import Assumptions, Experiment, GamePlan
from arena.experiment.load import ExperimentError, load_experiment
from arena.experiment.schedule import schedule, turn_seed

Load = Callable[..., Experiment]

#: A hosted model, one of its provider's own API, and a local one.
MULTI_BACKEND = """
agents:
  player_0:
    type: llm
    model: openrouter_anthropic/claude-3.5-sonnet  # OpenRouter
  player_1:
    type: llm
    model: litellm_groq/llama-3.1-8b-instant       # LiteLLM
  player_2:
    type: llm
    model: vllm_llama-2-7b-chat                    # Local vLLM
games:
  - {name: kuhn_poker, params: {players: 3}}
"""


def test_the_multi_backend_example(load: Load) -> None:
    experiment = load(MULTI_BACKEND)
    assert experiment.name == "experiment"
    assert experiment.results == Path("results/arena.sqlite")
    assert [(row.agent, row.type, row.model) for row in experiment.models] == [
        ("player_0", "llm", "openrouter_anthropic/claude-3.5-sonnet"),
        ("player_1", "llm", "litellm_groq/llama-3.1-8b-instant"),
        ("player_2", "llm", "vllm_llama-2-7b-chat"),
    ]
    (spec,) = schedule(experiment)
    assert spec.name == "kuhn_poker(players=3)/0/player_0,player_1,player_2"
    assert pickle.loads(pickle.dumps(experiment)) == experiment  # noqa: S301 - our own


def test_all_keys(load: Load) -> None:
    experiment = load(
        """
        name: everything
        description: all keys together
        games:
          - tic_tac_toe
          - {name: hex, params: {board_size: 3}, episodes: 2, max_plies: 5, estimate: {plies: 5}}
        models: [hf_a, {name: hf_b, temperature: 0.5, on_illegal: random}]
        opponents: {perfect: {type: minimax, depth: 9}, dice: {type: random}}
        num_episodes: 3
        swap_seats: false
        seed: 7
        reply: choices
        temperature: 0
        on_illegal: retry 2 then random
        max_tokens: 64
        episodes_in_flight: 4
        max_cost_usd: 1.5
        max_tokens_total: 1000
        results: out/here.sqlite
        estimate: {prompt_tokens: 400}
        ray: {address: "head:10001", target: "head:50050"}
        """
    )
    assert experiment.participants == {
        "hf_a": LlmSettings(
            type="llm", model="hf_a", reply="choices", temperature=0, max_tokens=64,
            on_illegal="retry 2 then random",
        ),
        "hf_b": LlmSettings(
            type="llm", model="hf_b", reply="choices", temperature=0.5, max_tokens=64,
            on_illegal="random",
        ),
        "perfect": MinimaxSettings(type="minimax", depth=9),
        "dice": AgentSettings(type="random"),
    }  # fmt: skip
    everyone = (("hf_a", "perfect"), ("hf_a", "dice"), ("hf_b", "perfect"), ("hf_b", "dice"))
    first, second = (replace(game, identity="", versions={}) for game in experiment.games)
    assumed = Assumptions(prompt_tokens=400)
    assert first == GamePlan("tic_tac_toe", 3, None, everyone, assumed, "", {})
    assumed = Assumptions(plies=5, prompt_tokens=400)
    assert second == GamePlan("hex(board_size=3)", 2, 5, everyone, assumed, "", {})
    assert experiment.budget == Budget(1.5, 1000)
    assert experiment.results == Path("out/here.sqlite")
    assert experiment.settings.episodes_in_flight == 4
    assert experiment.settings.ray.address == "head:10001"
    assert experiment.settings.ray.target == "head:50050"
    assert json.loads(experiment.config)["on_illegal"] == "retry 2 then random"


def test_anchors_play_in_the_round_robin_of_the_models(load: Load) -> None:
    experiment = load(
        """
        games: [tic_tac_toe]
        models: [hf_a]
        anchors: {dice: {type: random}, perfect: {type: minimax, depth: 9}}
        """
    )
    (game,) = experiment.games
    pairs = {("hf_a", "dice"), ("hf_a", "perfect"), ("dice", "perfect")}
    assert set(game.lineups) == pairs | {(second, first) for first, second in pairs}
    assert experiment.participants["perfect"] == MinimaxSettings(type="minimax", depth=9)


BASE = "name: one\ngames: [matrix_pd]\nmodels: [hf_a, hf_b]\n"


def keys(experiment: Experiment) -> list[str]:
    return [spec.episode for spec in schedule(experiment)]


@pytest.mark.parametrize(
    ("changed", "common"),
    [
        (BASE, 2),
        (BASE + "episodes_in_flight: 3\nmax_cost_usd: 2\nresults: there\nray: {}", 2),
        (BASE + "description: words\nestimate: {plies: 3}\nmax_tokens_total: 9", 2),
        (BASE + "timeout_seconds: 3", 2),
        (BASE + "reply: json\nswap_seats: true\nepisodes: 1\nseed: 0", 2),  # the defaults
        # What is new is played, and what was played counts.
        (BASE.replace("one", "two"), 2),
        (BASE + "episodes: 2", 2),
        (BASE.replace("[hf_a, hf_b]", "[hf_c, hf_a, hf_b]"), 2),
        (BASE.replace("[hf_a, hf_b]", "[{name: hf_a, as: x}, {name: hf_b, as: y}]"), 2),
        (BASE.replace("[matrix_pd]", "[matrix_rps, matrix_pd]"), 2),
        (BASE + "swap_seats: false", 1),
        # Everything else makes other episodes.
        (BASE + "reply: choices", 0),
        (BASE + "on_illegal: random", 0),
        (BASE + "temperature: 1", 0),
        (BASE + "seed: 1", 0),
        (BASE.replace("matrix_pd", "matrix_rps"), 0),
        (BASE.replace("[matrix_pd]", "[{name: matrix_pd, max_plies: 1}]"), 0),
        (BASE.replace("hf_b", "hf_c"), 0),
    ],
)
def test_keys_cover_exactly_what_decides_an_episode(load: Load, changed: str, common: int) -> None:
    assert len(set(keys(load(BASE))) & set(keys(load(changed)))) == common


def test_equal_numbers_and_default_parameters_make_equal_keys(load: Load) -> None:
    first = keys(load("games: [hex]\nmodels: [hf_a]\ntemperature: 0"))
    game = "games: [{name: hex, params: {board_size: 11}}]"
    assert keys(load(f"{game}\nmodels: [hf_a]\ntemperature: 0.0")) == first


def test_players_with_equal_settings_are_told_apart(load: Load) -> None:
    """Two names of one model are two players. Which is which depends on their order only."""
    text = "games: [matrix_pd]\nmodels: [{name: hf_a, as: x}, {name: hf_a, as: y}]"
    found = keys(load(text))
    assert len(set(found)) == 2
    assert keys(load(text.replace("as: x", "as: z"))) == found


PAIR = "agents: {x: {type: random}, y: {type: random}}\n"
GAME = "games: [tic_tac_toe]\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("- tic_tac_toe", "must be a mapping of keys to values"),
        ("", "must be a mapping of keys to values"),
        ("games: [", "line 1: is not valid YAML: "),
        ("games: [hex]\ngames: [chess]", "line 2: is not valid YAML: key 'games' appears twice"),
        (PAIR, "games: is missing"),
        (PAIR + "games: []", "games: must not be empty"),
        (PAIR + "games: tic_tac_toe", "games: must be a list"),
        (PAIR + "games: [tictactoe]", "games[0]: game 'tictactoe': OpenSpiel has no game with this "
         "name; did you mean tic_tac_toe"),
        (PAIR + "games: [{name: hex, params: {size: 3}}]", "games[0]: game hex: parameter 'si"),
        (PAIR + "games: [{name: hex, params: [3]}]", "games[0].params: must be a mapping"),
        (PAIR + "games: [{name: hex, episodes: 0}]", "games[0].episodes: must be over 0, not 0"),
        (PAIR + "games: [{name: hex, max_plies: -1}]", "games[0].max_plies: must be over 0"),
        (PAIR + "games: [{name: hex, plies: 3}]", "games[0].plies: unknown key; did "),
        (PAIR + "games: [{episodes: 3}]", "games[0].name: is missing"),
        (PAIR + "games: [hex, hex]", "games[1]: hex is listed twice"),
        (PAIR + GAME + "episodes: -5", "episodes: must be over 0, not -5"),
        (PAIR + GAME + "num_episodes: 0", "num_episodes: must be over 0, not 0"),
        (PAIR + GAME + "num_episodes: 1\nepisodes: 1", "the file: episodes and num_episodes mean"),
        (PAIR + GAME + "episodes: true", "episodes: must be a whole number, not True"),
        (PAIR + GAME + "episodes: '3'", "episodes: must be a whole number, not '3'"),
        (PAIR + GAME + "max_cost_usd: 0", "max_cost_usd: must be over 0, not 0"),
        (PAIR + GAME + "max_cost_usd: .nan", "max_cost_usd: must be a finite number, not nan"),
        (PAIR + GAME + "max_tokens_total: many", "max_tokens_total: must be a whole "),
        (PAIR + GAME + "episodes_in_flight: 0", "episodes_in_flight: must be over 0, not 0"),
        (PAIR + GAME + "ray: {adress: x}", "ray.adress: unknown key; did you mean address?"),
        (PAIR + GAME + "gmaes: []", "gmaes: unknown key; did you mean games?"),
        (PAIR + GAME + "ray: {address: 'ray://head:1'}", "ray.address: must be auto or host:port"),
        (PAIR + GAME + "ray: {target: head}", "ray.target: has no port: write HOST:PORT"),
        (PAIR + "games: [{name: hex, params: {board_size: [3]}}]", "games[0].params.board_size: "
         "must be a number, text, true or false, not [3]"),
        (PAIR + "games: [{name: hex, estimate: {plies: 0}}]", "games[0].estimate.plies: must be "),
        (GAME + "models: [hf_a, {name: hf_a, as: 'x,y'}]", "models[1]: must have 1 to 100 char"),
        (GAME + "models: [hf_a, {name: hf_b, as: hf_a}]", "models[1]: hf_a is listed twice"),
        (GAME + "agents: {x: {type: 'no.such:Thing'}, y: {type: random}}", "agents.x.type: "
         "no.such:Thing cannot be loaded: ModuleNotFoundError: No module named 'no'"),
        (GAME + "agents: {x: {type: 'arena.cli:main'}, y: {type: random}}", "agents.x.type: "
         "arena.cli:main is not a subclass of arena.agents.base.Agent"),
        (PAIR + GAME + "estimate: {plys: 7}", "estimate.plys: unknown key; did you mean plies?"),
        (PAIR + GAME + "name: ../up", "name: must have 1 to 100 characters, "),
        (PAIR + GAME + "temperature: -1", "temperature: must be from 0 to 100, not -1"),
        (PAIR + GAME + "reasoning_effort: lots", "reasoning_effort: must be one of none, auto, "),
        (PAIR + GAME + "logit_bias: {7: much}", "logit_bias: must be a number"),
        (PAIR + GAME + "logit_bias: {x: 1}", "logit_bias: must hold token ids only"),
        (PAIR + GAME + "routing: {provider: [x]}", "routing.provider: unknown key; did you mean"),
        (PAIR + GAME + "routing: {providers: x}", "routing.providers: must be a list"),
        (PAIR + GAME + "template_arguments: [x]", "template_arguments: must be a mapping"),
        (PAIR + GAME + "store_tokens: 1", "store_tokens: must be true or false, not 1"),
        (PAIR + GAME + "on_illegal: retry", "on_illegal: must be forfeit, random, "),
        (PAIR + GAME + "provider_options: {a: 2026-01-01}", "provider_options: must be "),
        (GAME, "agents, models: one of the two is required"),
        (GAME + PAIR + "models: [hf_a]", "agents, models: give only one of the two"),
        (GAME + PAIR + "anchors: {z: {type: random}}", "anchors: need models:"),
        (
            GAME + "models: [hf_a]\nopponents: {y: {type: random}}\nanchors: {z: {type: random}}",
            "anchors, opponents: give only one",
        ),
        (GAME + PAIR + "opponents: {z: {type: random}}", "opponents: need models:"),
        (GAME + "agents: [hf_a]", "agents: must be a mapping"),
        (GAME + "agents: {x: {type: random}}", "games[0]: tic_tac_toe has 2 players, but agents: "
         "lists 1"),
        (PAIR + "games: [kuhn_poker(players=3)]", "games[0]: kuhn_poker(players=3) has 3 players, "
         "but agents: lists 2"),
        (GAME + "agents: {x: {type: robot}, y: {type: random}}", "agents.x.type: must be one of "
         "llm, random, human, mcts, minimax or package.module:Class, not 'robot'"),
        (GAME + "agents: {x: {model: hf_a}, y: {type: random}}", "agents.x.type: is missing; "),
        (GAME + "agents: {x: {type: llm}, y: {type: random}}", "agents.x.model: is missing"),
        (GAME + "agents: {x: {type: llm, model: hf_a, temprature: 1}, y: {type: random}}",
         "agents.x.temprature: unknown key; did you mean temperature?"),
        (GAME + "agents: {'a,b': {type: random}, y: {type: random}}", "agents.a,b: must have"),
        ("games: [kuhn_poker]\nagents: {x: {type: minimax, depth: 3}, y: {type: random}}",
         "games[0]: "),
        (GAME + "models: hf_a", "models: must be a list"),
        (GAME + "models: [7]", "models[0]: must be a model's full name, such as "),
        (GAME + "models: ['']", "models[0]: must be a model's full name, such as "),
        (GAME + "models: [hf_a, hf_a]", "models[1]: hf_a is listed twice; to play it with"),
        (GAME + "models: ['hf_a,hf_b']", "models[0]: must be a model's full name, such as "),
        (GAME + "models: [{name: hf_a, model: hf_b}]", "models[0]: must not contain model"),
        (GAME + "models: [{temperature: 1}]", "models[0]: must be a model's full name"),
        (GAME + "models: [{name: hf_a, temperature: hot}]", "models[0].temperature: must be a nu"),
        (GAME + "models: [hf_a]\nopponents: {hf_a: {type: random}}", "opponents.hf_a: hf_a is the "
         "name of another player"),
        ("games: [kuhn_poker(players=3)]\nmodels: [hf_a, hf_b]", "games[0]: kuhn_poker(players=3) "
         "has 3 players, but models: lists 2; list more"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_with_file_and_key(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ExperimentError) as caught:
        load_experiment(path)
    line = str(caught.value)
    assert line.startswith(f"{path}: {says}")
    assert "\n" not in line


def test_all_problems_are_reported_together(load: Load, tmp_path: Path) -> None:
    with pytest.raises(ExperimentError) as caught:
        load(
            """
            games: [tic_tac_to, hex]
            agents: {x: {type: llm, modle: hf_a}, y: {type: lucky}, z: {type: minimax, depth: 0}}
            episodes: 0
            seed: x
            temperature: hot
            """
        )
    where = [line.split(": ")[1] for line in str(caught.value).splitlines()]
    assert where == [
        *("temperature", "episodes", "seed", "agents.x.model", "agents.x.modle"),
        *("agents.y.type", "agents.z.depth", "games[0]", "games[1]"),
    ]


@pytest.mark.parametrize("name", ["none.yaml", "."])
def test_a_file_that_cannot_be_read(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    with pytest.raises(ExperimentError, match=f"^{path}: cannot be read: "):
        load_experiment(path)


# --- the schedule ---


def test_each_model_takes_each_seat_equally_often(load: Load) -> None:
    experiment = load("games: [matrix_pd]\nmodels: [hf_a, hf_b, hf_c]\nepisodes: 4")
    specs = schedule(experiment)
    assert len(specs) == 4 * 6
    assert len({spec.episode for spec in specs}) == len(specs)
    for seat in (0, 1):
        sits = [spec.agents[seat] for spec in specs]
        assert {name: sits.count(name) for name in sits} == {"hf_a": 8, "hf_b": 8, "hf_c": 8}


def test_seeds(load: Load) -> None:
    text = "games: [kuhn_poker, leduc_poker]\nmodels: [hf_a, hf_b, hf_c]\nepisodes: 2"
    specs = schedule(load(text))
    seeds = {(spec.game, spec.number): spec.seed for spec in specs}
    # All line-ups get the same cards.
    assert all(spec.seed == seeds[spec.game, spec.number] for spec in specs)
    assert len(set(seeds.values())) == 4
    assert all(0 <= seed < 2**63 for seed in seeds.values())
    turns = {turn_seed(specs[0].seed, seat, ply) for seat in (0, 1) for ply in range(5)}
    assert len(turns) == 10
    # Other models, other games and more episodes do not change a seed.
    other = schedule(load("games: [leduc_poker]\nmodels: [hf_x]\nepisodes: 5"))
    assert other[1].seed == seeds["leduc_poker", 1]
    assert schedule(load(text + "\nseed: 1"))[0].seed != specs[0].seed
    # Neither does the experiment's name.
    assert schedule(load(text + "\nname: other")) == specs


def test_models_that_may_answer_in_place_of_others_are_checked_as_well(load: Load) -> None:
    experiment = load(
        """
        games: [tic_tac_toe]
        fallback_models: [hf_c]
        models: [hf_a, {name: hf_b, fallback_models: [hf_d, hf_a]}]
        """
    )
    assert set(experiment.places) == {"hf_a", "hf_b", "hf_c", "hf_d"}
    options = {}
    for name, settings in experiment.participants.items():
        assert isinstance(settings, LlmSettings)
        assert "fallback_models.names" in settings.request_fields
        options[name] = settings.sampling["fallback_models"]
    assert options == {"hf_a": ["hf_c"], "hf_b": ["hf_d", "hf_a"]}
