"""Places of an engine, which waiting calls take by turns between their tenants."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.common.line import Line, Waiter


class Turns:
    """Lets a tenant's calls wait while all places are taken. One event loop owns it.

    A call without a tenant does not wait here, but takes a place. places: of the engine.
    waiting: calls that wait now.
    """

    def __init__(self, places: int) -> None:
        self._free = places
        self._line: Line[None] = Line()
        self.waiting = 0

    @asynccontextmanager
    async def take(self, tenant: str) -> AsyncIterator[None]:
        """Wait for the tenant's turn, and hold a place."""
        if tenant and (self._free <= 0 or self.waiting):
            await self._wait(tenant)
        else:
            self._free -= 1
        try:
            yield
        finally:
            self._leave()

    async def _wait(self, tenant: str) -> None:
        waiter: Waiter[None] = Waiter(0)
        self._line.add(waiter, tenant)
        self.waiting += 1
        try:
            await waiter.future
        except asyncio.CancelledError:
            if waiter.future.done() and not waiter.future.cancelled():
                self._leave()  # its turn came in the same moment
            raise
        finally:
            self.waiting -= 1

    def _leave(self) -> None:
        self._free += 1
        while self._free > 0 and (waiter := self._line.first()) is not None:
            self._line.pop()
            self._free -= 1
            waiter.future.set_result(None)
