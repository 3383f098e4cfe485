"""A call whose provider leads back to a gateway of ours carries the count of routers it passed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from services.common.hops import HOPS_HEADER
from tests.support.wire import request, stub
from tests.unit.gateway.conftest import open_gateway
from tests.unit.hosted.conftest import OPENAI_FORMAT, PROVIDERS, Provider, Start, call, make_start


@OPENAI_FORMAT
async def test_the_hops_of_a_call_reach_the_provider(
    start: Start, upstream: Any, provider: Provider
) -> None:
    async with start() as llm, stub(llm.target) as line:
        await line.Generate(request(provider.model), metadata=((HOPS_HEADER, "3"),))
        await line.Generate(request(provider.model))
    headers = [{k.lower(): v for k, v in call.headers.items()} for call in upstream.history[-2:]]
    assert [found.get(HOPS_HEADER) for found in headers] == ["3", None]


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_litellm_model_whose_address_is_our_own_gateway_works(
    streamed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = replace(PROVIDERS["openai"], model="litellm_openai/hf_model")
    async with open_gateway() as door:
        start = make_start(None, provider, monkeypatch)
        async with start(url=f"{door.url}/v1") as llm:
            assert await call(llm, streamed, provider.model, max_tokens=5, seed=3) == "ok"
    (became,) = door.backend.history
    assert (became.sampling.max_tokens, became.sampling.seed) == (5, 3)
