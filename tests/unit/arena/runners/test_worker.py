"""A run in one process: its results, places, budget, failures and interruption."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from arena.agents.calls import ModelCall, ModelReply
from arena.experiment.load import load_experiment
from arena.experiment.patience import ModelAway
from arena.experiment.recording import RecordingError
from arena.results.database import ResultsError
from arena.results.rows import CallKey
from arena.results.spending import Spent
from arena.runners.job import Job, RunProgress
from arena.runners.worker import play, run_sequential
from arena_llm import UnavailableError
from tests.support.results import content
from tests.support.scripted_experiment import CENT, Script
from tests.support.scripted_experiment import run as run_without_coordinator
from tests.support.waiting import eventually

EXPERIMENT = """
games: [tic_tac_toe, kuhn_poker]
models: [hf_a, hf_b, hf_c]
opponents: {random: {type: random}}
episodes: 4
reply: choices
episodes_in_flight: 6
"""


@pytest.fixture
def make_job(tmp_path: Path) -> Callable[..., Job]:
    """Makes a job of the experiment with a backend; `more` is added to the experiment's file."""

    def make(backend: object, more: str = "") -> Job:
        path = tmp_path / "experiment.yaml"
        path.write_text(EXPERIMENT + more)
        experiment = load_experiment(path)
        if isinstance(backend, Script):
            backend.name_episodes(experiment)
        return Job(experiment, backend, tmp_path / "results.sqlite")

    return make


def ignore(progress: RunProgress) -> None:
    """A watch that does nothing."""


async def test_the_results_do_not_depend_on_the_runner(make_job) -> None:
    """They are the same as those of one episode after the other without a coordinator."""
    job = make_job(Script())
    reports: list[RunProgress] = []
    progress = await run_sequential(job, reports.append)
    plain = job.results.with_name("plain.sqlite")
    await run_without_coordinator(job.experiment, plain, Script(), width=1)
    assert content(job.results) == content(plain)
    assert progress.episodes == {"finished": progress.total} == {"finished": 48}
    assert (reports[0].playing, reports[0].done, reports[0].answers) == (0, 0, 0)
    assert reports[-1] == progress
    assert (progress.playing, progress.illegal) == (0, 0)
    assert progress.answers > 0
    assert progress.spent == Spent(12 * progress.answers, CENT * progress.answers)
    assert progress.done == pytest.approx(progress.work)


async def test_no_more_episodes_in_play_than_configured(make_job) -> None:
    script = Script()
    await run_sequential(make_job(script), ignore)
    assert script.most_running == 6


class Held(Script):
    """hf_a does not answer until `go` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()
        self.held = self.most_beside_others = 0

    async def __call__(self, key: CallKey, call: ModelCall, request_id: str) -> ModelReply:
        if call.model == "hf_a":
            self.held += 1
            await self.go.wait()
        elif not self.go.is_set():
            self.most_beside_others = max(self.most_beside_others, self.held)
        return await super().__call__(key, call, request_id)


async def test_a_slow_model_does_not_delay_the_others(make_job) -> None:
    """hf_a is listed first and has more episodes than there are places."""
    backend = Held()
    reports: list[RunProgress] = []
    running = asyncio.create_task(run_sequential(make_job(backend), reports.append))
    await eventually(lambda: reports and reports[-1].episodes.total() == 32)
    # hf_a gets two of six places, and three when only one of the others has episodes waiting.
    assert backend.most_beside_others <= 3
    assert backend.held == 6
    backend.go.set()
    assert (await running).episodes == {"finished": 48}


async def test_a_failing_model_fails_its_own_episodes_only(make_job) -> None:
    def answer(key: CallKey, call: ModelCall) -> str:
        if call.model == "hf_b" and key.ply > 1:
            raise UnavailableError("the provider is down", reason="UPSTREAM_UNAVAILABLE")
        return call.choices[0]

    progress = await run_sequential(make_job(Script(answer)), ignore)
    assert progress.episodes.keys() == {"finished", "failed"}
    assert progress.episodes.total() == 48
    (reason,) = progress.failures
    assert "UPSTREAM_UNAVAILABLE: the provider is down" in reason
    assert progress.failures.total() == progress.episodes["failed"]
    # The next run plays the failed episodes again, and no others.
    script = Script(lambda key, call: call.choices[0])
    again = await run_sequential(make_job(script), ignore)
    assert again.episodes == {"finished": 48}
    assert {script.names[key.episode].count("hf_b") for key in script.asked} == {1}


@pytest.mark.parametrize("bound", ["max_cost_usd: 0.2", "max_tokens_total: 240"])
async def test_a_spent_budget_stops_the_run_and_loses_nothing(make_job, bound: str) -> None:
    script = Script()
    progress = await run_sequential(make_job(script, bound), ignore)
    assert bound.partition(":")[0] in progress.stopped
    assert 1 <= progress.budget < 1 + 6 / 20, "calls in flight may finish"
    assert 20 <= len(script.asked) < 26
    assert 0 < progress.episodes["finished"] < 48
    assert progress.episodes.keys() == {"finished"}, "a stopped episode is not a failure"
    assert progress.playing == 0
    # A second run makes no calls.
    again = await run_sequential(make_job(script, bound), ignore)
    assert again.stopped
    assert len(script.asked) < 26
    # With a larger budget the run continues with the missing calls.
    rest = await run_sequential(make_job(script), ignore)
    assert rest.episodes == {"finished": 48}
    assert len(set(script.asked)) == len(script.asked)


async def test_an_error_that_belongs_to_no_episode_ends_the_run(make_job) -> None:
    def answer(key: CallKey, call: ModelCall) -> str:
        if key.ply > 2:
            raise RecordingError("not what was recorded")
        return call.choices[0]

    job = make_job(Script(answer))
    with pytest.raises(RecordingError, match="not what was recorded"):
        await run_sequential(job, ignore)
    with closing(sqlite3.connect(job.results)) as connection:
        ((episodes, calls),) = connection.execute(
            "SELECT (SELECT count(*) FROM episodes), (SELECT count(*) FROM calls)"
        )
    assert (episodes, calls > 0) == (0, True), "no episode has failed, and replies are stored"


async def test_an_interrupted_run_leaves_a_complete_file(make_job) -> None:
    backend = Held()
    job = make_job(backend)
    running = asyncio.create_task(run_sequential(job, ignore))
    await eventually(lambda: backend.held and len(backend.asked) > 20)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert [path.name for path in job.results.parent.glob("results.sqlite*")] == ["results.sqlite"]
    backend.go.set()
    assert (await run_sequential(job, ignore)).episodes == {"finished": 48}


async def test_the_episodes_of_a_model_that_is_away_stay_open(make_job) -> None:
    """The others are played to their end, and a later run plays the open ones."""
    error = UnavailableError("is gone", reason="BACKEND_DOWN")

    def answer(key: CallKey, call: ModelCall) -> str:
        if call.model == "hf_b" and key.ply > 1:
            raise ModelAway("hf_b", 5, error)
        return call.choices[0]

    script = Script(answer)
    job = make_job(script)
    progress = await run_sequential(job, ignore)
    assert progress.episodes == {"finished": 32}
    assert progress.open == {
        "hf_b was not available for 5 s: UNAVAILABLE BACKEND_DOWN: is gone": 16
    }
    assert (progress.playing, progress.failures, progress.stopped) == (0, {}, "")
    assert len(content(job.results)["episodes"]) == 32
    # At most one place tried for each of its episodes in play; the rest was not begun.
    again = Script(lambda key, call: call.choices[0])
    rest = await run_sequential(make_job(again), ignore)
    assert rest.episodes == {"finished": 48}
    assert {again.names[key.episode].count("hf_b") for key in again.asked} == {1}
    calls = [(key.episode, key.ply) for key in script.asked if key.ply < 2]
    assert not set(calls) & {(key.episode, key.ply) for key in again.asked}


async def test_a_full_disk_is_one_error_for_all_games() -> None:
    """asyncio would print the others at the end of the command, with their tracebacks."""

    class Full:
        async def join(self, worker: int) -> str:
            return "run"

        async def share(self) -> int:
            return 3

        async def take(self, worker: int) -> None:
            raise ResultsError("the disk is full")

    printed: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: printed.append(context))
    with pytest.raises(ResultsError):
        await play(cast("Any", Full()), cast("Any", SimpleNamespace(backend=None)))
    gc.collect()
    await asyncio.sleep(0)
    assert not printed
