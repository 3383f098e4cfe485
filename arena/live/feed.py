"""A value that changes, and its readers, who get every new value as a server-sent event."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

#: Seconds without a change until a reader gets a comment, which shows whether it has left.
_PULSE = 15.0


class LiveFeed:
    """A value that JSON can hold. readers: how many follow it now."""

    def __init__(self, value: Any) -> None:
        self.value = value
        self.readers = 0
        self._changed = asyncio.Event()
        self._closed = False

    def close(self) -> None:
        """End all streams."""
        self._closed = True
        self._changed.set()

    def set(self, value: Any) -> None:
        """Send the value to all readers, if it differs from the present one."""
        if value != self.value:
            self.value = value
            self._changed.set()
            self._changed = asyncio.Event()

    async def events(self) -> AsyncGenerator[str, None]:
        """Yield the present value and later ones: all of them, or for a slow reader the latest."""
        self.readers += 1
        try:
            while not self._closed:
                changed = self._changed
                yield f"data: {json.dumps(self.value)}\n\n"
                while not changed.is_set():
                    try:
                        await asyncio.wait_for(changed.wait(), _PULSE)
                    except TimeoutError:
                        yield ": nothing new\n\n"
        finally:
            self.readers -= 1
