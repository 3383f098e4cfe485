"""An event loop whose clock jumps to the next timer, so that minutes take no time."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _Selector(selectors.DefaultSelector):
    """Passes the time for which it would wait."""

    passed = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.passed += max(0.0, timeout or 0.0)
        return super().select(0)


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.passed


def run_in_virtual_time(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine. It must wait for nothing but timers and itself."""
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(main)
