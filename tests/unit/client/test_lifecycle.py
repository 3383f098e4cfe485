"""Targets, connections that come and go, threads, forks, pickles."""

from __future__ import annotations

import asyncio
import gc
import os
import pickle
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import arena_llm
from arena_llm import errors
from tests.unit.client.scripted import (
    HOLD,
    MODEL,
    Fail,
    Script,
    end_event,
    grpc,
    settle,
    start,
    text_event,
)

FORK_SWITCH = "GRPC_ENABLE_FORK_SUPPORT"

BOTH = pytest.mark.parametrize("make", [arena_llm.Client, arena_llm.AsyncClient])


def test_the_target(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ARENA_LLM_TARGET", raising=False)
    assert arena_llm.Client().target == "localhost:50050"
    monkeypatch.setenv("ARENA_LLM_TARGET", "")
    assert arena_llm.Client().target == "localhost:50050"
    monkeypatch.setenv("ARENA_LLM_TARGET", "router:1")
    assert arena_llm.Client().target == "router:1"
    assert arena_llm.AsyncClient().target == "router:1"
    assert arena_llm.Client("here:2").target == "here:2"


def test_a_proxy_of_the_environment_is_not_for_this_machine(
    target: str, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with arena_llm.Client(target) as llm:
        assert llm.generate(MODEL, "hi").text == "hi"


@BOTH
async def test_nobody_listens(make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arena_llm._channel.CONNECT_SECONDS", 0.2)
    llm = make(f"unix:{tmp_path}/nobody")
    for call in (lambda: llm.generate(MODEL, "hi"), lambda: drain(llm.stream(MODEL, "hi"))):
        with pytest.raises(errors.UnavailableError) as caught:
            await settle(call())
        assert caught.value.reason == "UNREACHABLE"
        assert f"{tmp_path}/nobody" in str(caught.value)
        assert "make up" in str(caught.value)
    await settle(llm.close())


def drain(stream):
    async def asynchronous() -> list[str]:
        return [delta async for delta in stream]

    return asynchronous() if hasattr(stream, "__aiter__") else list(stream)


@pytest.fixture
def late_server(script: Script, tmp_path: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    """An address where nobody listens, and what makes somebody listen."""
    address = f"unix:{tmp_path}/late"
    servers: list[grpc.Server] = []

    def begin() -> None:
        if not servers:
            servers.append(start(script, address)[0])

    yield address, begin
    for server in servers:
        server.stop(None).wait()


@BOTH
@pytest.mark.parametrize("streamed", [False, True])
async def test_a_connection_that_could_not_be_made_is_tried_again(
    make, streamed: bool, script: Script, late_server, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, begin = late_server
    # However slow this machine is: the server's start is what ends the waiting.
    monkeypatch.setattr("arena_llm._channel.CONNECT_SECONDS", 60)
    really_sleep, really_wait = time.sleep, asyncio.sleep

    def sleep(seconds: float) -> None:
        begin()
        really_sleep(seconds)

    async def wait(seconds: float) -> None:
        begin()
        await really_wait(seconds)

    monkeypatch.setattr("arena_llm.client.time.sleep", sleep)
    monkeypatch.setattr("arena_llm.aio.asyncio.sleep", wait)
    llm = make(address)
    if streamed:
        script.enqueue_stream(text_event("x"), end_event("x"))
        assert await settle(drain(llm.stream(MODEL, "hi"))) == ["x"]
    else:
        assert (await settle(llm.generate(MODEL, "hi"))).text == "hi"
    assert len(script.history) == 1
    await settle(llm.close())


async def test_what_a_server_says_is_final(either, script: Script) -> None:
    # Even in the words that grpc uses for a connection that could not be made.
    words = "failed to connect to all addresses"
    script.enqueue(Fail(grpc.StatusCode.UNAVAILABLE, words, "BACKEND_DOWN"))
    with pytest.raises(errors.UnavailableError) as caught:
        await settle(either.generate(MODEL, "hi"))
    assert caught.value.reason == "BACKEND_DOWN"
    assert len(script.history) == 1


@BOTH
async def test_a_lost_connection_is_not_tried_again(make, tmp_path: Path) -> None:
    server = run_python(
        """
        import os, sys, threading
        from concurrent.futures import ThreadPoolExecutor
        import grpc
        from arena_llm.v1 import llm_service_pb2_grpc
        class Dying(llm_service_pb2_grpc.LlmServiceServicer):
            def Generate(self, request, context):
                os._exit(1)
        server = grpc.server(ThreadPoolExecutor())
        llm_service_pb2_grpc.add_LlmServiceServicer_to_server(Dying(), server)
        server.add_insecure_port(sys.argv[1])
        server.start()
        print("up", flush=True)
        threading.Event().wait()
        """,
        f"unix:{tmp_path}/dying",
    )
    assert server.stdout is not None
    assert server.stdout.readline() == "up\n"
    llm = make(f"unix:{tmp_path}/dying")
    with pytest.raises(errors.UnavailableError) as caught:
        await settle(llm.generate(MODEL, "hi"))
    # Another try would have found nobody: UNREACHABLE.
    assert caught.value.reason == "CONNECTION_LOST"
    assert "dying" in str(caught.value)
    await settle(llm.close())
    server.communicate(timeout=20)


def run_python(source: str, *arguments: str) -> subprocess.Popen[str]:
    """A fresh interpreter, whose output is text, and whose choice of fork support is its own."""
    # Importing the client sets it for this process, unless something imported grpc before.
    env = {name: value for name, value in os.environ.items() if name != FORK_SWITCH}
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(source), *arguments],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


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
    for call in (lambda: either.generate(MODEL, "hi"), lambda: drain(either.stream(MODEL, "hi"))):
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


def test_nothing_is_connected_before_the_first_call(tmp_path: Path) -> None:
    llm = arena_llm.Client(f"unix:{tmp_path}/nobody")
    assert repr(llm) == f"Client('unix:{tmp_path}/nobody', timeout=600)"
    assert not llm._link._open
    llm.close()
