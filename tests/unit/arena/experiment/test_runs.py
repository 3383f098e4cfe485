"""The results of a run do not depend on order, width, kills or other processes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from arena.agents.calls import ModelCall
from arena.experiment.file import Experiment
from arena.experiment.plan import make_plan
from arena.experiment.recording import RecordedModels
from arena.experiment.schedule import schedule
from arena.results.rows import CallKey, MoveRow
from tests.support.results import content
from tests.support.scripted_experiment import CENT, Script, run, some_choice

Content = dict[str, list[Any]]

ROOT = Path(__file__).parents[4]
_MODEL = [field.name for field in fields(MoveRow)].index("model")


@pytest.fixture
async def expected(load, tmp_path: Path) -> Content:
    """The content of the results of a run without any incident."""
    path = tmp_path / "expected.sqlite"
    await run(load(), path, Script())
    return content(path)


def process(config: Path, results: Path, *record: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.support.scripted_experiment", config, results, *record]
    pipe = subprocess.PIPE
    running = subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True)
    assert running.stdout.readline() == "ready\n"
    return running


def files(path: Path) -> list[str]:
    """The results file, and other files that a run has left beside it."""
    return sorted(name for name in os.listdir(path.parent) if name.startswith(path.name))


def stored(path: Path, experiment: Experiment) -> set[tuple[str, ...]]:
    """The calls whose replies are stored in the file, with the episodes' names."""
    names = {spec.episode: spec.name for spec in schedule(experiment)}
    rows = content(path)
    answered = [row[:4] for row in rows["moves"] if row[_MODEL] is not None]
    calls = [*answered, *(row[:4] for row in rows["calls"])]
    return {(names[episode], *map(str, rest)) for episode, *rest in calls}


async def test_order_and_width_do_not_matter(
    load: Callable[..., Experiment], expected: Content, tmp_path: Path
) -> None:
    experiment = load()
    for width in (1, 50):
        episodes = schedule(experiment)
        random.Random(width).shuffle(episodes)  # noqa: S311 - repeatable, not secret
        path = tmp_path / f"{width}.sqlite"
        script = Script()
        await run(experiment, path, script, episodes=episodes, width=width)
        assert content(path) == expected
        assert len(set(script.asked)) == len(script.asked)
    assert script.most_running > 10


async def test_stored_episodes_are_not_played_again(
    load, expected: Content, tmp_path: Path
) -> None:
    path, script = tmp_path / "again.sqlite", Script()
    experiment = load()
    first = await run(experiment, path, script, episodes=schedule(experiment)[:10])
    asked = len(script.asked)
    assert first.tokens == 12 * asked
    assert content(path) != expected
    assert (await run(experiment, path, script)).tokens == 12 * len(script.asked)
    assert content(path) == expected
    again = Script()
    spent = await run(experiment, path, again)
    assert again.asked == []
    assert spent.tokens == 12 * len(script.asked)
    assert spent.cost_picousd == CENT * len(script.asked)
    assert content(path) == expected


@pytest.mark.integration
async def test_kill_9_at_any_moment(load, expected: Content, tmp_path: Path) -> None:
    """Each run makes some more calls; a stored reply is never requested again."""
    config, path = load().path, tmp_path / "killed.sqlite"
    record = tmp_path / "record.jsonl"
    rng = random.Random(9)  # noqa: S311 - repeatable, not secret
    kills = 0
    replied: set[tuple[str, ...]] = set()
    while True:
        asked = set()
        calls = rng.randint(1, 60) if kills < 6 else 10**6
        with process(config, path, record) as running:
            running.stdin.close()
            for line in running.stdout:
                asked.add(tuple(line.rstrip("\n").split("\t")))
                if len(asked) == calls:
                    running.send_signal(signal.SIGKILL)
        code = running.returncode
        assert not asked & replied
        if code == 0:
            break
        assert code == -signal.SIGKILL
        kills += 1
        replied = stored(path, load())
        # Except the replies that were on their way when it died: at most 8, one for each place.
        assert len(asked - replied) <= 8
    assert kills >= 3
    assert content(path) == expected
    assert files(path) == [path.name]
    # The runs together have recorded everything.
    await run(load(), tmp_path / "replayed.sqlite", RecordedModels(record))
    assert content(tmp_path / "replayed.sqlite") == expected


@pytest.mark.integration
async def test_two_processes_share_an_experiment(load, expected: Content, tmp_path: Path) -> None:
    config, path = load().path, tmp_path / "shared.sqlite"
    both = [process(config, path) for _ in range(2)]
    for running in both:
        running.stdin.write("go\n")
        running.stdin.flush()
    outputs = [running.communicate()[0].splitlines() for running in both]
    assert [running.returncode for running in both] == [0, 0]
    assert all(outputs)
    assert set(Counter(outputs[0] + outputs[1]).values()) == {1}
    assert content(path) == expected
    assert files(path) == [path.name]


@pytest.mark.parametrize(
    "players",
    [
        "models: [hf_a]",
        "models: [hf_a, hf_b, hf_c]",
        "models: [hf_a, hf_b, hf_c]\nswap_seats: false",
        "models: [hf_a, hf_b]\nopponents: {dice: {type: random}, c: {type: llm, model: hf_c}}",
        "agents: {x: {type: llm, model: hf_a}, y: {type: llm, model: hf_b}}",
        "agents: {x: {type: llm, model: hf_a}, y: {type: random}}\nswap_seats: true",
    ],
)
async def test_an_estimate_counts_the_calls_that_are_made(
    load, tmp_path: Path, players: str
) -> None:
    """In games in which each player moves once."""
    experiment = load(f"games: [matrix_pd, matrix_rps]\nepisodes: 3\nreply: choices\n{players}")
    made: Counter[str] = Counter()

    def says(key: CallKey, call: ModelCall) -> str:
        made[call.model] += 1
        return some_choice(key, call)

    await run(experiment, tmp_path / "r.sqlite", Script(says))
    planned: Counter[str] = Counter()
    for work in make_plan(experiment).works:
        planned[work.model] += work.calls
    assert made == planned
