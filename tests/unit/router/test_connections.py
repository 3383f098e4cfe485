"""The connections of a route: its calls are spread over them, and no other channel has them."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import psutil

from router.backend import Backend
from router.config import Route
from tests.support.scripted import hang, scripted
from tests.support.waiting import eventually
from tests.support.wire import request


def connections_to(port: int) -> int:
    found = psutil.Process().net_connections("tcp")
    return sum(bool(c.raddr) and c.raddr.port == port and c.status == "ESTABLISHED" for c in found)


async def test_calls_go_to_the_connection_with_the_fewest() -> None:
    async with scripted() as (scripts, server):
        scripts.enqueue(*[hang] * 6)
        backend = Backend("hf_", Route(targets=[server.address], connections=3))
        async with aclosing(backend):
            data = request().SerializeToString()
            calls: list[Any] = [backend.call("Generate", data, 60) for _ in range(6)]
            await eventually(lambda: scripts.running == 6)
            assert connections_to(server.port) == 3
            assert [wire.calls for wire in backend._connections] == [2, 2, 2]
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
            await eventually(lambda: not any(wire.calls for wire in backend._connections))


async def test_two_channels_share_no_connection() -> None:
    """As while a route changes. With a shared one, grpc crashes when the old channel closes."""
    async with scripted() as (_, server):
        old, new = (Backend("hf_", Route(targets=[server.address])) for _ in range(2))
        async with aclosing(old), aclosing(new):
            for backend in (old, new):
                await backend.call("Generate", request().SerializeToString(), 60)
            assert connections_to(server.port) == 2
