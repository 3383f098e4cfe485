"""A caller who leaves, at any moment: the provider's request ends with the call."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import aiohttp
import pytest

from arena_llm import ArenaError, AsyncClient
from tests.support.scripted import eventually
from tests.support.upstreams.cases import MOMENTS
from tests.support.upstreams.server import Fault, Reply
from tests.unit.litellm.conftest import PROVIDERS, Provider, Start, call, failed

ALL = pytest.mark.parametrize("provider", PROVIDERS, indirect=True)


async def leave(llm: AsyncClient, model: str, streamed: bool, seen: Any) -> None:
    """Call, wait for what `seen` waits for, and cancel."""
    task = asyncio.create_task(call(llm, streamed, model=model))
    await seen()
    task.cancel()
    with pytest.raises((asyncio.CancelledError, ArenaError)):
        await task


@pytest.mark.parametrize("moment", MOMENTS)
@ALL
async def test_a_stream(llm: AsyncClient, upstream: Any, provider: Provider, moment: str) -> None:
    upstream.default = Reply(hold=asyncio.Event(), held=MOMENTS[moment])

    async def holding() -> None:
        await eventually(lambda: upstream.history)
        await upstream.history[0].holding.wait()

    await leave(llm, provider.model, True, holding)
    await asyncio.wait_for(upstream.history[0].dropped.wait(), 20)


@ALL
async def test_a_whole_answer(llm: AsyncClient, upstream: Any, provider: Provider) -> None:
    upstream.default = Reply(hold=asyncio.Event())
    await leave(llm, provider.model, False, lambda: eventually(lambda: upstream.running))
    await asyncio.wait_for(upstream.history[0].dropped.wait(), 20)


@ALL
async def test_at_any_moment(llm: AsyncClient, upstream: Any, provider: Provider) -> None:
    """The moments between the others, a step of the event loop apart."""
    upstream.default = Reply(hold=asyncio.Event(), held=1)
    for steps in range(0, 200, 5):

        async def some(steps: int = steps) -> None:
            for _ in range(steps):
                await asyncio.sleep(0)

        await leave(llm, provider.model, True, some)
    await eventually(lambda: not upstream.running)
    assert all(one.dropped.is_set() for one in upstream.history)


@ALL
async def test_nothing_stays_open(start: Start, upstream: Any, provider: Provider) -> None:
    async with start(max_attempts=1) as llm:
        for streamed in (False, True):
            upstream.enqueue(Reply(), Fault(400), Fault(reset=True))
            assert await call(llm, streamed, model=provider.model) == "ok"
            for _ in range(2):
                await failed(llm, streamed, model=provider.model)
        sessions = [one for one in gc.get_objects() if type(one) is aiohttp.ClientSession]
        assert not all(session.closed for session in sessions)
    assert all(session.closed for session in sessions)
