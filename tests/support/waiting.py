"""Waiting for a condition, so that no test sleeps for a fixed time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(condition: Callable[[], object], seconds: float = 120) -> None:
    """Return when the condition holds; fail after that many seconds.

    The default is generous, because a busy machine can stand still for many seconds.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"the condition is still false after {seconds} s"
        time.sleep(0.02)


async def eventually(condition: Callable[[], object], seconds: float = 60) -> None:
    """`wait_until` for an event loop."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - any condition, not an event
            await asyncio.sleep(0.005)


async def reaching(arrived: Callable[[], object], attempt: Callable[[float], Awaitable[T]]) -> T:
    """Repeat an attempt with a longer deadline until `arrived` holds; return its result.

    On a busy machine a short deadline can expire before the call arrives where the test
    interrupts it. The first attempt gets 0.1 s, and each further one twice as long.
    """
    seconds = 0.1
    while True:
        result = await attempt(seconds)
        if arrived():
            return result
        seconds *= 2


async def settle() -> None:
    """Let all tasks run until they wait."""
    for _ in range(20):
        await asyncio.sleep(0)
