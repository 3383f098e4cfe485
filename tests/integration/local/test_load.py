"""hf and vllm under load: calls that end early, a full queue, and turns of several callers."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from arena_llm import AsyncClient, Client
from arena_llm.errors import DeadlineExceededError, ResourceExhaustedError
from arena_llm.types import ModelState
from tests.support.local_models import PROMPT, LocalService
from tests.support.waiting import eventually, reaching
from tests.support.wire import request, stub

#: Options of a call that generates until it is stopped.
ENDLESS: dict[str, Any] = {"regex": "([78] ){4000}", "max_tokens": 400}
#: Calls whose caller leaves. All of their tokens would take many seconds, so that even a machine
#: that notices it late generates fewer than half of them.
ABANDONED = 200


async def check_freed(service: LocalService, llm: Client, before: int) -> None:
    """Check that the engine is free before all tokens of the abandoned calls are generated.

    before: the tokens that were generated before these calls.
    """
    # vLLM reports its load after a step.
    await asyncio.to_thread(llm.generate, service.tiny, PROMPT, max_tokens=1)
    await eventually(lambda: service.is_idle(llm))
    # A loaded machine notices the end of 200 calls late: half of the tokens were seen on CI.
    generated = service.load(llm).generated_tokens - before
    assert generated < 0.9 * ABANDONED * ENDLESS["max_tokens"]


@pytest.mark.parametrize("method", ["generate", "stream"])
async def test_cancelled_calls_and_closed_streams_free_the_engine(
    service: LocalService, llm: Client, method: str
) -> None:
    calls: list[asyncio.Future[Any]]
    before = service.load(llm).generated_tokens
    async with AsyncClient(service.address) as client:
        asked = [(service.tiny, f"{n}: {PROMPT}") for n in range(ABANDONED)]
        if method == "stream":
            streams = [client.stream(*call, **ENDLESS) for call in asked]
            calls = [asyncio.ensure_future(stream.__anext__()) for stream in streams]
            await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
            for stream in streams:  # one by one: grpc.aio may hang if hundreds end together
                await stream.aclose()
        else:
            calls = [asyncio.ensure_future(client.generate(*call, **ENDLESS)) for call in asked]
            await eventually(lambda: service.load(llm).running > 0)
            for call in calls:
                call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        await check_freed(service, llm, before)


async def test_expired_deadlines_free_the_engine(service: LocalService, llm: Client) -> None:
    before = service.load(llm).generated_tokens
    async with AsyncClient(service.address) as client:

        async def expire(seconds: float) -> list[object]:
            calls = (
                client.generate(service.tiny, f"{n}: {PROMPT}", timeout=seconds, **ENDLESS)
                for n in range(ABANDONED)
            )
            return await asyncio.gather(*calls, return_exceptions=True)

        errors = await reaching(lambda: service.load(llm).generated_tokens > before, expire)
        assert {type(error) for error in errors} == {DeadlineExceededError}
        await check_freed(service, llm, before)


async def test_a_full_queue_refuses_calls(service: LocalService) -> None:
    """16 calls run and 200 may wait, so 44 of 260 end soon: they are refused.

    On a slow machine a few have completed before the last ones arrive.
    """
    async with AsyncClient(service.address) as client:
        calls = [
            asyncio.ensure_future(client.generate(service.tiny, PROMPT, **ENDLESS))
            for _ in range(260)
        ]
        done, pending = set(), set(calls)
        while len(done) < 44:
            more, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            done |= more
        for call in pending:
            call.cancel()
        await asyncio.wait(pending)
    refused = [error for call in done if (error := call.exception())]
    assert {type(error) for error in refused} == {ResourceExhaustedError}
    assert {getattr(error, "retry_after", None) for error in refused} == {1.0}


def test_the_service_still_serves(service: LocalService, llm: Client) -> None:
    """It runs after the tests that leave the services running: none has found a bug."""
    assert llm.is_available(service.tiny).state == ModelState.READY
    assert service.is_idle(llm)
    assert "bug" not in re.findall(r"event=(\w+)", service.log())


async def test_a_token_that_floods_the_engine_leaves_another_its_turn(
    service: LocalService, llm: Client
) -> None:
    """The batch has 16 places, and the flood 80 calls: those of two tokens that wait take turns."""
    async with stub(service.address) as calls:

        def ask(tenant: str, tokens: int) -> asyncio.Future[Any]:
            asked = request(
                service.tiny,
                PROMPT,
                config={"max_tokens": tokens, "ignore_eos": True, "temperature": 0},
            )
            call = calls.Generate(asked, metadata=[("arena-tenant", tenant)])
            return asyncio.ensure_future(call)

        # Long enough that a busy machine sees it wait; it is cancelled below.
        flood = [ask("flood", 400) for _ in range(80)]
        await eventually(lambda: service.load(llm).waiting > 50 or any(one.done() for one in flood))
        assert [one.exception() for one in flood if one.done() and one.exception()] == []
        await ask("player", 1)
        assert sum(not call.done() for call in flood) > 2 * 16
        for call in flood:
            call.cancel()
        await asyncio.gather(*flood, return_exceptions=True)
