"""A worker: plays the episodes that the coordinator hands out.

The sequential runner is one worker beside the coordinator, in one event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from functools import cache
from typing import Any

from arena.agents.base import PlayerLeft
from arena.experiment.budget import BudgetSpent
from arena.experiment.episode import play_episode, seat_players
from arena.experiment.ledger import ask_through_ledger
from arena.experiment.model_calls import ModelCaller
from arena.experiment.patience import ModelAway, Outage
from arena.games.game import Game
from arena.runners.coordinator import Coordinator, Job, RunProgress

#: Is called with the progress of a run several times a second.
Watch = Callable[[RunProgress], None]

#: Seconds between two calls of Watch.
_INTERVAL = 0.25


async def run_sequential(job: Job, watch: Watch) -> RunProgress:
    """Play all missing episodes in this process. Raises ResultsError, RecordingError."""
    coordinator = Coordinator(job)
    try:
        places = job.experiment.settings.episodes_in_flight
        return await watch_run(play(coordinator, job, places), coordinator, watch)
    finally:
        await coordinator.close()


async def play(coordinator: Coordinator, job: Job, places: int, worker: int = 0) -> None:
    """Play until the coordinator has no more episodes, at most `places` at the same time.

    worker: the number of this worker. Raises errors that do not belong to an episode:
    RecordingError, ResultsError.
    """
    load = cache(Game.load)
    ask_for = ask_through_ledger(coordinator, job.backend, await coordinator.join(worker))

    async def play_next() -> None:
        while (spec := await coordinator.take(worker)) is not None:
            if isinstance(spec, float):
                await asyncio.sleep(spec)
                continue
            try:
                seats = seat_players(spec, job.experiment.participants)
                row, moves = await play_episode(spec, load(spec.game), seats, ask_for)
            except ModelAway as away:
                await coordinator.leave_open(spec.episode, away.model, str(away))
            except (BudgetSpent, PlayerLeft) as error:
                await coordinator.stop(spec.episode, str(error), error.remedy)
            else:
                await coordinator.finish(row, moves)

    reporting = asyncio.ensure_future(_report_outages(coordinator, job.backend, worker))
    try:
        await run_all(play_next() for _ in range(places))
    finally:
        reporting.cancel()
        await asyncio.wait([reporting])


async def _report_outages(coordinator: Coordinator, backend: object, worker: int) -> None:
    """Tell the coordinator for which models this worker waits, whenever that changes."""
    noted: dict[str, Outage] = {}
    while isinstance(backend, ModelCaller):
        if (outages := backend.outages) != noted:
            noted = outages
            await coordinator.note_outages(worker, noted)
        await asyncio.sleep(_INTERVAL)


async def run_all(coroutines: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run coroutines at the same time. The first error cancels the others and is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            for coroutine in coroutines:
                group.create_task(coroutine)
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None


async def watch_run(work: Awaitable[None], coordinator: Coordinator, watch: Watch) -> RunProgress:
    """Wait for the work, and report progress meanwhile. Returns the final progress."""
    running = asyncio.ensure_future(work)
    try:
        while not running.done():
            watch(await coordinator.progress())
            await asyncio.wait([running], timeout=_INTERVAL)
    finally:
        running.cancel()
        await asyncio.wait([running])
    running.result()
    await coordinator.settle()
    progress = await coordinator.progress()
    watch(progress)
    return progress
