"""The right to forward a request, while equal calls wait for its reply."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType


class Lease:
    """A block around a forwarded call. Its reply goes to the calls that wait; None without one.

    end: called once, at the end of the block.
    """

    __slots__ = ("_end", "failed", "reply")

    def __init__(self, end: Callable[[], None] = lambda: None) -> None:
        self._end = end
        #: The packed reply; None without one.
        self.reply: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        #: The call has failed, so that each waiting call is forwarded by itself. If False without a
        #: reply, the caller has left, and one of the waiting calls takes a new lease.
        self.failed = False

    def __enter__(self) -> Lease:
        return self

    def answer(self, entry: bytes) -> None:
        """Give the reply to those that wait."""
        if not self.reply.done():
            self.reply.set_result(entry)

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        self.failed = isinstance(error, Exception)
        if not self.reply.done():
            self.reply.set_result(None)
        self._end()
