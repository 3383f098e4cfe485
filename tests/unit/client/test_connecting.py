"""Connections that cannot be made, are made late, or are lost."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import arena_llm
from arena_llm import errors
from tests.unit.client.interpreter import run_python
from tests.unit.client.scripted import (
    MODEL,
    Fail,
    Script,
    collect,
    end_event,
    grpc,
    settle,
    start,
    text_event,
)

BOTH = pytest.mark.parametrize("make", [arena_llm.Client, arena_llm.AsyncClient])


@BOTH
async def test_no_server(make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arena_llm._transport.CONNECT_SECONDS", 0.2)
    llm = make(f"unix:{tmp_path}/nobody")
    for call in (lambda: llm.generate(MODEL, "hi"), lambda: collect(llm.stream(MODEL, "hi"))):
        with pytest.raises(errors.UnavailableError) as caught:
            await settle(call())
        assert caught.value.reason == "UNREACHABLE"
        assert f"{tmp_path}/nobody" in str(caught.value)
        assert "make up" in str(caught.value)
    await settle(llm.close())


@BOTH
async def test_a_server_that_hangs(make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system accepts connections for a stopped process, but nothing answers."""
    monkeypatch.setattr("arena_llm._transport.CONNECT_TIMEOUT_MS", 300)
    monkeypatch.setattr("arena_llm._transport.CONNECT_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        llm = make(f"127.0.0.1:{listener.getsockname()[1]}")
        with pytest.raises(errors.UnavailableError) as caught:
            await settle(llm.generate(MODEL, "hi", timeout=15))
        assert caught.value.reason == "UNREACHABLE"
        await settle(llm.close())


@pytest.fixture
def late_server(script: Script, tmp_path: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    """An address without a server, and a function that starts one there."""
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
async def test_a_failed_connection_is_retried(
    make, streamed: bool, script: Script, late_server, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, begin = late_server
    # Longer than the server needs to start, also on a slow machine.
    monkeypatch.setattr("arena_llm._transport.CONNECT_SECONDS", 60)
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
        assert await settle(collect(llm.stream(MODEL, "hi"))) == ["x"]
    else:
        assert (await settle(llm.generate(MODEL, "hi"))).text == "hi"
    assert len(script.history) == 1
    await settle(llm.close())


async def test_a_servers_error_is_not_retried(either, script: Script) -> None:
    # With the text that grpc uses if it cannot connect.
    words = "failed to connect to all addresses"
    script.enqueue(Fail(grpc.StatusCode.UNAVAILABLE, words, "BACKEND_DOWN"))
    with pytest.raises(errors.UnavailableError) as caught:
        await settle(either.generate(MODEL, "hi"))
    assert caught.value.reason == "BACKEND_DOWN"
    assert len(script.history) == 1


@BOTH
async def test_a_lost_connection_is_not_retried(make, tmp_path: Path) -> None:
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
    # A second attempt would have failed with UNREACHABLE.
    assert caught.value.reason == "CONNECTION_LOST"
    assert "dying" in str(caught.value)
    await settle(llm.close())
    server.communicate(timeout=20)


def test_nothing_is_connected_before_the_first_call(tmp_path: Path) -> None:
    llm = arena_llm.Client(f"unix:{tmp_path}/nobody")
    assert repr(llm) == f"Client('unix:{tmp_path}/nobody', timeout=600)"
    assert not llm._link._channels
    llm.close()
