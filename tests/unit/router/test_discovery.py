"""Replicas that come, go, hang, and are not there yet."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from arena_llm import AsyncClient, DeadlineExceededError, ResourceExhaustedError
from arena_llm.types import ReplicaState
from router import discovery
from router.config import Route, RouterConfig
from router.servicer import Router
from services.common.servicer import LlmServicer
from tests.support.ports import free_ports
from tests.support.processes import scripted_process
from tests.support.scripted import ScriptedBackend, scripted, serving
from tests.support.waiting import eventually


class Names:
    """What the router's look-ups find: nothing, until a test says so."""

    def __init__(self) -> None:
        self.addresses: tuple[str, ...] | None = ()
        self.asked = 0

    async def look_up(self, target: str) -> tuple[str, ...] | None:
        self.asked += 1
        return self.addresses


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    names = Names()
    monkeypatch.setattr(discovery, "look_up", names.look_up)
    monkeypatch.setattr(discovery, "LOOKUP_SECONDS", 0.02)
    monkeypatch.setattr(discovery, "CHECK_SECONDS", 0.02)
    return names


@asynccontextmanager
async def routed(*targets: str, hold: int = 0) -> AsyncIterator[tuple[Router, AsyncClient]]:
    """A router with one route, and a client of it."""
    routes = {"hf_": Route(targets=list(targets or ("arena.test:1",)), hold=hold)}
    router = Router(RouterConfig(listen="127.0.0.1:0", routes=routes))
    async with serving(router) as server, AsyncClient(server.address) as llm:
        yield router, llm


async def test_a_held_call_is_answered_by_the_first_replica(names: Names) -> None:
    async with scripted() as (backend, served), routed(hold=9) as (router, llm):

        async def stream() -> Sequence[str]:
            return [text async for text in llm.stream("hf_x", "Your move?")]

        calls = asyncio.gather(
            llm.generate("hf_x", "Your move?"), stream(), llm.is_available("hf_x")
        )
        await eventually(lambda: router._backends["hf_"].held == 3)
        (found,) = (await llm.service_info()).backends
        (replica,) = found.replicas
        assert (replica.state, replica.calls_waiting) == (ReplicaState.UNKNOWN, 3)
        assert "calls that wait for a replica that serves: 3" in replica.detail
        assert not backend.history
        names.addresses = (served.address,)
        completion, texts, available = await calls
        assert (completion.text, texts, available.available) == ("ok", ["ok"], True)
        assert router._backends["hf_"].held == 0


async def test_a_call_is_held_until_its_deadline_or_until_its_caller_leaves(names: Names) -> None:
    async with routed(hold=1) as (router, llm):
        leaving = asyncio.ensure_future(llm.generate("hf_x", "Your move?"))
        await eventually(lambda: router._backends["hf_"].held == 1)
        with pytest.raises(ResourceExhaustedError, match=r"routes\.hf_\.hold"):
            await llm.generate("hf_x", "Your move?")
        leaving.cancel()
        await eventually(lambda: router._backends["hf_"].held == 0)
        with pytest.raises(DeadlineExceededError):
            await llm.generate("hf_x", "Your move?", timeout=0.2)
        unavailable = await llm.is_available("hf_x", timeout=0.5)
        assert "no replica that serves until the deadline" in unavailable.detail
        await eventually(lambda: router._backends["hf_"].held == 0)


async def test_a_call_waits_for_a_replica_that_is_started_again(names: Names) -> None:
    """The only replica is gone: the router learns it from the call that fails, and holds it."""
    backend = ScriptedBackend()
    async with serving(LlmServicer(backend)) as served, routed(hold=9) as (router, llm):
        names.addresses = (served.address,)
        assert (await llm.generate("hf_x", "Your move?")).text == "ok"
        await served.stop(grace=0)
        call = asyncio.ensure_future(llm.generate("hf_x", "Your move?"))
        await eventually(lambda: router._backends["hf_"].held == 1)
        async with serving(LlmServicer(backend), served.address):
            assert (await call).text == "ok"


async def test_without_a_name_server_the_last_addresses_stay(names: Names) -> None:
    async with scripted() as (_, served), routed() as (router, llm):
        names.addresses = (served.address,)
        await eventually(lambda: router._backends["hf_"].replicas.addresses)
        names.addresses, names.asked = None, 0
        await eventually(lambda: names.asked > 1)
        assert (await llm.generate("hf_x", "Your move?")).text == "ok"


async def test_addresses_of_both_kinds_are_used(names: Names) -> None:
    async with scripted() as (_, served), routed() as (router, llm):
        names.addresses = ("[::1]:1", served.address)  # nothing listens on the first
        await eventually(lambda: router._backends["hf_"].replicas.addresses)
        texts = [(await llm.generate("hf_x", "?", session=f"game {n}")).text for n in range(8)]
        assert texts == ["ok"] * 8


async def test_a_hanging_replica_gets_no_new_calls_and_keeps_its_running_ones(
    tmp_path: Path,
) -> None:
    one, two = (f"127.0.0.1:{port}" for port in free_ports(2))
    with scripted_process(one, "hf") as first, scripted_process(two, "hf", "two"):
        async with routed(one, two) as (router, llm), AsyncClient(one) as direct:
            backend = router._backends["hf_"]

            async def ask(prompt: str, number: int) -> str:
                return (await llm.generate("hf_x", prompt, session=f"game {number}")).text

            texts = [await ask("Your move?", number) for number in range(16)]
            number = texts.index("hf")
            running = asyncio.ensure_future(ask(f"until {tmp_path / 'go'}", number))
            while not (load := (await direct.is_available("hf_x")).load) or not load.running:
                pass
            first.signal(signal.SIGSTOP)
            await eventually(lambda: backend.replicas.usable == (two,))
            assert await ask("Your move?", number) == "two"
            first.signal(signal.SIGCONT)
            await eventually(lambda: len(backend.replicas.usable) == 2)
            assert await ask("Your move?", number) == "hf"
            (tmp_path / "go").touch()
            assert await running == "hf"


async def test_a_further_replica_moves_its_share_of_the_sessions(names: Names) -> None:
    sessions = 300
    async with AsyncExitStack() as stack:
        addresses = []
        for number in range(5):
            backend = ScriptedBackend()
            backend.default = str(number)
            addresses.append(
                (await stack.enter_async_context(serving(LlmServicer(backend)))).address
            )
        router, llm = await stack.enter_async_context(routed())
        replicas = router._backends["hf_"].replicas

        async def find_homes(count: int) -> list[str]:
            names.addresses = tuple(addresses[:count])
            await eventually(lambda: replicas.usable == names.addresses)
            calls = (llm.generate("hf_x", "?", session=f"game {n}") for n in range(sessions))
            return [reply.text for reply in await asyncio.gather(*calls)]

        before, after = await find_homes(4), await find_homes(5)
    moved = [new for old, new in zip(before, after, strict=True) if old != new]
    assert set(moved) == {"4"}, "no session moves between the replicas that stay"
    assert len(moved) <= 1.5 / 5 * sessions
