"""A caller who leaves, at any moment: the provider's request ends with the call."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from arena_llm import ArenaError, AsyncClient
from tests.support.scripted import eventually
from tests.support.upstreams.cases import MOMENTS
from tests.support.upstreams.openrouter import OpenRouterUpstream
from tests.support.upstreams.server import Reply
from tests.unit.openrouter.conftest import call


async def leave(llm: AsyncClient, streamed: bool, moment: Callable[[], Awaitable[None]]) -> None:
    task = asyncio.create_task(call(llm, streamed))
    await moment()
    task.cancel()
    with pytest.raises((asyncio.CancelledError, ArenaError)):
        await task


@pytest.mark.parametrize(
    ("streamed", "held"),
    [(False, None), *((True, held) for held in MOMENTS.values())],
    ids=["unary", *MOMENTS],
)
async def test_at_each_moment(
    llm: AsyncClient, upstream: OpenRouterUpstream, streamed: bool, held: int | None
) -> None:
    upstream.default = Reply(hold=asyncio.Event(), held=held)

    async def holding() -> None:
        await eventually(lambda: upstream.history)
        await upstream.history[0].holding.wait()

    await leave(llm, streamed, holding)
    await asyncio.wait_for(upstream.history[0].dropped.wait(), 20)


async def test_between_the_moments(llm: AsyncClient, upstream: OpenRouterUpstream) -> None:
    upstream.default = Reply(hold=asyncio.Event(), held=1)
    for steps in range(100):

        async def some(steps: int = steps) -> None:
            for _ in range(steps):
                await asyncio.sleep(0)

        await leave(llm, bool(steps % 3), some)
    await eventually(lambda: not upstream.running)
    assert all(one.dropped.is_set() for one in upstream.history)
