"""Calls that are silent for longer than the interval of pings."""

from __future__ import annotations

import asyncio

import pytest

from arena_llm import AsyncClient, connection
from router.config import Route, RouterConfig
from router.servicer import Router
from tests.support.scripted import scripted, serving

pytestmark = pytest.mark.integration  # waits for 7 s

PING_MS = 500
#: grpc sends at most one ping per second. A server with grpc's defaults closes the connection
#: at the fourth.
SILENCE = 7.0


async def test_silent_calls_are_not_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "PING_MS", PING_MS)

    async def think() -> str:
        await asyncio.sleep(SILENCE)
        return "e4"

    async with scripted() as (backend, server):
        config = RouterConfig(listen="127.0.0.1:0", routes={"hf_": Route(targets=[server.address])})
        async with serving(Router(config)) as router, AsyncClient(router.address) as llm:
            backend.enqueue(think, think)
            stream = llm.stream("hf_x", "Your move?")
            completion, delta = await asyncio.gather(
                llm.generate("hf_x", "Your move?"), anext(aiter(stream))
            )
            assert (completion.text, delta) == ("e4", "e4")
