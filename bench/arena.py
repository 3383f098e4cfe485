"""The cost and speed of experiments: `python -m bench.arena [PART...]`.

own_cost: the arena's CPU time for a move (prompt, parsing, results, state). The backend is in the
    same process and answers immediately.
sequential, ray: six models play five games against a random player, five episodes in each seat.
    Every reply takes a second. The runner is a separate process that calls the openrouter service
    through client and router. Its time is compared with that of the longest chain of moves that
    wait for each other.
embedded: 20 games of tic-tac-toe with the embedded model, at the same time and one by one, each
    from an empty prefix cache.

With names of parts it runs and prints only these, and writes nothing.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from arena.agents.calls import ModelCall, ModelReply
from arena.experiment.file import RESULTS_NAME
from arena.experiment.load import load_experiment
from arena.experiment.model_calls import ModelCaller
from arena.results.rows import CallKey
from arena.runners.job import Job
from arena.runners.worker import run_sequential
from arena_llm import AsyncClient
from bench import harness
from bench.goals import Goal
from bench.hf import embedded_system, name
from bench.openrouter import fleet
from bench.provider import some_action

DELAY = 1.0

GOALS = (
    Goal("the arena's CPU for a move", ("own_cost", "cpu_ms_per_move"), "<=", 2, "ms"),
    Goal("time of the longest chain of moves, sequential runner", ("sequential", "over_ideal"),
         "<=", 1.25, "x"),
    Goal("time of the longest chain of moves, Ray", ("ray", "over_ideal"), "<=", 1.25, "x"),
    Goal("moves/s of 20 games of the embedded model, of one by one", ("embedded", "ratio"),
         ">=", 4, "x"),
)  # fmt: skip

#: 300 episodes at the same time, for replies that take a second.
SLOW = {
    "name": "slow",
    "games": [
        "tic_tac_toe",
        "connect_four",
        "othello",
        {"name": "hex", "params": {"board_size": 5}},
        "breakthrough",
    ],
    "models": [f"openrouter_lab/model-{n}" for n in range(6)],
    "opponents": {"random": {"type": "random"}},
    "episodes": 5,
    "episodes_in_flight": 300,
}

#: For replies without delay.
SMALL = {
    "name": "small",
    "games": ["tic_tac_toe", "connect_four", "kuhn_poker", "leduc_poker", "matrix_rps"],
    "models": ["openrouter_lab/a", "openrouter_lab/b"],
    "episodes": 30,
}

#: Twenty games of the embedded model.
EMBEDDED = {
    "name": "embedded",
    "games": ["tic_tac_toe"],
    "models": [name("exact")],
    "opponents": {"random": {"type": "random"}},
    "episodes": 10,
    "reply": "choices",
}


@contextmanager
def _folder(experiment: dict[str, Any], **changes: Any) -> Iterator[Path]:
    """A folder with the experiment as `experiment.yaml`."""
    with tempfile.TemporaryDirectory() as name:
        # JSON is YAML.
        Path(name, "experiment.yaml").write_text(json.dumps(experiment | changes))
        yield Path(name)


def _select(results: Path, query: str) -> Any:
    with closing(sqlite3.connect(results)) as connection:
        return connection.execute(query).fetchone()


def _slow(runner: str) -> dict[str, float]:
    """The wall time and the CPU time of the whole command."""
    with _folder(SLOW) as folder, fleet(delay=DELAY) as (system, _):
        script = {"sequential": "run_multi_model_games", "ray": "run_ray_multi_model"}[runner]
        before = os.times()
        started = time.perf_counter()
        subprocess.run(
            [
                *(sys.executable, f"scripts/{script}.py"),
                *("--config", str(folder / "experiment.yaml"), "--results", str(folder)),
                *("--target", system.target),
            ],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        wall = time.perf_counter() - started
        after = os.times()
        episodes, calls, longest = _select(
            folder / RESULTS_NAME,
            "SELECT count(*), sum(calls), max(calls) FROM (SELECT sum(calls) AS calls FROM seats"
            " GROUP BY episode)",
        )
    cpu = (
        after.children_user + after.children_system - before.children_user - before.children_system
    )
    return {
        "episodes": episodes,
        "calls": calls,
        "seconds": wall,
        "ideal_seconds": longest * DELAY,
        "over_ideal": wall / (longest * DELAY),
        "faster_than_one_by_one": calls * DELAY / wall,
        "cpu_ms_per_call": 1e3 * cpu / calls,
    }


class _Instant:
    """Answers immediately, in this process. seconds: the CPU time that this took."""

    def __init__(self) -> None:
        self.seconds = 0.0

    async def __call__(self, key: CallKey, call: ModelCall, request_id: str) -> ModelReply:
        begun = time.process_time()
        messages = [{"role": role, "content": content} for role, content in call.messages]
        move = {"reasoning": "it wins", "action": some_action(messages)}
        reply = ModelReply(json.dumps(move), call.model, 1.0, "", "stop", 60, 12)
        self.seconds += time.process_time() - begun
        return reply


def _own_cost() -> dict[str, float]:
    """CPU milliseconds of the whole run for each move of a model."""
    random.seed(1)
    backend = _Instant()
    with _folder(SMALL) as folder:
        experiment = load_experiment(folder / "experiment.yaml")
        job = Job(experiment, backend, folder / "small.sqlite")
        begun = time.process_time()
        tally = asyncio.run(run_sequential(job, lambda tally: None))
        cpu = time.process_time() - begun - backend.seconds
    return {"moves": tally.answers, "cpu_ms_per_move": 1e3 * cpu / tally.answers}


async def _embedded_rate(target: str, places: int) -> float:
    """Moves of the embedded model per second."""
    with _folder(EMBEDDED, episodes_in_flight=places) as folder:
        experiment = load_experiment(folder / "experiment.yaml")
        async with AsyncClient(target) as client:
            job = Job(experiment, ModelCaller(client, "bench"), folder / "embedded.sqlite")
            begun = time.perf_counter()
            tally = await run_sequential(job, lambda tally: None)
        return tally.answers / (time.perf_counter() - begun)


def _embedded() -> dict[str, float]:
    rates = {}
    for places in (1, 20):
        with embedded_system("exact") as system:
            rates[places] = asyncio.run(_embedded_rate(system.target, places))
    return {
        "one_by_one_moves_per_s": rates[1],
        "together_moves_per_s": rates[20],
        "ratio": rates[20] / rates[1],
    }


_PARTS: dict[str, Callable[[], dict[str, float]]] = {
    "own_cost": _own_cost,
    "sequential": partial(_slow, "sequential"),
    "ray": partial(_slow, "ray"),
    "embedded": _embedded,
}


def run() -> dict[str, Any]:
    """Measure everything; returns what `main` prints and writes."""
    return {name: part() for name, part in _PARTS.items()}


def main() -> None:
    """Print the tables and write the JSON, or only print the parts that are named."""
    if names := sys.argv[1:]:
        print(json.dumps({name: _PARTS[name]() for name in names}, indent=2))
        return
    results = run()
    for part, values in results.items():
        harness.print_table(f"arena: {part}", ["figure", "value"], list(values.items()))
    harness.write_results("arena", GOALS, results)


if __name__ == "__main__":
    main()
