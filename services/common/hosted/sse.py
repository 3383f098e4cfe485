"""Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from services.common.hosted.bounds import check_size

# A carriage return ends a line of its own only where no line feed can follow any more.
_LINE_END = re.compile(rb"\r\n|\n|\r(?=[^\n])")

#: What some servers begin a text with; it is no part of it.
BOM = b"\xef\xbb\xbf"

_EVENT = re.compile(rb"^data:\s*{", re.MULTILINE)


class Decoder:
    """Bytes as they arrive, the data of each event out.

    Comments (": OPENROUTER PROCESSING") and fields other than data are skipped.
    Raises UpstreamUnavailable where one event is longer than `most` bytes.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._rest: list[bytes] = []  # of a line that has not ended
        self._data: list[bytes] = []  # of an event that has not ended
        self._size = 0  # of both
        self._begun = False

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Yield the data of every event that this chunk completes."""
        self._size += len(chunk)
        self._rest.append(chunk)
        if b"\n" in chunk or b"\r" in chunk:
            *lines, rest = _LINE_END.split(b"".join(self._rest))
            self._rest = [rest]
            if not self._begun and lines:
                self._begun = True
                lines[0] = lines[0].removeprefix(BOM)
            for line in lines:
                if line.startswith(b"data:"):
                    self._data.append(line[5:].removeprefix(b" "))
                elif not line and self._data:
                    yield b"\n".join(self._data)
                    self._data.clear()
            self._size = len(rest) + sum(map(len, self._data))
        check_size(self._size, self._most, "max_answer_bytes")

    def end(self) -> Iterator[bytes]:
        """Yield the data of an event that lacks its last line breaks."""
        return self.feed(b"\n\n")


def is_json(beginning: bytes) -> bool:
    """Whether a body that begins like this is JSON. No event stream begins like it, so the
    Content-Type does not matter."""
    return beginning.removeprefix(BOM).lstrip()[:1] in (b"{", b"[")


def holds_events(body: bytes) -> bool:
    """Whether a body is a stream of events, of which one is more than its end mark."""
    return not is_json(body) and _EVENT.search(body.removeprefix(BOM)) is not None
