"""HTTP to providers: the session, limits on what is read, and server-sent events."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping

import aiohttp
from multidict import CIMultiDict, CIMultiDictProxy

from services.common.errors import UpstreamUnavailable

#: Bytes of an error's body that are read. The status says enough about the rest.
MAX_ERROR_BYTES = 64 * 1024

#: A byte order mark, which some servers send before their text.
BOM = b"\xef\xbb\xbf"


class _Response(aiohttp.ClientResponse):
    @property
    def headers(self) -> CIMultiDictProxy[str]:
        """The headers as ASCII: litellm copies them into httpx's, which must be ASCII."""
        headers = self._headers
        if all(map(str.isascii, headers.values())):
            return headers
        pairs = [(name, value.encode("ascii", "replace")) for name, value in headers.items()]
        return CIMultiDictProxy(CIMultiDict((name, value.decode()) for name, value in pairs))


def make_http_session(
    headers: Mapping[str, str] | None = None, proxy: str | None = None
) -> aiohttp.ClientSession:
    """Make a session that keeps connections but no cookies. Close it on the same event loop."""
    return aiohttp.ClientSession(
        # CallLimits bounds the calls. A bounded connection pool would be a second queue.
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30),
        headers=headers,
        cookie_jar=aiohttp.DummyCookieJar(),
        proxy=proxy,
        response_class=_Response,
    )


def is_loopback(host: str) -> bool:
    """Whether the host is this machine. A proxy cannot reach it: it would call its own machine."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host.lower().rstrip(".") == "localhost"
    return address.is_loopback or address.is_unspecified


def check_size(size: int, limit: int, setting: str) -> None:
    """Raise UpstreamUnavailable if `size` bytes are over `limit`, the value of `setting`.

    Without a limit, an endless answer would fill the memory.
    """
    if size > limit:
        raise UpstreamUnavailable(
            f"the provider's answer is longer than {setting} allows ({limit} bytes)"
        )


# --- https://html.spec.whatwg.org/multipage/server-sent-events.html ----------------------

# A carriage return ends a line by itself only if it is not followed by a line feed, so one at
# the end of a chunk is undecided.
_LINE_END = re.compile(rb"\r\n|\n|\r(?=[^\n])")

_EVENT = re.compile(rb"^data:\s*{", re.MULTILINE)


class EventDecoder:
    """Takes the bytes of an event stream and yields the data of each event.

    Comments (": OPENROUTER PROCESSING") and fields other than data are skipped.
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
                    self._data.append(line[5:].removeprefix(b" "))
                elif not line and self._data:
                    yield b"\n".join(self._data)
                    self._data.clear()
            self._size = len(rest) + sum(map(len, self._data))
        check_size(self._size, self._limit, "max_answer_bytes")

    def end(self) -> Iterator[bytes]:
        """Yield the data of a last event that lacks its final line breaks."""
        return self.feed(b"\n\n")


def is_json(beginning: bytes) -> bool:
    """Whether a body with this beginning is JSON. The Content-Type is not needed: no event stream
    begins with a bracket."""
    return beginning.removeprefix(BOM).lstrip()[:1] in (b"{", b"[")


def holds_events(body: bytes) -> bool:
    """Whether a body is an event stream that has more than its end mark."""
    return not is_json(body) and _EVENT.search(body.removeprefix(BOM)) is not None
