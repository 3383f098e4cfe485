"""Keeps apart requests that vLLM's engine mixes up."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class GroupGate:
    """Lets one group of calls run at a time; the calls of a group run together.

    In a batch, vLLM's first model runner returns chosen tokens' log-probabilities for all
    requests if one asks for them, so another request does not get its likeliest tokens.
    A group that waits goes before later calls of the running group. One event loop owns it.
    """

    def __init__(self) -> None:
        self._group = ""
        self._running = 0
        self._waiting: deque[tuple[str, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def enter(self, group: str) -> AsyncIterator[None]:
        """Wait until the group may run. "": a call that goes with all others."""
        if not group:
            yield
            return
        await self._wait(group)
        try:
            yield
        finally:
            self._leave()

    async def _wait(self, group: str) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((group, turn))
        self._admit()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._leave()
            raise

    def _leave(self) -> None:
        self._running -= 1
        self._admit()

    def _admit(self) -> None:
        while self._waiting:
            group, turn = self._waiting[0]
            if turn.cancelled():
                self._waiting.popleft()
                continue
            if self._running and group != self._group:
                return
            self._waiting.popleft()
            self._group = group
            self._running += 1
            turn.set_result(None)
