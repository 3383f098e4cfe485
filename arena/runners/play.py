"""What a worker does, whichever process it is in: play what the desk deals."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from functools import cache
from typing import Any

from arena.agents.base import PlayerLeft
from arena.experiment.budget import BudgetSpent
from arena.experiment.episode import play_episode, seat_players
from arena.experiment.file import Experiment
from arena.experiment.ledger import Backend, ask_through_ledger
from arena.games.game import Game
from arena.runners.desk import Desk
from arena.runners.tally import Tally

#: Told how far the run is, a few times a second.
Watch = Callable[[Tally], None]

#: Seconds between two tallies.
_PACE = 0.25


async def play(
    desk: Desk, experiment: Experiment, backend: Backend, places: int, worker: int = 0
) -> None:
    """Play until the desk deals nothing more: at most `places` episodes at once.

    Raises what neither the ledger nor an episode can carry: RecordingError, ResultsError.
    """
    game = cache(Game.load)
    ask_for = ask_through_ledger(desk, backend)

    async def place() -> None:
        while spec := await desk.take(worker):
            try:
                seats = seat_players(spec, experiment.participants)
                row, moves = await play_episode(spec, game(spec.game), seats, ask_for)
            except (BudgetSpent, PlayerLeft) as error:
                await desk.stop(spec.episode, str(error))
            else:
                await desk.finish(row, moves)

    await desk.join(worker)
    await together(place() for _ in range(places))


async def together(parts: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run all at once. The first error ends the others, and is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            for part in parts:
                group.create_task(part)
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None


async def watched(work: Awaitable[None], desk: Desk, watch: Watch) -> Tally:
    """Wait for the work, and tell how far it is meanwhile. Returns the last tally."""
    running = asyncio.ensure_future(work)
    try:
        while not running.done():
            watch(await desk.tally())
            await asyncio.wait([running], timeout=_PACE)
    finally:
        running.cancel()
        await asyncio.wait([running])
    running.result()
    tally = await desk.tally()
    watch(tally)
    return tally
