"""Structured logs: one logfmt line per event on standard error."""

from __future__ import annotations

import asyncio
import atexit
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, TextIO

import structlog

#: Seconds from one burst of lines to the next.
_PAUSE = 0.05

_render = structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"])


class _BurstLogger:
    """Under load renders and writes lines in bursts; warnings and errors come at once.

    A line is written at once where none was in the last _PAUSE seconds; those that follow
    wait for the end of the pause. A line of its own costs a busy service 60 us of CPU, the
    code that makes it being out of the caches each time; in a burst it costs 30 (`python -m
    bench.openrouter`). A process that is killed loses the lines that wait.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._waiting: list[dict[str, Any]] = []
        self._pausing = False
        atexit.register(self.flush)

    def info(self, event: dict[str, Any]) -> None:
        self._waiting.append(event)
        if not self._pausing:
            self._burst()

    def warning(self, event: dict[str, Any]) -> None:
        self._waiting.append(event)
        self.flush()

    error = warning

    def flush(self) -> None:
        """Write what waits."""
        waiting, self._waiting = self._waiting, []  # threads may go on adding
        self._file.write("".join(f"{_render(None, '', event)}\n" for event in waiting))
        self._file.flush()

    def _burst(self) -> None:
        self._pausing = False
        if self._waiting:
            self.flush()
            with suppress(RuntimeError):  # outside the loop there is no load
                asyncio.get_running_loop().call_later(_PAUSE, self._burst)
                self._pausing = True


def _as_it_is(_: Any, __: str, event: Any) -> tuple[Sequence[Any], dict[str, Any]]:
    """The event as the logger's one argument: it is rendered later."""
    return (event,), {}


def configure_logging() -> None:
    """Set up structlog for this process."""
    logger = _BurstLogger(sys.stderr)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _as_it_is,
        ],
        logger_factory=lambda *_: logger,
        cache_logger_on_first_use=True,  # halves what a line costs
    )
