"""Event streams (server-sent events), in any framing.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from services.common.hosted.http import check_size
from services.common.hosted.values import is_complete_json

#: A byte order mark, which some servers send before their text.
BOM = b"\xef\xbb\xbf"

# A carriage return ends a line by itself only if it is not followed by a line feed, so one at
# the end of a chunk is undecided.
_LINE_END = re.compile(rb"\r\n|\n|\r(?=[^\n])")

#: A field, or a comment.
_FIELD = re.compile(rb"[a-z_0-9]{0,40}:")

_EVENT = re.compile(rb"^data:\s*{", re.MULTILINE)


class EventDecoder:
    """Takes the bytes of an event stream and yields the data of each event.

    Comments (": OPENROUTER PROCESSING"), fields other than data, and empty data are skipped. Some
    servers write no blank line between two events: complete JSON ends an event, too.
    Raises UpstreamUnavailable if one event is longer than `limit` bytes.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._line: list[bytes] = []  # pieces of an unfinished line
        self._data: list[bytes] = []  # data lines of an unfinished event
        self._size = 0  # of both
        self._begun = False

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Yield the data of every event that this chunk completes."""
        self._size += len(chunk)
        self._line.append(chunk)
        if b"\n" in chunk or b"\r" in chunk:
            *lines, rest = _LINE_END.split(b"".join(self._line))
            self._line = [rest]
            if not self._begun and lines:
                self._begun = True
                lines[0] = lines[0].removeprefix(BOM)
            for line in lines:
                if line.startswith(b"data:"):
                    if self._data and is_complete_json(b"\n".join(self._data)):
                        yield from self._take()
                    self._data.append(line[5:].removeprefix(b" "))
                elif not line and self._data:
                    yield from self._take()
            self._size = len(rest) + sum(map(len, self._data))
        check_size(self._size, self._limit, "max_answer_bytes")

    def end(self) -> Iterator[bytes]:
        """Yield the data of a last event that lacks its final line breaks."""
        return self.feed(b"\n\n")

    def _take(self) -> Iterator[bytes]:
        data = b"\n".join(self._data)
        self._data.clear()
        if data:
            yield data


def is_json(beginning: bytes) -> bool:
    """Whether a body with this beginning is JSON. The Content-Type is not needed: no event stream
    begins with a bracket."""
    return beginning.removeprefix(BOM).lstrip()[:1] in (b"{", b"[")


def begins_event(beginning: bytes) -> bool:
    """Whether text with this beginning is an event stream."""
    return _FIELD.match(beginning.removeprefix(BOM).lstrip()) is not None


def holds_events(body: bytes) -> bool:
    """Whether a body is an event stream that has more than its end mark."""
    return not is_json(body) and _EVENT.search(body.removeprefix(BOM)) is not None
