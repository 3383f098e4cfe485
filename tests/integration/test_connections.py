"""Peers that vanish without a word, and host names whose addresses change.

The intervals of pings and the age of connections are scaled down; everything else is the services'
own code. docs/operations.md says what users get.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from arena_llm import AsyncClient, Client, connection
from router import discovery
from router.config import Route, RouterConfig
from router.servicer import Router
from services.common import server
from services.common.config import ServiceConfig
from services.common.servicer import LlmServicer
from tests.support import quick_pings
from tests.support.name_server import NameServer, serve_names
from tests.support.scripted import ScriptedBackend, hang, scripted, serving
from tests.support.tcp_proxy import proxy
from tests.support.waiting import eventually


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pings after 1 s, and 4 s to answer them; the services have 10 and 18."""
    monkeypatch.setattr(connection, "PING_MS", quick_pings.PING_MS)
    monkeypatch.setattr(connection, "PING_TIMEOUT_MS", quick_pings.PING_TIMEOUT_MS)


def make_router(*targets: str) -> Router:
    routes = {"hf_": Route(targets=list(targets), policy="round_robin")}
    return Router(RouterConfig(listen="127.0.0.1:0", routes=routes))


def test_both_ends_notice_within_30_seconds() -> None:
    """A ping is due after PING_MS of silence, and grpc waits PING_TIMEOUT_MS for its answer."""
    for options in (
        connection.ping_options(),
        server.server_options(ServiceConfig(listen="127.0.0.1:0")),
    ):
        times = dict(options)
        assert times["grpc.keepalive_time_ms"] + times["grpc.http2.ping_timeout_ms"] < 30_000


@pytest.mark.parametrize("cut", ["before the router", "behind the router"])
async def test_a_vanished_peer_is_noticed_in_both_directions(quick: None, cut: str) -> None:
    """Nobody closes the connection; the packets are lost.

    The callers get an error, and the backend's work is cancelled.
    """
    async with scripted() as (backend, served):
        backend.default = hang
        async with (
            proxy(served.address) as behind,
            serving(make_router(behind.address)) as router,
            proxy(router.address) as before,
            AsyncClient(before.address) as llm,
        ):
            blocking = Client(before.address)
            calls = asyncio.gather(
                llm.generate("hf_x", "Your move?"),
                anext(aiter(llm.stream("hf_x", "Your move?"))),
                asyncio.to_thread(blocking.generate, "hf_x", "Your move?"),
                return_exceptions=True,
            )
            await eventually(lambda: backend.running == 3)
            (before if cut == "before the router" else behind).swallow()
            async with asyncio.timeout(60):  # without pings, grpc waits for many minutes
                errors: list[Any] = await calls
            await eventually(lambda: backend.running == 0)
            blocking.close()
    expected = "CONNECTION_LOST" if cut == "before the router" else "BACKEND_DOWN"
    assert [getattr(error, "reason", error) for error in errors] == [expected] * 3
    assert backend.ended == ["CancelledError"] * 3


@asynccontextmanager
async def two_addresses() -> AsyncIterator[tuple[NameServer, str]]:
    """Backends "one" and "two" at the same port of 127.0.0.1 and 127.0.0.2, and the target of a
    host's name that leads to the first of them."""
    backends = [ScriptedBackend(), ScriptedBackend()]
    for backend, text in zip(backends, ("one", "two"), strict=True):
        backend.default = text
    first, second = map(LlmServicer, backends)
    async with (
        serve_names("127.0.0.1") as names,
        serving(first) as served,
        serving(second, f"127.0.0.2:{served.port}"),
    ):
        yield names, f"dns://127.0.0.1:{names.port}/arena.test:{served.port}"


async def until_answered_by(llm: AsyncClient, names: Sequence[str]) -> None:
    """Return when the last replies are from these backends and no other one."""
    texts: list[str] = []
    async with asyncio.timeout(25):  # by itself, grpc looks a name up every 30 s
        while len(texts) < 8 or set(texts[-8:]) != {*names}:
            texts.append((await llm.generate("hf_x", "Your move?")).text)
            await asyncio.sleep(0.02)


async def test_new_addresses_of_a_route_are_used_without_a_restart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with two_addresses() as (names, target):
        port = target.rpartition(":")[2]

        async def look_up(_: str) -> tuple[str, ...]:
            return tuple(f"{address}:{port}" for address in names.addresses)

        monkeypatch.setattr(discovery, "look_up", look_up)
        router = make_router("arena.test:1")
        async with serving(router) as served, AsyncClient(served.address) as llm:
            await until_answered_by(llm, ["one"])
            names.addresses = ("127.0.0.1", "127.0.0.2")
            await until_answered_by(llm, ["one", "two"])
            names.addresses = ("127.0.0.2",)
            await until_answered_by(llm, ["two"])


async def test_a_client_follows_the_address_of_its_target(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "CONNECTION_SECONDS", 1)
    async with two_addresses() as (names, target), AsyncClient(target) as llm:
        await until_answered_by(llm, ["one"])
        names.addresses = ("127.0.0.2",)
        await until_answered_by(llm, ["two"])


async def test_a_call_outlives_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that is too old takes no new calls, and ends after its last one."""
    monkeypatch.setattr(server, "CONNECTION_SECONDS", 1)
    gate = asyncio.Event()

    async def wait() -> str:
        await gate.wait()
        return "e4"

    async with two_addresses() as (names, target), scripted() as (backend, served):
        backend.enqueue(wait)
        async with AsyncClient(target) as other, AsyncClient(served.address) as llm:
            call = asyncio.ensure_future(llm.generate("hf_x", "Your move?"))
            await eventually(lambda: backend.running)
            await until_answered_by(other, ["one"])
            names.addresses = ("127.0.0.2",)
            await until_answered_by(other, ["two"])  # connections of the same age have ended
            gate.set()
            assert (await call).text == "e4"
