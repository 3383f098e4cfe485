"""Real services against a provider that limits its calls: all callers get their answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from bench.limiters import FixedWindow, InFlight, Limiter, TokenBucket
from tests.support.upstreams.server import Call, Fault, Reply, Step
from tests.unit.hosted.conftest import Provider, Start, call

#: Calls per second that are granted.
RATE = 400.0
CALLERS = 120

#: A limit, and the headers of a refusal.
LIMITS: dict[str, tuple[Callable[[], Limiter], dict[str, str]]] = {
    "bucket of 10": (lambda: TokenBucket(RATE), {}),
    "bucket of 10, absurd hint": (lambda: TokenBucket(RATE), {"Retry-After": "4102444799"}),
    "window of 0.1 s": (lambda: FixedWindow(0.1, RATE), {}),
    "window of 0.1 s, no time to wait": (lambda: FixedWindow(0.1, RATE), {"Retry-After": "0"}),
    "20 in flight": (lambda: InFlight(20), {}),
}


class Limited:
    """A provider with a limit. requests: all that came."""

    def __init__(self, limiter: Limiter, headers: dict[str, str]) -> None:
        self._limiter, self._headers = limiter, headers
        self._begun = time.monotonic()
        self.requests = 0

    def __call__(self, _: Call) -> Step:
        self.requests += 1
        if self._limiter.arrive(time.monotonic() - self._begun):
            asyncio.get_running_loop().call_later(0.1, self._limiter.end)
            return Reply(delay=0.1)
        return Fault(429, headers=self._headers)


@pytest.mark.parametrize("name", LIMITS)
async def test_every_caller_gets_its_answer(
    start: Start, upstream: Any, provider: Provider, name: str
) -> None:
    make, headers = LIMITS[name]
    upstream.default = limited = Limited(make(), headers)
    async with start(max_attempts=1) as llm:
        answers = await asyncio.gather(
            *(call(llm, False, provider.model, timeout=60) for _ in range(CALLERS))
        )
    assert answers == ["ok"] * CALLERS
    # A cold start against an unknown limit costs some; without the pacer it was 20 for each.
    assert limited.requests <= 2 * CALLERS
