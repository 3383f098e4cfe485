"""Whole policies by scores: which calls are made, and that their exact values are OpenSpiel's."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Sequence
from pathlib import Path

import pyspiel
import pytest
from open_spiel.python.algorithms import expected_game_score, exploitability
from open_spiel.python.algorithms.get_all_states import get_all_states
from open_spiel.python.policy import TabularPolicy, UniformRandomPolicy

from arena.agents.calls import ModelCall, ModelReply
from arena.agents.settings import LlmSettings
from arena.experiment.scoring import plan_scoring, score
from arena.games.expectation import weigh
from arena.games.game import Game, GameError
from arena.games.information import list_information_states
from arena.games.sandbox import Sandbox
from arena.report.exact import Exact, find_exact
from arena.report.load import open_results
from arena.results.merge import merge
from arena.results.opening import open_to_write
from arena.results.rows import CallKey, ModelRow, ScoreRow
from arena.results.scores import ScoreStore
from arena_llm import ArenaError


class Scorer:
    """Answers each prompt with scores of its own. fails: this call fails."""

    def __init__(self, fails: int = -1) -> None:
        self.calls: list[ModelCall] = []
        self.running = self.most_running = 0
        self.alone: list[bool] = []
        self._fails = fails

    async def __call__(self, key: CallKey, call: ModelCall, request_id: str) -> ModelReply:
        self.calls.append(call)
        number = len(self.calls)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        for _ in range(3):
            await asyncio.sleep(0)
        self.alone.append(self.most_running == 1)
        self.running -= 1
        if number == self._fails:
            raise ArenaError("down")
        assert call.continuations
        rng = random.Random(f"{call.model} {call.messages}")  # noqa: S311 - repeatable
        logprobs = tuple(rng.uniform(-4, 0) for _ in call.continuations)
        return ModelReply("", call.model, 1.0, logprobs=logprobs)


def settings(model: str = "hf_a", **values: object) -> LlmSettings:
    fixed = {"type": "llm", "model": model, "reply": "score", "score_pick": "sample"}
    return LlmSettings.model_validate({**fixed, **values})


async def fill(path: Path, spec: str, scorer: Scorer, models: Sequence[str] = ("hf_a",)) -> None:
    """Score what is missing in the file."""
    game = Game.load(spec)
    states = list_information_states(game)
    rows = [
        ModelRow(name, "llm", name, json.dumps({"reply": "score", "score_pick": "sample"}))
        for name in models
    ]
    with open_to_write(path) as opened:
        store = ScoreStore(path, opened, "test", rows)
        known = {(row.agent, row.state) for row in store.read()}
        for name in models:
            stored = {state for agent, state in known if agent == name}
            job = plan_scoring(game, name, settings(name), states, stored)
            async for found in score(job, scorer, 8):
                store.put(found)


def exact(path: Path) -> Exact:
    sandbox = Sandbox()
    try:
        with open_results(path) as results:
            return find_exact(results, {}, sandbox, ("dice",))
    finally:
        sandbox.close()


def policy_of(path: Path, spec: str, agent: str) -> TabularPolicy:
    """OpenSpiel's policy with the stored scores."""
    policy = TabularPolicy(pyspiel.load_game(spec))
    with open_results(path) as results:
        rows = [row for row in results.reader.scores() if row.agent == agent]
    for row in rows:
        place = policy.policy_for_key(row.state.partition(" ")[2])
        place[:] = 0
        for action, probability in weigh(dict(row.logprobs)).items():
            place[action] = probability
    return policy


@pytest.mark.parametrize("spec", ["kuhn_poker", "leduc_poker"])
async def test_exact_values_are_those_of_openspiel(tmp_path: Path, spec: str) -> None:
    path = tmp_path / "r.sqlite"
    await fill(path, spec, Scorer(), ["hf_a", "hf_b"])
    found = exact(path)
    game = pyspiel.load_game(spec)
    policies = {name: policy_of(path, spec, name) for name in ("hf_a", "hf_b")}
    uniform = UniformRandomPolicy(game)
    assert found.exploitability == {
        (spec, name): pytest.approx(exploitability.exploitability(game, policy))
        for name, policy in {**policies, "dice": uniform}.items()
    }
    assert found.uniform == {spec: pytest.approx(exploitability.exploitability(game, uniform))}
    assert found.states == dict.fromkeys([(spec, "hf_a"), (spec, "hf_b")], len(policies_keys(game)))
    (value,) = [row for row in found.returns if (row.player, row.against) == ("hf_a", ("hf_b",))]
    root = game.new_initial_state()
    seats = [policies["hf_a"], policies["hf_b"]]
    first = expected_game_score.policy_value(root, seats)[0]
    second = expected_game_score.policy_value(root, seats[::-1])[1]
    assert value.value.value == pytest.approx((first + second) / 2)
    assert value.estimator == "exact"
    assert {row.against for row in found.returns if row.player == "hf_a"} == {("hf_b",), ("dice",)}


def policies_keys(game: pyspiel.Game) -> set[str]:
    states = get_all_states(game, include_terminals=False, include_chance_states=False)
    return {state.information_state_string() for state in states.values()}


async def test_equal_prompts_are_scored_once_and_the_first_call_is_made_alone(
    tmp_path: Path,
) -> None:
    """The suits of Leduc poker do not matter, so many of its 936 states have equal prompts."""
    scorer = Scorer()
    await fill(tmp_path / "r.sqlite", "leduc_poker", scorer)
    assert len(scorer.calls) == len({call.messages for call in scorer.calls}) < 936 / 3
    assert scorer.most_running == 8
    assert scorer.alone.count(True) == 1


async def test_what_was_scored_is_kept_and_is_not_scored_again(tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"
    first, second, third = Scorer(fails=6), Scorer(), Scorer()
    with pytest.raises(ArenaError):
        await fill(path, "kuhn_poker", first)
    assert ("kuhn_poker", "hf_a") not in exact(path).exploitability  # it has gaps
    await fill(path, "kuhn_poker", second)
    await fill(path, "kuhn_poker", third)
    done = {call.messages for call in second.calls}
    assert 0 < len(done) < 12
    assert third.calls == []
    assert ("kuhn_poker", "hf_a") in exact(path).exploitability


async def test_scores_are_merged(tmp_path: Path) -> None:
    one, two = tmp_path / "1.sqlite", tmp_path / "2.sqlite"
    await fill(one, "kuhn_poker", Scorer(), ["hf_a"])
    await fill(two, "kuhn_poker", Scorer(), ["hf_b"])
    merge([one, two, one], tmp_path / "both.sqlite")
    both = exact(tmp_path / "both.sqlite")
    assert both.exploitability == exact(one).exploitability | exact(two).exploitability
    assert both.states == {("kuhn_poker", "hf_a"): 12, ("kuhn_poker", "hf_b"): 12}


def test_large_games_and_conversations_are_refused() -> None:
    with pytest.raises(GameError, match="more than 10,000 information states"):
        list_information_states(Game.load("chess"))
    game = Game.load("matrix_rps")
    states = list_information_states(game)
    assert len(states) == 2
    with pytest.raises(ValueError, match="earlier replies"):
        plan_scoring(game, "a", settings(prompt={"conversation": True}), states)


@pytest.mark.parametrize(
    ("temperature", "expected"),
    [(1.0, {0: 0.5, 1: 0.25, 2: 0.25}), (0.5, {0: 2 / 3, 1: 1 / 6, 2: 1 / 6}), (0.0, {0: 1.0})],
)
def test_scores_become_probabilities(temperature: float, expected: dict[int, float]) -> None:
    logprobs = {0: -1.0, 1: -1.6931471805599453, 2: -1.6931471805599453}
    assert weigh(logprobs, temperature) == pytest.approx(expected)


def test_a_file_without_the_table_can_be_read_and_gets_it(tmp_path: Path) -> None:
    """Runs of a few days ago did not make the table."""
    path = tmp_path / "r.sqlite"
    with open_to_write(path) as opened:
        opened.connection.execute("DROP TABLE scores")
    with open_results(path) as results:
        assert list(results.reader.scores()) == []
    row = ScoreRow("hf_a", "kuhn_poker", "v", "0 0", ((0, -1.0), (1, -0.5)))
    with open_to_write(path) as opened:
        ScoreStore(path, opened, "test", [ModelRow("hf_a", "llm", "hf_a", "{}")]).put([row])
    with open_results(path) as results:
        assert list(results.reader.scores()) == [row]
