"""One HTTP request: its body, the moment when its caller leaves, and its answer."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from pydantic_core import to_json

from gateway.config import GatewayConfig
from gateway.connection import CONNECTION, BoundedProtocol
from gateway.errors import ApiError
from services.common.digits import read_digits

T = TypeVar("T")

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

_JSON = (b"content-type", b"application/json")
_EVENTS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    # Otherwise nginx would buffer the events.
    (b"x-accel-buffering", b"no"),
)
#: Seconds for which a body that is refused is read.
_DISCARD_SECONDS = 2.0
#: Characters of a refused Content-Encoding in an error.
_MAX_ENCODING = 40
_UNSAFE = re.compile(r"[^\x20-\x7e]")


class CallerLeft(Exception):
    """The caller closed its connection before it had its answer."""


class HttpExchange:
    """A request and its answer.

    path_params: parts of the path that the route names. params: the caller's words for fields of
    our contract. more_headers: of the answer. started: whether the head of the answer was sent.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send, config: GatewayConfig) -> None:
        self._receive = receive
        self._send = send
        self._config = config
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.path_params: Mapping[str, str] = scope.get("path_params", {})
        self.more_headers: list[tuple[bytes, bytes]] = []
        self.params: Mapping[str, str] = {}
        self.started = False
        self._ended = False
        self._connection: BoundedProtocol = scope[CONNECTION]
        #: Whether the whole body was read.
        self._whole = self.headers.get(b"content-length", b"0") == b"0" and (
            b"transfer-encoding" not in self.headers
        )

    def header(self, name: str) -> str:
        """A header of the request; "" if it has none."""
        return self.headers.get(name.encode(), b"").decode("latin-1")

    def add_header(self, name: str, value: str) -> None:
        """Add a header to the answer. Characters that no header can hold become a question mark."""
        self.more_headers.append((name.encode(), _UNSAFE.sub("?", value)[:4000].encode()))

    def size(self) -> int:
        """The size of the body by its Content-Length; without one, the most that is allowed.

        Raises ApiError for a body that is too large.
        """
        most = self._config.max_body_bytes
        said = self.headers.get(b"content-length")
        if said is None:
            return most if b"transfer-encoding" in self.headers else 0
        size = read_digits(said.decode("latin-1"))
        if size is None or size > most:
            raise self._make_size_error()
        return size

    async def read(self) -> bytes:
        """Read the body.

        Raises ApiError if it is compressed or too large, CallerLeft if it breaks off.
        """
        encoding = self.header("content-encoding").strip()
        if encoding.lower() not in ("", "identity"):
            self.add_header("accept-encoding", "identity")
            raise ApiError(
                415, f"the body has the Content-Encoding {encoding[:_MAX_ENCODING]!r}: send it "
                "uncompressed, without this header",
                code="unsupported_content_encoding", reason="UNSUPPORTED",
            )  # fmt: skip
        pieces: list[bytes] = []
        size = 0
        while not self._whole:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise CallerLeft
            self._whole = not message.get("more_body")
            pieces.append(message["body"])
            size += len(message["body"])
            if size > self._config.max_body_bytes:
                raise self._make_size_error()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def _discard(self) -> None:
        """Read a refused body, within bounds, because a caller reads no answer while it sends."""
        left = self._config.max_body_bytes
        async with asyncio.timeout(_DISCARD_SECONDS):
            while not self._whole and left > 0:
                message = await self._receive()
                left -= len(message.get("body", b""))
                self._whole = not message.get("more_body")

    def _make_size_error(self) -> ApiError:
        most = self._config.max_body_bytes
        return ApiError(
            413, f"the body may have {most} bytes: max_body_bytes of the gateway",
            code="request_too_large", reason="TOO_LARGE",
        )  # fmt: skip

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what the work returns. If the caller leaves, cancel it and raise CallerLeft."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine runs in a task
        left = False

        def leave() -> None:
            nonlocal left
            if not self._ended:
                left = True
                task.cancel()

        if self._connection.transport.is_closing():
            work.close()
            raise CallerLeft
        self._connection.when_lost = leave
        try:
            return await work
        except asyncio.CancelledError:
            if left:
                task.uncancel()
                raise CallerLeft from None
            raise
        finally:
            self._connection.when_lost = None

    async def answer(self, status: int, body: Any) -> None:
        """Send the whole answer."""
        await self.send_bytes(status, to_json(body), _JSON)

    async def send_bytes(self, status: int, data: bytes, kind: tuple[bytes, bytes]) -> None:
        """Send an answer of any type."""
        length = (b"content-length", str(len(data)).encode())
        # The rest of a body that was not read would look like the next request.
        close = () if self._whole else ((b"connection", b"close"),)
        self.started = self._ended = True
        await self._send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [kind, length, *close, *self.more_headers],
            }
        )
        await self._send({"type": "http.response.body", "body": data})

    async def begin_events(self) -> None:
        """Send the head of a stream of events."""
        self.started = True
        headers = [*_EVENTS, *self.more_headers]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})

    async def send_events(self, data: bytes) -> None:
        """Send events."""
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end_events(self, data: bytes) -> None:
        """Send the last events, and end the answer."""
        self._ended = True
        await self._send({"type": "http.response.body", "body": data})

    async def fail(self, error: ApiError) -> None:
        """Send an error: as the whole answer, or as the last event of a stream that has begun."""
        if self.started:
            await self.end_events(b"data: " + to_json(error.body) + b"\n\n")
            return
        for name, value in error.headers.items():
            self.add_header(name, value)
        with suppress(TimeoutError):
            await self._discard()
        await self.answer(error.status, error.body)
