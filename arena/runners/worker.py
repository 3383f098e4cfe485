"""A worker: plays the episodes that the coordinator hands out.

The sequential runner is one worker beside the coordinator, in one event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import cache

from arena.agents.base import PlayerLeft
from arena.experiment.budget import BudgetSpent
from arena.experiment.episode import play_episode, seat_players
from arena.experiment.ledger import ask_through_ledger
from arena.experiment.model_calls import ModelCaller
from arena.experiment.patience import ModelAway, Outage, RouterAway
from arena.games.game import Game
from arena.plugins import find_plugin_error
from arena.runners.coordinator import Coordinator
from arena.runners.job import Job, RunProgress

#: Is called with the progress of a run several times a second.
Watch = Callable[[RunProgress], None]

#: Seconds between two calls of Watch.
_INTERVAL = 0.25
#: Seconds between two looks at how many episodes a worker may play.
_SHARE_SECONDS = 1.0


async def run_sequential(job: Job, watch: Watch) -> RunProgress:
    """Play all missing episodes in this process. Raises ResultsError, RecordingError."""
    coordinator = Coordinator(job)
    try:
        return await watch_run(play(coordinator, job), coordinator, watch)
    finally:
        await coordinator.close()


async def play(coordinator: Coordinator, job: Job, worker: int = 0) -> None:
    """Play until the coordinator has no more episodes, as many at the same time as it allows.

    worker: the number of this worker. Raises errors that do not belong to an episode:
    RecordingError, ResultsError, RouterAway, PluginError.
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
            except RouterAway:
                raise
            except ModelAway as away:
                await coordinator.leave_open(spec.episode, away.model, str(away))
            except (BudgetSpent, PlayerLeft) as error:
                await coordinator.stop(spec.episode, str(error), error.remedy)
            except Exception as error:
                # Said here, because a traceback does not reach the driver of Ray.
                raise find_plugin_error(error) or error from error.__cause__
            else:
                await coordinator.finish(row, moves)

    reporting = asyncio.ensure_future(_report_outages(coordinator, job.backend, worker))
    places: set[asyncio.Future[None]] = set()
    ended: set[asyncio.Future[None]] = set()
    next_look = 0.0
    try:
        while True:
            # Other workers may have joined or left since the last look.
            if (now := time.monotonic()) >= next_look:
                next_look = now + _SHARE_SECONDS
                missing = await coordinator.share() - len(places)
                places |= {asyncio.ensure_future(play_next()) for _ in range(missing)}
            ended, places = await asyncio.wait(
                places, timeout=next_look - now, return_when=asyncio.FIRST_COMPLETED
            )
            for place in ended:
                place.result()
            if not places:
                return
    finally:
        for task in (reporting, *places):
            task.cancel()
        # All errors are read, because asyncio prints the others with their tracebacks: a full disk
        # is one for every game.
        await asyncio.gather(reporting, *ended, *places, return_exceptions=True)


async def _report_outages(coordinator: Coordinator, backend: object, worker: int) -> None:
    """Tell the coordinator for which models this worker waits, whenever that changes."""
    noted: dict[str, Outage] = {}
    while isinstance(backend, ModelCaller):
        if (outages := backend.outages) != noted:
            noted = outages
            await coordinator.note_outages(worker, noted)
        await asyncio.sleep(_INTERVAL)


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
