"""A caller may cancel at any moment. The provider's request then ends, and nothing stays open."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import aiohttp
import pytest

from arena_llm import ArenaError, AsyncClient
from tests.support.upstreams.cases import MOMENTS
from tests.support.upstreams.server import Fault, Reply
from tests.support.waiting import eventually
from tests.unit.hosted.conftest import Provider, Start, call, fail


@pytest.fixture(autouse=True)
def garbage() -> Iterator[None]:
    """Collect what cancelled calls of litellm leave, whose warnings only these tests ignore."""
    yield
    gc.collect()


async def cancel(
    llm: AsyncClient, model: str, streamed: bool, moment: Callable[[], Awaitable[None]]
) -> None:
    """Start a call, wait for the moment, and cancel."""
    task = asyncio.create_task(call(llm, streamed, model))
    await moment()
    task.cancel()
    with pytest.raises((asyncio.CancelledError, ArenaError)):
        await task


@pytest.mark.parametrize("moment", ["unary", *MOMENTS])
async def test_a_cancelled_call(
    llm: AsyncClient, upstream: Any, provider: Provider, moment: str
) -> None:
    upstream.default = Reply(hold=asyncio.Event(), held=MOMENTS.get(moment))

    async def holding() -> None:
        await eventually(lambda: upstream.history)
        await upstream.history[0].holding.wait()

    await cancel(llm, provider.model, moment != "unary", holding)
    await asyncio.wait_for(upstream.history[0].dropped.wait(), 20)


async def test_all_moments_between(llm: AsyncClient, upstream: Any, provider: Provider) -> None:
    """Cancel after each number of steps of the event loop."""
    upstream.default = Reply(hold=asyncio.Event(), held=1)
    for steps in range(0, 120, 4):

        async def pass_steps(steps: int = steps) -> None:
            for _ in range(steps):
                await asyncio.sleep(0)

        await cancel(llm, provider.model, bool(steps % 3), pass_steps)
    await eventually(lambda: not upstream.running)
    assert all(request.dropped.is_set() for request in upstream.history)


async def test_a_reply_that_nobody_got_and_that_was_dropped_is_reported_by_the_next_call(
    start: Start, upstream: Any, provider: Provider, capsys: pytest.CaptureFixture[str]
) -> None:
    """A unary call with an id runs to its end after its caller has left."""
    async with start(request_id_seconds=60, request_id_bytes=1) as llm:
        for number in range(100):
            upstream.history.clear()
            upstream.enqueue(Reply(hold=(hold := asyncio.Event())))
            options = {"request_id": f"call-{number}", "max_tokens": 20}
            first = asyncio.create_task(llm.generate(provider.model, "hi", **options))
            await eventually(lambda: upstream.history)
            await upstream.history[0].holding.wait()
            first.cancel()
            await eventually(lambda: "status=CANCELLED" in capsys.readouterr().err)
            hold.set()
            await eventually(lambda: not upstream.running)
            reply = await llm.generate(provider.model, "hi", **options)
            if not reply.replayed:  # else it has joined the first call, and got its reply
                break
    assert [attempt.reason for attempt in reply.attempts] == ["INTERRUPTED", ""]
    assert len(upstream.history) == 2


async def test_a_stopped_service_leaves_no_session_open(
    start: Start, upstream: Any, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions: list[aiohttp.ClientSession] = []
    make = aiohttp.ClientSession.__init__

    def make_and_note(session: aiohttp.ClientSession, *arguments: Any, **options: Any) -> None:
        sessions.append(session)
        make(session, *arguments, **options)

    monkeypatch.setattr(aiohttp.ClientSession, "__init__", make_and_note)
    async with start(max_attempts=1) as llm:
        for streamed in (False, True):
            upstream.enqueue(Reply(), Fault(400), Fault(reset=True))
            assert await call(llm, streamed, provider.model) == "ok"
            for _ in range(2):
                await fail(llm, streamed, provider.model)
        assert not all(session.closed for session in sessions)
    assert all(session.closed for session in sessions)
