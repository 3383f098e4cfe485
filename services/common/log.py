"""Structured logs: one logfmt line per event on standard error.

    log.info("listening", address="127.0.0.1:50051")

A logger of our own, because structlog imports rich and pygments: 8 MB and 0.3 s of each process.

Writing to a service's standard output or error never raises and never blocks. Text that cannot
be written is lost, and its bytes are counted: because the disk is full, the reader of a pipe is
gone or stuck, or the process was started with closed descriptors.
"""

from __future__ import annotations

import asyncio
import atexit
import io
import json
import os
import re
import select
import sys
import time
import traceback
from collections.abc import Mapping
from typing import Any, BinaryIO

from arena_llm.terminal import open_closed_files

#: Bytes that a ready pipe accepts in one write; POSIX guarantees 512.
_CHUNK = getattr(select, "PIPE_BUF", 512)
#: Milliseconds to wait for a slow reader. A reader that exceeds them gets no more time until it
#: reads again.
_PATIENCE_MS = 50

_is_plain = re.compile(r'[^\s"=\\\x00-\x1f\x7f-\x9f]*').fullmatch


class LossyOutput(io.RawIOBase):
    """Writes to a file descriptor. If it is None, all text is lost."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor
        self._stuck = False
        self._lost = 0
        self._poll = select.poll()
        if descriptor is not None:
            self._poll.register(descriptor, select.POLLOUT)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        if self._descriptor is None:
            raise io.UnsupportedOperation("fileno")
        return self._descriptor

    def isatty(self) -> bool:
        return self._descriptor is not None and os.isatty(self._descriptor)

    def write(self, data: Any) -> int:
        """Write as much as possible. If text was lost before, first write how many bytes."""
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
            while done < len(text) and self._is_ready():
                piece = text[done : done + _CHUNK]
                # Whole lines, because several processes may write to one pipe.
                lines = piece[: piece.rfind(b"\n") + 1]
                done += os.write(self._descriptor, lines or piece)
        except OSError:
            pass  # counted as lost
        return done

    def _is_ready(self) -> bool:
        """Whether a write returns immediately, with success or with an error."""
        self._stuck = not self._poll.poll(0 if self._stuck else _PATIENCE_MS)
        return not self._stuck


def protect_output() -> None:
    """Replace this process's standard output and error by LossyOutput."""
    missing = {name for name in ("stdout", "stderr") if getattr(sys, name) is None}
    open_closed_files()
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        raw = LossyOutput(None if name in missing else descriptor)
        text = io.TextIOWrapper(raw, "utf-8", errors="backslashreplace", write_through=True)  # type: ignore[type-var]
        setattr(sys, name, text)


class LineWriter:
    """Writes the lines of one turn of the event loop together, at its end.

    A line that is written alone costs a busy service 60 us of CPU, because the code that writes
    has left the caches. Together with others it costs 23 us (`python -m bench.openrouter`).
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._lines: list[bytes] = []
        atexit.register(self.flush)

    def write(self, line: bytes) -> None:
        """Write the line at the end of this turn, or immediately if no event loop runs."""
        self._lines.append(line)
        if len(self._lines) == 1:
            try:
                asyncio.get_running_loop().call_soon(self.flush)
            except RuntimeError:
                self.flush()

    def flush(self) -> None:
        """Write the lines that wait."""
        lines, self._lines = self._lines, []  # another thread may add lines meanwhile
        self._file.write(b"".join(lines))


class Logger:
    """Writes events with their fields."""

    def __init__(self) -> None:
        self._writer: LineWriter | None = None
        self._second = 0
        self._second_text = ""

    def write_to(self, writer: LineWriter) -> None:
        """Write all further lines there."""
        self._writer = writer

    def flush(self) -> None:
        """Write the lines that wait."""
        if self._writer is not None:
            self._writer.flush()

    def info(self, event: str, /, **fields: object) -> None:
        self.emit("info", event, fields)

    def warning(self, event: str, /, **fields: object) -> None:
        self.emit("warning", event, fields)

    def error(self, event: str, /, **fields: object) -> None:
        self.emit("error", event, fields)

    def emit(self, level: str, event: str, fields: Mapping[str, object]) -> None:
        """Write one event."""
        line = self._render(level, event, fields)
        if self._writer is None:  # a library, such as a test's, has not configured the log
            sys.stderr.write(line)
        else:
            self._writer.write(line.encode(errors="backslashreplace"))

    def _render(self, level: str, event: str, fields: Mapping[str, object]) -> str:
        now = time.time()
        second = int(now)
        if second != self._second:
            self._second = second
            self._second_text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        when = f"{self._second_text}.{int((now - second) * 1e6):06}Z"
        texts = list(map(str, fields.values()))
        if not _is_plain("".join(texts)):  # usually all are plain
            texts = list(map(_quote, texts))
        words = "".join([f" {key}={text}" for key, text in zip(fields, texts, strict=True)])
        return f"timestamp={when} level={level} event={_quote(event)}{words}\n"


#: The log of this process.
log = Logger()


def configure_logging() -> None:
    """Send the log of this process to standard error. A line that cannot be written fails no call.

    Lines are written at the end of the event loop's turn: a killed process loses only the lines
    of its last turn.
    """
    protect_output()
    log.write_to(LineWriter(sys.stderr.buffer))


def list_frames(error: BaseException) -> list[str]:
    """Return the places in the code through which an error came, without its text."""
    return [
        f"{frame.filename}:{frame.lineno} {frame.name}"
        for frame in traceback.extract_tb(error.__traceback__)
    ]


def _quote(text: str) -> str:
    return text if _is_plain(text) else json.dumps(text, ensure_ascii=not text.isprintable())
