"""Structured logs: one logfmt line per event on standard error."""

from __future__ import annotations

import asyncio
import atexit
import sys
from collections.abc import Sequence
from typing import Any, TextIO

import structlog

#: Seconds that a line may wait for the next ones.
_BURST = 0.05

_render = structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"])


class _BurstLogger:
    """Renders and writes the lines of a burst together; warnings and errors at once.

    Under load a line of its own costs a call 60 us of CPU, the code that makes it being
    out of the caches each time; in a burst it costs 30 (`python -m bench.openrouter`).
    A process that is killed loses the burst that it had not yet written.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._waiting: list[dict[str, Any]] = []
        atexit.register(self.flush)

    def info(self, event: dict[str, Any]) -> None:
        if not self._waiting:
            try:
                asyncio.get_running_loop().call_later(_BURST, self.flush)
            except RuntimeError:  # before or after the service's life
                self.warning(event)
                return
        self._waiting.append(event)

    def warning(self, event: dict[str, Any]) -> None:
        self._waiting.append(event)
        self.flush()

    error = warning

    def flush(self) -> None:
        """Write what waits."""
        lines = [f"{_render(None, '', event)}\n" for event in self._waiting]
        self._waiting.clear()
        self._file.write("".join(lines))
        self._file.flush()


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
