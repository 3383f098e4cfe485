"""Plays experiments with scripted models, a real ledger and a real results file.

As a process: `python -m tests.support.scripted_experiment CONFIG RESULTS [RECORD]`. It prints
"ready", waits for a line or the end of its input, and prints every call of the arena's runner. It
ends with 1 if episodes are missing.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path

from arena.agents.calls import ModelCall, ModelReply
from arena.experiment.episode import play_episode, seat_players
from arena.experiment.file import Experiment
from arena.experiment.ledger import Backend, Ledger, ask_through_ledger
from arena.experiment.load import load_experiment
from arena.experiment.recording import Recorder
from arena.experiment.schedule import EpisodeSpec, schedule
from arena.games.game import Game
from arena.results.rows import CallKey
from arena.results.spending import Spent
from arena.results.store import Store
from arena.runners.job import Job
from arena.runners.worker import run_sequential
from arena_llm.types import FreePrice, Price

#: In 10^-12 dollars.
CENT = 10**10


class Script:
    """A backend whose replies are `says(key, call)`, with the episode's name in the key.

    names: of episodes, by key; `run` adds those of its experiment. asked: the keys of all calls.
    request_ids: their ids.

    Each reply uses 10 prompt tokens, 2 completion tokens and one cent.
    """

    def __init__(self, says: Callable[[CallKey, ModelCall], str] | None = None) -> None:
        self.asked: list[CallKey] = []
        self.request_ids: list[str] = []
        self.names: dict[str, str] = {}
        self.running = self.most_running = 0
        self._says = says or some_choice

    def name_episodes(self, experiment: Experiment) -> None:
        """Let `says` see the names of the experiment's episodes."""
        self.names |= {spec.episode: spec.name for spec in schedule(experiment)}

    async def __call__(self, key: CallKey, call: ModelCall, request_id: str) -> ModelReply:
        self.asked.append(key)
        self.request_ids.append(request_id)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            # Let other tasks run, to mix the order. How often differs by call.
            for _ in range(_number(key) % 7):
                await asyncio.sleep(0)
            name = self.names.get(key.episode, key.episode)
            text = self._says(replace(key, episode=name), call)
        finally:
            self.running -= 1
        latency = 1 + _number(key) % 1000 / 7
        return ModelReply(text, call.model, latency, "", "stop", 10, 2, 0, CENT)


def some_choice(key: CallKey, call: ModelCall) -> str:
    """Return one of the choices; the same call always gets the same one."""
    assert call.choices
    return call.choices[_number(key) % len(call.choices)]


def _number(key: CallKey) -> int:
    return int.from_bytes(blake2b(repr(key).encode(), digest_size=4).digest())


def local_prices(experiment: Experiment) -> dict[str, Price]:
    """The prices of the models that cost nothing."""
    models = (row.model for row in experiment.models if row.model)
    return {model: FreePrice() for model in models if model.startswith("hf_")}


async def run(
    experiment: Experiment,
    results: Path,
    backend: Backend,
    *,
    episodes: Iterable[EpisodeSpec] | None = None,
    width: int = 8,
    record: Path | None = None,
) -> Spent:
    """Play the remaining episodes, `width` at the same time, and return what they cost."""
    names = {spec.episode: spec.name for spec in schedule(experiment)}
    with (
        Recorder(record, names) if record else nullcontext() as recorder,
        Store(results, experiment.row, experiment.models, getattr(backend, "run_id", "")) as store,
    ):
        prices = local_prices(experiment)
        specs = schedule(experiment)
        keys = [spec.episode for spec in specs]
        if isinstance(backend, Script):
            backend.name_episodes(experiment)
        ledger = Ledger(store, experiment.budget, recorder, prices, keys)
        waiting = iter(specs if episodes is None else episodes)

        async def work() -> None:
            for spec in waiting:
                if await ledger.begin(spec.episode):
                    players = seat_players(spec, experiment.participants)
                    ask_for = ask_through_ledger(ledger, backend, ledger.run_id)
                    played = await play_episode(spec, Game.load(spec.game), players, ask_for)
                    await ledger.finish(*played)

        try:
            async with asyncio.TaskGroup() as workers:
                for _ in range(width):
                    workers.create_task(work())
        except* Exception as group:
            # Raise the first error only, as a runner does.
            raise group.exceptions[0] from None
        return ledger.spent


def _say(key: CallKey, call: ModelCall) -> str:
    print(key.episode, key.ply, key.seat, key.attempt, sep="\t", flush=True)
    return some_choice(key, call)


if __name__ == "__main__":
    config, results, *record = map(Path, sys.argv[1:])
    print("ready", flush=True)
    sys.stdin.readline()
    taken = record[0] if record else None
    experiment, script = load_experiment(config), Script(_say)
    script.name_episodes(experiment)
    job = Job(experiment, script, results, taken, local_prices(experiment))
    progress = asyncio.run(run_sequential(job, lambda progress: None))
    sys.exit(progress.episodes.total() != progress.total)
