"""Clients in threads, forks and loops, pickled, and closed while they are called."""

from __future__ import annotations

import asyncio
import gc
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import arena_llm
from arena_llm import errors
from tests.unit.client.interpreter import run_python
from tests.unit.client.scripted import (
    HOLD,
    MODEL,
    Script,
    collect,
    end_event,
    settle,
    text_event,
)

BOTH = pytest.mark.parametrize("make", [arena_llm.Client, arena_llm.AsyncClient])

FORK = """
    import os, sys
    from arena_llm import Client
    llm = Client(sys.argv[1])
    print(llm.generate("hf_x", "parent").text)
    print(len(llm.generate_many("hf_x", ["a"] * 9)))
    stream = llm.stream("hf_x", "s")
    print(next(stream), flush=True)
    for child in range(2):
        if (pid := os.fork()) == 0:
            # The parent's client, and one of its own.
            for one in (llm, Client(sys.argv[1])):
                print(one.generate("hf_x", f"child {child}", timeout=20).text, flush=True)
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
    print(llm.generate("hf_x", "parent again", timeout=20).text)
    print(*stream, stream.completion.text)
"""


def test_after_a_fork_parent_and_child_both_call(target: str, script: Script) -> None:
    script.enqueue_stream(text_event("one"), text_event("two"), end_event("both"))
    out, problems = run_python(FORK, target).communicate(timeout=60)
    children = [f"child {i}" for i in (0, 0, 1, 1)]
    assert out.splitlines() == ["parent", "9", "one", *children, "parent again", "two both"], (
        problems
    )


def test_a_fork_without_support_is_told_apart(target: str, script: Script) -> None:
    out, problems = run_python(
        """
        import os, sys
        import grpc
        from arena_llm import ArenaError, Client
        llm = Client(sys.argv[1])
        print(llm.generate("hf_x", "parent").text, flush=True)
        if (pid := os.fork()) == 0:
            try:
                llm.generate("hf_x", "child")
            except ArenaError as error:
                print(error.reason, flush=True)
            os._exit(0)
        os.waitpid(pid, 0)
        print(llm.generate("hf_x", "parent again", timeout=20).text)
        """,
        target,
    ).communicate(timeout=60)
    assert out.splitlines() == ["parent", "FORK_UNSUPPORTED", "parent again"], problems


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


def test_one_client_in_many_threads(llm: arena_llm.Client, script: Script) -> None:
    # The first calls come at once, so that they race for the channel.
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
    # A loop that is over is not kept, nor its channel.
    assert len(llm._link._open) == 1


def test_an_async_client_is_dropped_without_a_word(target: str, script: Script) -> None:
    async def use() -> None:
        llm = arena_llm.AsyncClient(target)
        await llm.generate(MODEL, "hi")

    asyncio.run(use())
    gc.collect()


async def test_closed(either, script: Script) -> None:
    await settle(either.generate(MODEL, "hi"))
    await settle(either.close())
    await settle(either.close())
    for call in (lambda: either.generate(MODEL, "hi"), lambda: collect(either.stream(MODEL, "hi"))):
        with pytest.raises(errors.FailedPreconditionError) as caught:
            await settle(call())
        assert caught.value.reason == "CLIENT_CLOSED"


async def test_closing_ends_calls_that_run(either, script: Script) -> None:
    script.enqueue(HOLD)
    arrived = threading.Event()
    script.on_arrival = arrived.set

    async def close_when_called() -> None:
        assert await asyncio.to_thread(arrived.wait, 20)
        await settle(either.close())

    async def call():
        if isinstance(either, arena_llm.Client):
            return await asyncio.to_thread(either.generate, MODEL, "hi")
        return await either.generate(MODEL, "hi")

    closing = asyncio.create_task(close_when_called())
    with pytest.raises(errors.CallCancelledError):
        await call()
    await closing
    assert script.history[0].ended.wait(20)


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
