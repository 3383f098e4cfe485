"""Answers without end are not read to the end; nor is what was not asked for."""

from __future__ import annotations

import asyncio
import gzip
from typing import Any

import pytest

from tests.support.upstreams.cases import DOWN, ENDLESS, NARROW
from tests.support.upstreams.server import Fault
from tests.unit.litellm.conftest import PROVIDERS, Provider, Start, call, failed


@pytest.mark.parametrize("provider", PROVIDERS, indirect=True)
@pytest.mark.parametrize("case", ENDLESS)
async def test_without_end(start: Start, upstream: Any, provider: Provider, case: str) -> None:
    streamed, fault, error, setting = ENDLESS[case]
    upstream.default = fault
    async with start(**NARROW) as llm:
        got = await failed(llm, streamed, model=provider.model)
        assert (got.code, got.reason) == error
        assert setting in got.message
        assert len(got.message) < 600
        await asyncio.wait_for(upstream.history[0].dropped.wait(), 20)


@pytest.mark.parametrize("streamed", [False, True], ids=["unary", "streamed"])
@pytest.mark.parametrize("provider", PROVIDERS, indirect=True)
async def test_what_was_not_asked_for(
    start: Start, upstream: Any, provider: Provider, streamed: bool
) -> None:
    packed = gzip.compress(b"0" * 10_000_000)
    async with start(max_attempts=1) as llm:
        for fault in (
            Fault(302, headers={"Location": upstream.origin + "/elsewhere"}),
            Fault(body=packed, headers={"Content-Encoding": "gzip"}),
        ):
            upstream.enqueue(fault)
            error = await failed(llm, streamed, model=provider.model)
            assert (error.code, error.reason) == DOWN
        assert len(upstream.history) == 2
        assert {one.headers["Accept-Encoding"] for one in upstream.history} == {"identity"}
        assert await call(llm, streamed, model=provider.model) == "ok"
