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
    asked = 0

    def answer(_: Call) -> Reply:
        nonlocal asked
        asked += 1
        return Reply(delay=0.01)

    upstream.default = answer
    async with start(max_concurrency=PLACES) as llm, stub(llm.target) as line:

        def generate(tenant: str) -> Any:
            return line.Generate(request(provider.model), metadata=(("arena-tenant", tenant),))

        flood = asyncio.gather(*(generate("flood") for _ in range(FLOOD)))
        await eventually(lambda: asked >= PLACES)
        overtaken = []
        for _ in range(3):
            before = asked
            assert (await generate("player")).text == "ok"
            overtaken.append(asked - before - 1)
        assert asked < FLOOD  # the flood still waits
        # Those that ran, and the one whose turn it was; without turns it would be the whole flood.
        assert max(overtaken) <= 2 * PLACES
        assert len(await flood) == FLOOD
