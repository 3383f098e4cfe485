"""Waiting for a condition, so that no test sleeps for a fixed time."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


#: Seconds for a condition. A busy machine can stand still for many.
PATIENCE = 120


def wait_until(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Return when the condition holds; fail after that many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, _describe(condition, seconds)
        time.sleep(0.02)


async def eventually(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    """`wait_until` for an event loop."""
    try:
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110 - any condition, not an event
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(_describe(condition, seconds)) from None


def _describe(condition: Callable[[], object], seconds: float) -> str:
    """Return a message with the condition's source, for a machine that shows messages alone."""
    try:
        source = " ".join(inspect.getsource(condition).split())
    except (OSError, TypeError):  # not a function of a file
        source = repr(condition)
    return f"still false after {seconds} s: {source}"


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
