"""Clients in threads and event loops, pickled, and closed during calls."""

from __future__ import annotations

import asyncio
import gc
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import arena_llm
from arena_llm import errors
from arena_llm._transport import Link
from tests.unit.client.scripted import (
    HOLD,
    MODEL,
    Script,
    collect,
    settle,
)

BOTH = pytest.mark.parametrize("make", [arena_llm.Client, arena_llm.AsyncClient])


@BOTH
async def test_pickle_reconnects(make, target: str, script: Script) -> None:
    llm = make(target, timeout=50)
    await settle(llm.generate(MODEL, "hi"))
    copy = pickle.loads(pickle.dumps(llm))  # noqa: S301 - our own bytes
    assert type(copy) is make
    assert (copy.target, copy.timeout) == (target, 50)
    await settle(llm.close())
    assert (await settle(copy.generate(MODEL, "there"))).text == "there"
    await settle(copy.close())


@BOTH
async def test_calls_on_behalf_of_another_caller(make, target: str, script: Script) -> None:
    """They have the other caller's token, or none, and use the same connection."""
    llm = make(target, token="mine")  # noqa: S106 - of this test only
    other = llm.on_behalf_of("theirs", {"arena-hops": "1"})
    for client in (llm, other, llm.on_behalf_of("")):
        await settle(client.generate(MODEL, "hi"))
    seen = [seen.metadata for seen in script.history]
    assert [s.get("authorization") for s in seen] == ["Bearer mine", "Bearer theirs", None]
    assert [s.get("arena-hops") for s in seen] == [None, "1", None]
    assert other._link is llm._link
    with pytest.raises(TypeError, match="another caller"):
        pickle.dumps(other)
    with pytest.raises(errors.InvalidArgumentError):
        llm.on_behalf_of("two words")
    await settle(llm.close())


@BOTH
async def test_metadata_with_too_many_bytes_is_named(make, target: str, script: Script) -> None:
    llm = make(target)
    with pytest.raises(errors.ResourceExhaustedError) as caught:
        await settle(llm.on_behalf_of("x" * 20_000).generate(MODEL, "hi"))
    assert caught.value.reason == "TOO_LARGE"
    assert "metadata of this call, such as its token, has too many bytes" in caught.value.message
    assert "may have 8192" in caught.value.message
    assert not script.history
    await settle(llm.close())


def test_one_client_in_many_threads(llm: arena_llm.Client, script: Script) -> None:
    # The first calls start at the same time and race for the channel.
    together = threading.Barrier(16)

    def call(number: int) -> list[str]:
        together.wait(20)
        return [llm.generate(MODEL, f"{number}-{i}").text for i in range(5)]

    with ThreadPoolExecutor(16) as pool:
        texts = list(pool.map(call, range(16)))
    assert texts == [[f"{number}-{i}" for i in range(5)] for number in range(16)]


def test_one_async_client_in_loop_after_loop(target: str, script: Script) -> None:
    llm = arena_llm.AsyncClient(target)

    async def twice() -> list[str]:
        return [(await llm.generate(MODEL, "hi")).text for _ in range(2)]

    for _ in range(3):
        assert asyncio.run(twice()) == ["hi", "hi"]
    # Closed loops and their channels are not kept.
    assert len(llm._link._channels) == 1


def test_an_async_client_is_dropped_without_a_warning(target: str, script: Script) -> None:
    async def use() -> None:
        llm = arena_llm.AsyncClient(target)
        await llm.generate(MODEL, "hi")

    asyncio.run(use())
    gc.collect()


async def test_closing_twice_is_harmless(either, script: Script) -> None:
    await settle(either.generate(MODEL, "hi"))
    await settle(either.close())
    await settle(either.close())


#: The errors of calls that ran, and of calls that were not started, when the client was closed.
CLOSED = {
    "CANCELLED": errors.CallCancelledError,
    "CLIENT_CLOSED": errors.FailedPreconditionError,
}

CALLS = {
    "generate": lambda llm: llm.generate(MODEL, "hi"),
    "stream": lambda llm: collect(llm.stream(MODEL, "hi")),
    "events": lambda llm: collect(llm.stream(MODEL, "hi").events()),
    "score": lambda llm: llm.score(MODEL, "hi", ["a"]),
    "is_available": lambda llm: llm.is_available(MODEL),
    "list_models": lambda llm: llm.list_models(),
    "generate_many": lambda llm: gather(llm.generate_many(MODEL, ["a", "b", "c"], concurrency=2)),
}


async def gather(many: object) -> list[object]:
    """Return the outcomes of generate_many without their positions."""
    return [reply for _, reply in await collect(many)]


async def outcome(llm: arena_llm.Client | arena_llm.AsyncClient, call: str) -> list[object]:
    """Return what a call returns or raises; a synchronous call runs on a thread."""

    def run() -> object:
        return asyncio.run(settle(CALLS[call](llm)))

    try:
        if isinstance(llm, arena_llm.Client):
            results = await asyncio.to_thread(run)
        else:
            results = await settle(CALLS[call](llm))
    except errors.ArenaError as error:
        results = error
    return results if isinstance(results, list) else [results]


@pytest.mark.parametrize("call", CALLS)
async def test_closing_ends_calls_that_run(call: str, either, script: Script) -> None:
    concurrent = 2 if call == "generate_many" else 1
    script.enqueue(*[HOLD] * concurrent)
    script.enqueue_stream(HOLD)
    arrived = threading.Semaphore(0)
    script.on_arrival = arrived.release
    running = asyncio.create_task(outcome(either, call))
    for _ in range(concurrent):
        assert await asyncio.to_thread(arrived.acquire, timeout=20)
    await settle(either.close())
    results = await running
    # Those that have not started are refused.
    waiting = len(results) - concurrent
    expected = ["CANCELLED"] * concurrent + ["CLIENT_CLOSED"] * waiting
    assert sorted(error.reason for error in results) == expected
    assert len(results) == 2 * concurrent - 1
    assert all(isinstance(error, CLOSED[error.reason]) for error in results)
    for seen in script.history:
        assert await asyncio.to_thread(seen.ended.wait, 20)
    assert len(script.history) == concurrent


@pytest.mark.parametrize("call", CALLS)
async def test_closing_in_another_loop_ends_calls_that_run(
    call: str, target: str, script: Script
) -> None:
    llm = arena_llm.AsyncClient(target)
    script.enqueue(HOLD, HOLD)
    script.enqueue_stream(HOLD)
    arrived = threading.Event()
    script.on_arrival = arrived.set
    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(asyncio.run, outcome(llm, call))
        assert await asyncio.to_thread(arrived.wait, 20)
        await llm.close()
        results = await asyncio.to_thread(running.result, 20)
    assert all(isinstance(error, CLOSED[error.reason]) for error in results)
    for seen in script.history:
        assert await asyncio.to_thread(seen.ended.wait, 20)


@pytest.mark.parametrize("call", CALLS)
async def test_a_closed_client_refuses_every_call(call: str, either, script: Script) -> None:
    await settle(either.close())
    results = await outcome(either, call)
    assert {error.reason for error in results} == {"CLIENT_CLOSED"}
    assert all(isinstance(error, errors.FailedPreconditionError) for error in results)
    assert not script.history


@BOTH
@pytest.mark.parametrize("call", CALLS)
async def test_closing_ends_calls_that_wait_for_a_connection(
    call: str, make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("arena_llm._transport.CONNECT_SECONDS", 60)
    waits = threading.Event()
    really = Link.patience

    def patience(link: Link) -> float:
        waits.set()
        return really(link)

    monkeypatch.setattr(Link, "patience", patience)
    llm = make(f"unix:{tmp_path}/nobody")
    running = asyncio.create_task(outcome(llm, call))
    assert await asyncio.to_thread(waits.wait, 20)
    await settle(llm.close())
    results = await running
    if call != "generate_many":  # a call that begins after `close` finds a closed client
        assert results[0].reason == "CANCELLED"
    assert all(isinstance(error, CLOSED[error.reason]) for error in results)


async def test_a_cancelled_task_is_cancelled_and_so_is_its_call(
    target: str, script: Script
) -> None:
    script.enqueue(HOLD)
    arrived = asyncio.Event()
    loop = asyncio.get_running_loop()
    script.on_arrival = lambda: loop.call_soon_threadsafe(arrived.set)
    async with arena_llm.AsyncClient(target) as llm:
        task = asyncio.create_task(llm.generate(MODEL, "hi"))
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(script.history[0].ended.wait, 20)
