"""Answers without end are not read to the end."""

from __future__ import annotations

import asyncio
import gzip

import pytest

from tests.support.upstreams.cases import DOWN, ENDLESS, NARROW
from tests.support.upstreams.openrouter import OpenRouterUpstream
from tests.support.upstreams.server import Fault
from tests.unit.openrouter.conftest import Start, failed


@pytest.mark.parametrize("case", ENDLESS)
async def test_without_end(start: Start, upstream: OpenRouterUpstream, case: str) -> None:
    streamed, fault, error, setting = ENDLESS[case]
    upstream.default = fault
    async with start(**NARROW) as llm:
        got = await failed(llm, streamed)
        assert (got.code, got.reason) == error
        assert setting in got.message
        assert len(got.message) < 600
        await asyncio.wait_for(upstream.history[0].dropped.wait(), 20)


async def test_what_is_small_only_while_it_is_packed(
    start: Start, upstream: OpenRouterUpstream
) -> None:
    packed = gzip.compress(b" " * 100_000_000)
    upstream.default = Fault(body=packed, headers={"Content-Encoding": "gzip"})
    async with start(**NARROW) as llm:
        error = await failed(llm, False)
    assert (error.code, error.reason) == DOWN
    assert "max_answer_bytes" in error.message
