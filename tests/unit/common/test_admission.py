"""Calls and bytes in flight are bounded, in the router and in every service."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from router.config import Route, RouterConfig
from router.servicer import Router
from services.common import admission
from services.common.config import ServiceConfig
from services.common.servicer import LlmServicer
from tests.support.scripted import ScriptedBackend, hang, scripted, serving
from tests.support.waiting import eventually
from tests.support.wire import details, failure, reason, request, stub


@pytest.mark.parametrize("rpc", ["Generate", "StreamGenerate"])
@pytest.mark.parametrize("place", ["router", "service"])
@pytest.mark.parametrize(
    "limit", [{"max_calls_in_flight": 2}, {"max_bytes_in_flight": 2_500}], ids=["calls", "bytes"]
)
async def test_a_call_over_the_limit_is_refused(
    limit: dict[str, int], place: str, rpc: str
) -> None:
    backend = ScriptedBackend()
    asked = request(prompt="x" * 1_000)
    if place == "service":
        backend.config = ServiceConfig(listen="127.0.0.1:0", **limit)
    async with serving(LlmServicer(backend)) as service:
        routes = {"hf_": Route(targets=[service.address])}
        router: Any = Router(RouterConfig(listen="127.0.0.1:0", routes=routes, **limit))
        async with serving(router) as front:
            address = front.address if place == "router" else service.address
            async with stub(address) as llm:
                backend.enqueue(hang, hang)
                running = [llm.Generate(asked) for _ in range(2)]
                await eventually(lambda: backend.running == 2)
                error = await failure(getattr(llm, rpc)(asked))
                assert (error.code(), reason(error)) == (
                    grpc.StatusCode.RESOURCE_EXHAUSTED,
                    "OVERLOADED",
                )
                retry: Any = details(error)["RetryInfo"]
                assert retry.retry_delay.seconds == 1
                for call in running:
                    call.cancel()
                await eventually(lambda: not backend.running)

                async def answer() -> str:
                    while True:  # the router's own call ends a moment later
                        try:
                            return str((await llm.Generate(asked)).text)
                        except grpc.aio.AioRpcError:
                            await asyncio.sleep(0.01)

                assert await asyncio.wait_for(answer(), 20) == "ok"


async def test_a_request_that_is_alone_is_not_refused() -> None:
    async with scripted() as (backend, server), stub(server.address) as llm:
        assert (await llm.Generate(request(prompt="x" * 5_000_000))).text == "ok"
    backend.config = ServiceConfig(listen="127.0.0.1:0", max_bytes_in_flight=10)
    async with serving(LlmServicer(backend)) as server, stub(server.address) as llm:
        assert (await llm.Generate(request(prompt="x" * 1_000))).text == "ok"


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:10.0.0.7:51234", "10.0.0.7"),
        ("ipv4:127.0.0.1:51234", ""),
        ("ipv6:%5B::1%5D:51234", ""),
        ("ipv6:%5B::ffff:10.0.0.7%5D:1", "10.0.0.7"),
        ("ipv6:%5B2001:db8::1:2:3:4%5D:1", "2001:db8::/64"),
        ("ipv6:%5B2001:db8::ffff%5D:1", "2001:db8::/64"),
        ("ipv6:%5Bfe80::1%25eth0%5D:1", "fe80::/64"),
        ("unix:", ""),
    ],
)
def test_the_address_of_a_caller(peer: str, address: str) -> None:
    assert admission.find_address(peer) == address


@pytest.mark.parametrize("place", ["router", "service"])
async def test_an_address_has_so_many_calls_and_no_more(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The callers of a test are on this machine; here they count as another one."""
    monkeypatch.setattr(admission, "find_address", lambda peer: peer.rpartition(":")[0])
    limit, backend = {"max_calls_of_address": 2}, ScriptedBackend()
    if place == "service":
        backend.config = ServiceConfig(listen="127.0.0.1:0", **limit)
    async with serving(LlmServicer(backend)) as service:
        routes = {"hf_": Route(targets=[service.address])}
        router: Any = Router(RouterConfig(listen="127.0.0.1:0", routes=routes, **limit))
        async with serving(router) as front:
            address = front.address if place == "router" else service.address
            # Two connections of one machine.
            async with stub(address) as one, stub(address) as other:
                backend.enqueue(hang, hang)
                running = [llm.Generate(request()) for llm in (one, other)]
                await eventually(lambda: backend.running == 2)
                error = await failure(other.Generate(request()))
                assert reason(error) == "OVERLOADED"
                assert "2 calls of ipv4:127.0.0.1 are in flight" in (error.details() or "")
                for call in running:
                    call.cancel()
                held = (router if place == "router" else service._service)._admission
                await eventually(lambda: not held.by_address)
                assert (await other.Generate(request())).text == "ok"
