"""Endless answers are not read to the end."""

from __future__ import annotations

import asyncio
import gzip
from typing import Any

import pytest

from tests.support.upstreams.cases import DOWN, ENDLESS, NARROW
from tests.support.upstreams.server import Fault
from tests.unit.hosted.conftest import Provider, Start, fail


@pytest.mark.parametrize("case", ENDLESS)
async def test_an_endless_answer(
    start: Start, upstream: Any, provider: Provider, case: str
) -> None:
    streamed, fault, expected, setting = ENDLESS[case]
    upstream.default = fault
    async with start(**NARROW) as llm:
        error = await fail(llm, streamed, provider.model)
        assert (error.code, error.reason) == expected
        assert setting in error.message
        assert len(error.message) < 600
        await asyncio.wait_for(upstream.history[0].dropped.wait(), 20)


async def test_an_answer_that_is_small_only_while_compressed(
    start: Start, upstream: Any, provider: Provider
) -> None:
    packed = gzip.compress(b" " * 10_000_000)
    upstream.default = Fault(body=packed, headers={"Content-Encoding": "gzip"})
    async with start(**NARROW) as llm:
        error = await fail(llm, False, provider.model)
    assert (error.code, error.reason) == DOWN
    assert "max_answer_bytes" in error.message
    if provider.service == "litellm":
        assert upstream.history[0].headers["Accept-Encoding"] == "identity"
