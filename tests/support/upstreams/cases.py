"""What every hosted service must stand, whatever its provider's wire format."""

from __future__ import annotations

from typing import Any

from tests.support.upstreams.server import Fault

INVALID = ("INVALID_ARGUMENT", "INVALID_REQUEST")
DOWN = ("UNAVAILABLE", "UPSTREAM_UNAVAILABLE")

#: When a caller leaves a stream: after so many of its pieces.
MOMENTS = {"before the first byte": 0, "before the first delta": 1, "after it": 2}

#: Whether it is streamed, and what never goes on: each ends with its attempt's time.
STALLS: dict[str, tuple[bool, Fault]] = {
    "before its answer": (False, Fault(hang=True)),
    "before its stream": (True, Fault(hang=True)),
    "within a body": (False, Fault(truncate=True, hang=True)),
    "within a stream": (True, Fault(after="ab", hang=True)),
}

_CHUNK = b"x" * 65536
_EVENTS: dict[str, Any] = {"content_type": "text/event-stream"}

#: Settings that are soon reached.
NARROW = {"max_attempts": 1, "max_answer_bytes": 200_000, "max_stream_bytes": 300_000}

#: Whether it is streamed, what has no end, the error, and the setting that it names.
ENDLESS: dict[str, tuple[bool, Fault, tuple[str, str], str]] = {
    "a whole answer": (False, Fault(endless=_CHUNK), DOWN, "max_answer_bytes"),
    "an event": (True, Fault(endless=_CHUNK, **_EVENTS), DOWN, "max_answer_bytes"),
    "a stream": (True, Fault(after="ab", again=True), DOWN, "max_stream_bytes"),
    "an error": (False, Fault(400, endless=_CHUNK), INVALID, ""),
    "a stream's error": (True, Fault(400, endless=_CHUNK), INVALID, ""),
    "an outage": (False, Fault(503, endless=_CHUNK), DOWN, ""),
}
