"""Standard output and error that never fail and never block a service.

Text that cannot be written is lost and its bytes are counted. Reasons are a full disk, a
reader that has gone or stopped, and a process that was started with closed descriptors.
"""

from __future__ import annotations

import io
import os
import select
import sys
from typing import Any

from arena_llm.terminal import open_closed_files

#: Bytes that a pipe which is ready takes in one write; POSIX guarantees 512.
_CHUNK = getattr(select, "PIPE_BUF", 512)
#: Seconds to wait for a slow reader. A reader that made us wait in vain gets no time again
#: until it reads on.
_PATIENCE = 0.05


class LossyOutput(io.RawIOBase):
    """Writes to a file descriptor; without one (None) all text is lost."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor
        self._stuck = False
        self._lost = 0

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        if self._descriptor is None:
            raise io.UnsupportedOperation("fileno")
        return self._descriptor

    def isatty(self) -> bool:
        return self._descriptor is not None and os.isatty(self._descriptor)

    def write(self, data: Any) -> int:
        """Write as much as possible. If text was lost before, write a note of that first."""
        text = bytes(data)
        if self._lost:
            note = b'\nlevel=warning event="output lost" bytes=%d\n' % self._lost
            if self._put(note) < len(note):
                self._lost += len(text)
                return len(text)
            self._lost = 0
        self._lost += len(text) - self._put(text)
        return len(text)

    def _put(self, text: bytes) -> int:
        """Write; return how many bytes were written."""
        if self._descriptor is None:
            return 0
        done = 0
        try:
            while done < len(text) and self._ready(self._descriptor):
                done += os.write(self._descriptor, text[done : done + _CHUNK])
        except OSError:
            pass  # counted as lost
        return done

    def _ready(self, descriptor: int) -> bool:
        """Whether a write returns at once: with success or with an error."""
        _, ready, _ = select.select([], [descriptor], [], 0 if self._stuck else _PATIENCE)
        self._stuck = not ready
        return not self._stuck


def protect_output() -> None:
    """Replace this process's standard output and error by LossyOutput."""
    missing = {name for name in ("stdout", "stderr") if getattr(sys, name) is None}
    open_closed_files()
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        raw = LossyOutput(None if name in missing else descriptor)
        text = io.TextIOWrapper(raw, "utf-8", errors="backslashreplace", write_through=True)  # type: ignore[type-var]
        setattr(sys, name, text)
