"""The hf service on Ray Serve, behind a router: scaling, held calls, sessions, killed replicas."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from arena_llm import ArenaError, AsyncClient, DeadlineExceededError
from tests.support.ray_serve import MODEL, RayServe

# Not part of `make test`: it takes minutes, and replicas that start need idle cores.
pytestmark = [pytest.mark.integration, pytest.mark.cluster, pytest.mark.timeout(600)]


@asynccontextmanager
async def load(llm: AsyncClient, callers: int) -> AsyncIterator[list[ArenaError]]:
    """So many callers, one call after the other; yields the errors that they get."""
    errors: list[ArenaError] = []

    async def call_again_and_again(number: int) -> None:
        while True:
            try:
                await llm.generate(MODEL, "a b c", max_tokens=64, session=f"game {number}")
            except ArenaError as error:
                errors.append(error)
                await asyncio.sleep(0.05)

    tasks = [asyncio.create_task(call_again_and_again(number)) for number in range(callers)]
    try:
        yield errors
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def until_there_are(serve: RayServe, count: int) -> None:
    """Wait until so many replicas run. To look takes long enough to delay the callers."""
    async with asyncio.timeout(240):
        while len(await asyncio.to_thread(serve.replicas)) != count:
            pass


async def test_replicas_follow_the_calls(ray_serve: RayServe, llm: AsyncClient) -> None:
    """1, 3, 1, 0 and 1 replicas under load, and no call fails but those of a killed replica.

    It is one test, because each replica that starts takes seconds.
    """
    await until_there_are(ray_serve, 0)
    # A call is held until there is a replica, or until its deadline.
    with pytest.raises(DeadlineExceededError):
        await llm.generate(MODEL, "a b c", max_tokens=4, timeout=0.2)
    first = await llm.generate(MODEL, "a b c", max_tokens=4)
    assert first.served_by.replica.startswith("hf-")
    async with load(llm, 8) as errors:
        await until_there_are(ray_serve, 3)
        assert await find_homes(llm) == await find_homes(llm), "a session stays where it is"
        assert errors == []
        ray_serve.replicas()[0].kill()
        await asyncio.sleep(2)  # what the contract allows
        failed = len(errors)
        await find_homes(llm)  # it has been replaced
        assert len(errors) == failed, errors
    assert {error.code for error in errors} <= {"UNAVAILABLE"}, errors
    async with load(llm, 2) as errors:
        await until_there_are(ray_serve, 1)
        status = await asyncio.to_thread(ray_serve.deploy, "status")
    assert errors == []
    assert status.startswith("hf           running      replicas: 1 ")
    await until_there_are(ray_serve, 0)
    assert (await llm.generate(MODEL, "a b c", max_tokens=4)).text


async def find_homes(llm: AsyncClient) -> dict[str, str]:
    """The replica that answers each of some sessions, after three replicas have answered."""
    homes: dict[str, str] = {}
    while True:
        complete = len({*homes.values()}) == 3
        for number in range(24):
            session = f"session {number}"
            reply = await llm.generate(MODEL, "a b c", max_tokens=1, session=session)
            homes[session] = reply.served_by.replica
        if complete:
            return homes
