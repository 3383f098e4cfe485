"""Faults that every hosted service must handle, in all formats."""

from __future__ import annotations

from typing import Any

from tests.support.upstreams.server import Fault

INVALID = ("INVALID_ARGUMENT", "INVALID_REQUEST")
DOWN = ("UNAVAILABLE", "UPSTREAM_UNAVAILABLE")
BROKEN_OFF = ("UNAVAILABLE", "INTERRUPTED")  # after the first delta

#: When a caller cancels a stream: the number of its pieces that have been sent.
MOMENTS = {"before the first byte": 0, "before the first delta": 1, "after the first delta": 2}

#: Whether the call is streamed, and an answer that stalls until the attempt's timeout.
STALLS: dict[str, tuple[bool, Fault]] = {
    "before a whole answer": (False, Fault(hang=True)),
    "before a stream": (True, Fault(hang=True)),
    "within a body": (False, Fault(truncate=True, hang=True)),
    "within a stream": (True, Fault(after="ab", hang=True)),
}

_CHUNK = b"x" * 65536
_EVENTS: dict[str, Any] = {"content_type": "text/event-stream"}

#: Limits that are reached quickly.
NARROW = {"max_attempts": 1, "max_answer_bytes": 20_000, "max_stream_bytes": 30_000}

#: Whether the call is streamed, the endless answer, the error, and the setting that it names.
ENDLESS: dict[str, tuple[bool, Fault, tuple[str, str], str]] = {
    "a whole answer": (False, Fault(endless=_CHUNK), DOWN, "max_answer_bytes"),
    "an event": (True, Fault(endless=_CHUNK, **_EVENTS), DOWN, "max_answer_bytes"),
    "a stream": (True, Fault(after="ab", again=True), BROKEN_OFF, "max_stream_bytes"),
    "an error": (False, Fault(400, endless=_CHUNK), INVALID, ""),
    "a stream's error": (True, Fault(400, endless=_CHUNK), INVALID, ""),
    "an outage": (False, Fault(503, endless=_CHUNK), DOWN, ""),
}
