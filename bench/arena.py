"""What experiments cost and reach: `python -m bench.arena`.

1. Six models, five games, five episodes in each seat against a random player, while every
   reply takes a second: the runner as a process of its own, through client, router and
   openrouter service, against the longest chain of moves that wait for each other.
2. The arena's own CPU time for a move (prompt, parsing, journal, state): a backend in the
   same process answers at once.
3. The embedded model among legal actions: 20 games of tic-tac-toe at once and one by one,
   each from an empty prefix cache.

`python -m bench.arena PART...` measures only these parts, prints them and writes nothing:
own_cost, sequential, ray, embedded.
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
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from arena.agents.calls import ModelCall, ModelReply
from arena.experiment.load import load_experiment
from arena.experiment.model_calls import ModelCaller
from arena.results.rows import CallKey
from arena.runners.coordinator import Job
from arena.runners.worker import run_sequential
from arena_llm import AsyncClient
from bench import _util
from bench._provider import some_action
from bench.hf import MODEL, system
from bench.openrouter import Fleet
from services.hf.embedded import default_folder, prepare

DELAY = 1.0

#: Reply after a second: 300 episodes, all at once.
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

#: Nobody is waited for.
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
    "models": [MODEL],
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
    """The command's wall time from its start to its end."""
    with ExitStack() as stack:
        folder = stack.enter_context(_folder(SLOW))
        fleet = Fleet(stack, delay=DELAY)
        script = {"sequential": "run_multi_model_games", "ray": "run_ray_multi_model"}[runner]
        before = os.times()
        started = time.perf_counter()
        subprocess.run(
            [
                *(sys.executable, f"scripts/{script}.py"),
                *("--config", str(folder / "experiment.yaml"), "--results", str(folder)),
                *("--target", fleet.target),
            ],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        wall = time.perf_counter() - started
        after = os.times()
        episodes, calls, longest = _select(
            folder / "slow.sqlite",
            "SELECT count(*), sum(calls), max(calls) FROM (SELECT count(*) AS calls FROM moves"
            " WHERE model NOT NULL GROUP BY episode)",
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
    """Answers at once, in this process, and knows what that cost."""

    def __init__(self) -> None:
        self.seconds = 0.0

    async def __call__(self, key: CallKey, call: ModelCall) -> ModelReply:
        begun = time.process_time()
        messages = [{"role": role, "content": content} for role, content in call.messages]
        move = {"reasoning": "it wins", "action": some_action(messages)}
        reply = ModelReply(json.dumps(move), call.model, 1.0, "", "stop", 60, 12)
        self.seconds += time.process_time() - begun
        return reply


def _own_cost() -> dict[str, float]:
    """CPU milliseconds for each move of a model, all of the run included."""
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
    """Moves of the embedded model in a second."""
    with _folder(EMBEDDED, episodes_in_flight=places) as folder:
        experiment = load_experiment(folder / "experiment.yaml")
        async with AsyncClient(target) as client:
            job = Job(experiment, ModelCaller(client, "bench"), folder / "embedded.sqlite")
            begun = time.perf_counter()
            tally = await run_sequential(job, lambda tally: None)
        return tally.answers / (time.perf_counter() - begun)


def _embedded() -> dict[str, float]:
    folder = default_folder()
    prepare(folder)
    rates = {}
    for places in (1, 20):
        with system(folder) as (target, _):
            rates[places] = asyncio.run(_embedded_rate(target, places))
    return {
        "one_by_one_moves_per_s": rates[1],
        "at_once_moves_per_s": rates[20],
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
    """Print the tables and write the JSON; or print the parts that are asked for."""
    if wanted := sys.argv[1:]:
        print(json.dumps({name: _PARTS[name]() for name in wanted}, indent=2))
        return
    results = run()
    runners = {name: results[name] for name in ("sequential", "ray")}
    rows = [[figure, *(one[figure] for one in runners.values())] for figure in runners["ray"]]
    _util.print_table("arena: 1 s a reply (over_ideal: <= 1.25)", ["figure", *runners], rows)
    _util.print_table(
        "arena: own cost and the embedded model",
        ["figure", "value", "wanted"],
        [
            ["CPU for a move, ms", results["own_cost"]["cpu_ms_per_move"], "<= 2"],
            ["20 games at once, moves/s", results["embedded"]["at_once_moves_per_s"], ""],
            ["one by one, moves/s", results["embedded"]["one_by_one_moves_per_s"], ""],
            ["at once / one by one", results["embedded"]["ratio"], ">= 4"],
        ],
    )
    _util.write_results("arena", results)


if __name__ == "__main__":
    main()
