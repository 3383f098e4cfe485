"""The order in which waiting calls are sent."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Waiter(Generic[T]):
    """A call that waits. timer: ends its wait before its deadline."""

    __slots__ = ("future", "timer", "tokens")

    def __init__(self, tokens: int) -> None:
        self.future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self.tokens = tokens
        self.timer: asyncio.TimerHandle | None = None


class Line(Generic[T]):
    """Waiting calls: retries come first, then the tenants in turn."""

    def __init__(self) -> None:
        self._again: deque[Waiter[T]] = deque()
        self._tenants: dict[str, deque[Waiter[T]]] = {}

    def add(self, waiter: Waiter[T], tenant: str) -> None:
        self._tenants.setdefault(tenant, deque()).append(waiter)

    def add_again(self, waiter: Waiter[T]) -> None:
        self._again.append(waiter)

    def count(self, tenant: str) -> int:
        """Return how many calls of a tenant wait, including those whose callers have just left."""
        return len(self._tenants.get(tenant, ()))

    def first(self) -> Waiter[T] | None:
        """Return the call whose turn it is."""
        self._drop_gone()
        if self._again:
            return self._again[0]
        return next(iter(self._tenants.values()))[0] if self._tenants else None

    def pop(self) -> None:
        """Take that call out. Its tenant goes to the end."""
        if self._again:
            self._again.popleft()
            return
        tenant = next(iter(self._tenants))
        waiters = self._tenants.pop(tenant)
        waiters.popleft()
        if waiters:
            self._tenants[tenant] = waiters

    def _drop_gone(self) -> None:
        """Take out the calls at the front whose callers have left."""
        while self._again and self._again[0].future.done():
            self._again.popleft()
        while self._tenants:
            tenant = next(iter(self._tenants))
            waiters = self._tenants[tenant]
            while waiters and waiters[0].future.done():
                waiters.popleft()
            if waiters:
                return
            del self._tenants[tenant]
