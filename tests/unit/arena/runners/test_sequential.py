"""One process: all that a run does to its places, its budget and its failures."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from arena.agents.calls import ModelCall, ModelReply
from arena.experiment.load import load_experiment
from arena.experiment.recording import RecordingError
from arena.results.rows import CallKey
from arena.runners import sequential
from arena.runners.job import Job
from arena.runners.tally import Tally
from arena_llm import UnavailableError
from tests.support.playing import Script
from tests.support.playing import run as play_plainly
from tests.support.scripted import eventually

EXPERIMENT = """
games: [tic_tac_toe, kuhn_poker]
models: [hf_a, hf_b, hf_c]
opponents: {random: {type: random}}
episodes: 4
reply: choices
episodes_in_flight: 6
"""


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., Job]:
    """An experiment with changes to its file; who answers, and where the results go."""

    def made(backend: object, more: str = "", results: str = "results.sqlite") -> Job:
        path = tmp_path / "experiment.yaml"
        path.write_text(EXPERIMENT + more)
        return Job(load_experiment(path), backend, tmp_path / results)

    return made


def quietly(tally: Tally) -> None:
    """Nobody watches."""


async def test_the_rows_are_those_of_any_run(job) -> None:
    """Those of one episode after the other, without a desk."""
    ours = job(Script())
    tallies: list[Tally] = []
    tally = await sequential.run(ours, tallies.append)
    plain = ours.results.with_name("plain.sqlite")
    await play_plainly(ours.experiment, plain, Script(), width=1)
    assert ours.results.read_bytes() == plain.read_bytes()
    assert tally.episodes == {"finished": tally.total} == {"finished": 48}
    assert (tallies[0].playing, tallies[0].done, tallies[0].answers) == (0, 0, 0)
    assert tallies[-1] == tally
    assert (tally.playing, tally.illegal) == (0, 0)
    assert tally.tokens == 12 * tally.answers > 0
    assert tally.cost_usd == pytest.approx(0.01 * tally.answers)
    assert tally.done == pytest.approx(tally.work)


async def test_never_more_at_once_than_the_experiment_says(job) -> None:
    script = Script()
    await sequential.run(job(script), quietly)
    assert script.most_running == 6


class Held(Script):
    """hf_a answers nothing until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()
        self.held = self.most_beside_others = 0

    async def __call__(self, key: CallKey, call: ModelCall) -> ModelReply:
        if call.model == "hf_a":
            self.held += 1
            await self.go.wait()
        elif not self.go.is_set():
            self.most_beside_others = max(self.most_beside_others, self.held)
        return await super().__call__(key, call)


async def test_a_slow_model_does_not_hold_the_others(job) -> None:
    """hf_a is listed first and has as many episodes as there are places, and more."""
    backend = Held()
    ended = 0

    def watch(tally: Tally) -> None:
        nonlocal ended
        ended = tally.episodes.total()

    running = asyncio.create_task(sequential.run(job(backend), watch))
    await eventually(lambda: ended == 32)
    # Two places of six, and three when only one of the others had work left.
    assert backend.most_beside_others <= 3
    assert backend.held == 6
    backend.go.set()
    assert (await running).episodes == {"finished": 48}


async def test_a_model_that_fails_fails_its_own_episodes(job) -> None:
    def says(key: CallKey, call: ModelCall) -> str:
        if call.model == "hf_b" and key.ply > 1:
            raise UnavailableError("the provider is down", reason="UPSTREAM_UNAVAILABLE")
        return call.choices[0]

    ours = job(Script(says))
    tally = await sequential.run(ours, quietly)
    assert tally.episodes.keys() == {"finished", "failed"}
    assert tally.episodes.total() == 48
    (reason,) = tally.failures
    assert "UPSTREAM_UNAVAILABLE: the provider is down" in reason
    assert tally.failures.total() == tally.episodes["failed"]
    # What failed is played again, and nothing else.
    script = Script(lambda key, call: call.choices[0])
    again = await sequential.run(job(script), quietly)
    assert again.episodes == {"finished": 48}
    assert {key.episode.partition("/")[2].count("hf_b") for key in script.asked} == {1}


@pytest.mark.parametrize("bound", ["max_cost_usd: 0.2", "max_tokens_total: 240"])
async def test_a_spent_budget_ends_the_run_and_saves_all(job, bound: str) -> None:
    script = Script()
    tally = await sequential.run(job(script, bound), quietly)
    assert bound.partition(":")[0] in tally.stopped
    assert 1 <= tally.budget < 1 + 6 / 20, "calls under way may end"
    assert 20 <= len(script.asked) < 26
    assert 0 < tally.episodes["finished"] < 48
    assert tally.episodes.keys() == {"finished"}, "what was cut off is no failure"
    assert tally.playing == 0
    # A second run asks for nothing.
    again = await sequential.run(job(script, bound), quietly)
    assert again.stopped
    assert len(script.asked) < 26
    # With more, it goes on, and asks only for what it lacks.
    rest = await sequential.run(job(script), quietly)
    assert rest.episodes == {"finished": 48}
    assert len(set(script.asked)) == len(script.asked)


async def test_what_no_episode_can_carry_ends_the_run(job) -> None:
    def says(key: CallKey, call: ModelCall) -> str:
        if key.ply > 2:
            raise RecordingError("not what was recorded")
        return call.choices[0]

    ours = job(Script(says))
    with pytest.raises(RecordingError, match="not what was recorded"):
        await sequential.run(ours, quietly)
    with sqlite3.connect(ours.results) as connection:
        ((episodes, calls),) = connection.execute(
            "SELECT (SELECT count(*) FROM episodes), (SELECT count(*) FROM calls)"
        )
    connection.close()
    assert (episodes, calls > 0) == (0, True), "no episode is to blame; what was said is kept"


async def test_interrupted_it_leaves_a_whole_file(job) -> None:
    backend = Held()
    ours = job(backend)
    running = asyncio.create_task(sequential.run(ours, quietly))
    await eventually(lambda: backend.held and len(backend.asked) > 20)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert [path.name for path in ours.results.parent.glob("results.sqlite*")] == ["results.sqlite"]
    backend.go.set()
    assert (await sequential.run(ours, quietly)).episodes == {"finished": 48}
