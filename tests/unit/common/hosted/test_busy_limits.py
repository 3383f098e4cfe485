"""A thousand callers, the real queue and a provider that limits calls, in virtual time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest

from bench.limiters import FixedWindow, InFlight, Limiter, TokenBucket
from services.common.errors import BackendError, RateLimited
from services.common.hosted.limits import CallLimits
from tests.support.virtual_time import run_in_virtual_time
from tests.unit.common.hosted.test_retry import config

CALLERS, SECONDS, DEADLINE = 1000, 90.0, 120.0


class Provider:
    """Answers in 1 s (median), up to 20 s, as long as its limit lets calls in.

    answering: seconds in which it was answering, of all calls together.
    """

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter
        self._random = random.Random(1)  # noqa: S311 - a simulation
        self.let_in = self.refused = 0
        self.answering = 0.0

    async def answer(self) -> None:
        now = asyncio.get_running_loop().time
        await asyncio.sleep(self._random.uniform(0.002, 0.006))
        if not self._limiter.arrive(now()):
            self.refused += 1
            await asyncio.sleep(0.02)
            raise RateLimited("slow down")
        self.let_in += now() < SECONDS
        seconds = min(20.0, max(0.2, self._random.lognormvariate(0, 1)))
        self.answering += max(0.0, min(seconds, SECONDS - now()))
        try:
            await asyncio.sleep(seconds)
        finally:
            self._limiter.end()


async def play(provider: Provider) -> int:
    """Let all callers ask again and again. Returns how many calls failed."""
    loop = asyncio.get_running_loop()
    limits, failed = CallLimits(config(), clock=loop.time), 0

    async def call(deadline: float) -> None:
        again = False
        while True:
            place = await limits.enter("h_a", deadline, again=again)
            try:
                await provider.answer()
            except RateLimited as error:
                place.leave(error)
                again = True
            else:
                return place.leave()

    async def ask(after: float) -> None:
        nonlocal failed
        await asyncio.sleep(after)
        while loop.time() < SECONDS:
            try:
                async with asyncio.timeout(DEADLINE):
                    await call(loop.time() + DEADLINE)
            except (BackendError, TimeoutError):
                failed += 1

    await asyncio.gather(*(ask(5 * number / CALLERS) for number in range(CALLERS)))
    return failed


#: The limit, and the share of it that is used.
LIMITS: dict[str, tuple[Callable[[], Limiter], Callable[[Provider], float]]] = {
    "20 in flight": (lambda: InFlight(20), lambda provider: provider.answering / (20 * SECONDS)),
    "bucket of 10": (TokenBucket, lambda provider: provider.let_in / (50 * SECONDS + 10)),
    "window of 10 s": (lambda: FixedWindow(10), lambda provider: provider.let_in / (50 * SECONDS)),
}


@pytest.mark.parametrize("name", LIMITS)
def test_each_caller_gets_its_answer_before_its_deadline(name: str) -> None:
    """With 20 in flight a call waits 85 s, so that a refused one has little time left."""
    make, find_used = LIMITS[name]
    provider = Provider(make())
    assert run_in_virtual_time(play(provider)) == 0
    assert find_used(provider) >= 0.95
    assert provider.refused <= 0.15 * provider.let_in
