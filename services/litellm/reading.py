"""The body of a provider's answer on its way to litellm, rewritten by Wire."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator

import httpx

from services.common.errors import BackendError, UnreadableAnswer
from services.common.hosted.sse import BOM, holds_events, is_json
from services.common.hosted.values import is_whole, load_json, load_values
from services.litellm.wire import Wire

_ASKS_FOR_STREAM = re.compile(rb'"stream"\s*:\s*true')
_KNOWN = ("text/event-stream", "application/json", "text/plain", "")


class Reading(httpx.AsyncByteStream):
    """A body, bounded already, as litellm is to read it.

    wire: learns what the answer holds, and why it cannot be used. streamed: the request
    asked for a stream.
    """

    def __init__(
        self,
        stream: httpx.AsyncByteStream,
        wire: Wire,
        streamed: bool,
        headers: httpx.Headers,
    ) -> None:
        self._stream = stream
        self._wire = wire
        self._streamed = streamed
        self._rest: list[bytes] = []  # of a line that has not ended
        self._kind = headers.get("Content-Type", "").partition(";")[0].strip().lower()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for piece in self._pieces():
                yield piece
        except BackendError as error:
            self._wire.failure = error
            raise httpx.ReadError(error.message) from error

    async def _pieces(self) -> AsyncIterator[bytes]:
        chunks = self._chunks()
        if self._streamed and self._kind not in _KNOWN:
            async for chunk in chunks:  # in a framing of its own
                yield chunk
            return
        begun = b""
        while self._streamed and not begun.strip() and (chunk := await anext(chunks, b"")):
            begun += chunk
        begun = begun.removeprefix(BOM)
        if not self._streamed or is_json(begun):
            body = begun + b"".join([chunk async for chunk in chunks])
            for piece in self._whole(body):
                yield piece
            return
        for piece in self._lines(begun):
            yield piece
        async for chunk in chunks:
            for piece in self._lines(chunk):
                yield piece
        last = b"".join(self._rest)
        if is_whole(last.removeprefix(b"data:")):  # else it broke off
            yield self._line(last)
        yield b"\n\n"  # it may lack these

    def _lines(self, chunk: bytes) -> Iterator[bytes]:
        """The lines that a chunk completes."""
        self._rest.append(chunk)
        if b"\n" in chunk:
            *lines, rest = b"".join(self._rest).split(b"\n")
            self._rest = [rest]
            for line in lines:
                yield self._line(line) + b"\n"

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def _chunks(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._stream:
                yield chunk
        except Exception:
            self._wire.broken = True
            raise

    def _whole(self, body: bytes) -> Iterator[bytes]:
        """A whole body, also in place of a stream."""
        if not self._streamed and holds_events(body):
            raise UnreadableAnswer("the provider sent a stream, although none was asked for")
        try:
            values = load_values(body)
        except ValueError:
            yield body
            return
        if len(values) > 1 and not self._streamed:
            raise UnreadableAnswer("the provider sent several answers in place of one")
        value = values if len(values) > 1 else values[0]
        if (events := self._wire.rewrite(value, self._streamed)) is None:
            yield body
        elif not self._streamed:
            yield json.dumps(events[0]).encode()
        else:
            for event in events:
                yield b"data: " + json.dumps(event).encode() + b"\n\n"
            yield b"data: [DONE]\n\n"

    def _line(self, line: bytes) -> bytes:
        """A line of a stream of events. litellm looks at those with data alone."""
        if not line.startswith(b"data:"):
            return line
        data = line[5:].strip()
        try:
            value = load_json(data)
        except ValueError:
            if data.startswith(b"{"):
                raise UnreadableAnswer("the provider sent an event that is no JSON") from None
            return line  # the end mark
        events = self._wire.rewrite(value, True)
        if events is None:
            return line
        return b"\n\n".join(b"data: " + json.dumps(event).encode() for event in events)


def asks_for_stream(request: httpx.Request) -> bool:
    """Whether the provider is to stream. litellm asks some without, and streams itself."""
    try:
        body = request.content
    except httpx.RequestNotRead:
        return False
    return "stream" in request.url.path.lower() or _ASKS_FOR_STREAM.search(body) is not None
