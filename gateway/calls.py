"""Several calls of the client that one request needs: `n` answers, or several prompts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Sequence
from typing import Any, TypeVar

from arena_llm import AsyncStream
from arena_llm.types import Completion, Delta, Progress, StreamStart

T = TypeVar("T")

#: What a stream yields; its completion is the last one.
Event = StreamStart | Delta | Progress | Completion

#: Calls of one request that run at the same time.
CONCURRENCY = 32
#: Events that wait for a caller who reads slowly.
_QUEUED = 64


async def run_all(calls: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Return the results in order. The first failure cancels all other calls, and is raised."""
    if len(calls) == 1:
        return [await calls[0]]
    places = asyncio.Semaphore(CONCURRENCY)

    async def run(call: Coroutine[Any, Any, T]) -> T:
        async with places:
            return await call

    tasks = [asyncio.create_task(run(call)) for call in calls]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        await _cancel(tasks)
        for call in calls:
            call.close()  # a call that was cancelled before its turn is still open


async def merge(streams: Sequence[AsyncStream]) -> AsyncGenerator[tuple[int, Event], None]:
    """Yield the events of all streams as they come, each with the position of its stream."""
    if len(streams) == 1:
        async with streams[0] as stream:
            async for event in stream.events():
                yield 0, event
            yield 0, stream.completion
        return
    places = asyncio.Semaphore(CONCURRENCY)
    queue: asyncio.Queue[tuple[int, Event] | BaseException | None] = asyncio.Queue(_QUEUED)

    async def pump(index: int, stream: AsyncStream) -> None:
        try:
            async with places, stream:
                async for event in stream.events():
                    await queue.put((index, event))
                await queue.put((index, stream.completion))
        except Exception as error:  # raised below, in the task of the request
            await queue.put(error)
        else:
            await queue.put(None)

    tasks = [asyncio.create_task(pump(*numbered)) for numbered in enumerate(streams)]
    try:
        running = len(tasks)
        while running:
            match await queue.get():
                case None:
                    running -= 1
                case BaseException() as error:
                    raise error
                case item:
                    yield item
    finally:
        await _cancel(tasks)


async def _cancel(tasks: Sequence[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
