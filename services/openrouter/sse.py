"""Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

from __future__ import annotations

import re
from collections.abc import Iterator

#: Bytes of one line that has not ended: beyond it this is no event stream.
MAX_LINE = 16 * 1024 * 1024

# A carriage return ends a line of its own only where no line feed can follow any more.
_LINE_END = re.compile(rb"\r\n|\n|\r(?=[^\n])")


class Decoder:
    """Bytes as they arrive, the data of each event out.

    Comments (": OPENROUTER PROCESSING") and fields other than data are skipped.
    Raises ValueError where a line never ends.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Yield the data of every event that this chunk completes."""
        *lines, self._rest = _LINE_END.split(self._rest + chunk)
        if len(self._rest) > MAX_LINE:
            raise ValueError(f"a line of more than {MAX_LINE} bytes")
        for line in lines:
            if line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" "))
            elif not line and self._data:
                yield b"\n".join(self._data)
                self._data.clear()
