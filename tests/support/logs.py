"""Captures the events that are logged in this process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from services.common.log import log


@contextmanager
def capture_logs() -> Iterator[list[dict[str, Any]]]:
    """Yield the list of the events of the block: fields, `event` and `log_level`."""
    events: list[dict[str, Any]] = []

    def emit(level: str, event: str, fields: Mapping[str, object]) -> None:
        events.append({**fields, "event": event, "log_level": level})

    with patch.object(log, "emit", emit):
        yield events
