"""A tenant that floods a busy model, and one that plays: the player's calls come in turn."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support.upstreams.server import Call, Reply
from tests.support.waiting import eventually
from tests.support.wire import request, stub
from tests.unit.hosted.conftest import Provider, Start

#: Calls to the provider at a time, and those of the flood.
PLACES, FLOOD = 2, 40


@pytest.mark.parametrize("provider", ["openrouter"], indirect=True)
async def test_a_player_waits_for_few_calls_of_a_flood(
    start: Start, upstream: Any, provider: Provider
) -> None:
    asked: list[str] = []  # "player" or "flood", in the order in which the provider is asked
    gate = asyncio.Event()

    def answer(call: Call) -> Reply:
        asked.append("player" if "player" in str(call.body) else "flood")
        return Reply(hold=gate)

    upstream.default = answer
    async with start(max_concurrency=PLACES) as llm, stub(llm.target) as line:

        def generate(tenant: str) -> Any:
            return line.Generate(
                request(provider.model, tenant), metadata=(("arena-tenant", tenant),)
            )

        flood = asyncio.gather(*(generate("flood") for _ in range(FLOOD)))
        for _ in range(3):
            await eventually(lambda: len(asked) >= PLACES)
            before = len(asked)
            player = asyncio.ensure_future(generate("player"))
            await llm.service_info()  # the player's call has arrived before it is answered
            gate.set()
            assert (await player).text == "ok"
            gate.clear()
            # Calls with a place may not have reached the provider yet, and as many follow in turn.
            assert asked[before:].index("player") <= 2 * PLACES
        assert asked.count("flood") < FLOOD  # the flood still waits
        gate.set()
        assert len(await flood) == FLOOD
