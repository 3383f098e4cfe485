"""A fake provider: a real HTTP server on loopback whose answers and failures are scripted.

A subclass writes answers, errors and streams in its provider's format. The failures are the same
for all:

    async with OpenRouterUpstream() as upstream:
        upstream.enqueue(Fault(status=429, headers={"Retry-After": "1"}), Reply("ok"))
        ...upstream.url...
        assert upstream.history[0].body["model"] == "..."
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn, Self

from aiohttp import web


@dataclass(frozen=True)
class Reply:
    """An answer. `fields` replace the provider's own fields.

    calls: tool calls, each with id, name and arguments. signature: of the reasoning, and of the
    first tool call where the provider signs these.
    """

    text: str = "ok"
    reasoning: str = ""
    refusal: str = ""
    calls: Sequence[tuple[str, str, str]] = ()
    signature: str = "signed"
    fields: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0  # seconds before the first byte
    hold: asyncio.Event | None = None  # the answer, or the end of the stream, waits for it
    held: int | None = None  # pieces of a stream before the wait; None: all except the last
    pieces: Sequence[str] | None = None  # the deltas of a stream; None: by character
    mark: bool = True  # a stream ends with its format's last piece, such as [DONE]
    pause: float = 0.0  # seconds between two pieces of a stream, or two quarters of an answer


@dataclass(frozen=True)
class Fault:
    """A failure of one call.

    status: the HTTP status. The body is an error, even with status 200.
    reset: the connection is reset, immediately or, with `after`, within the stream.
    truncate: the body ends in the middle, but the HTTP framing is correct.
    """

    status: int = 200
    message: str = "a planted failure"
    headers: dict[str, str] = field(default_factory=dict)
    error: dict[str, Any] | None = None  # more keys of the error object
    body: bytes | None = None  # in place of the provider's own
    content_type: str = "application/json"
    reset: bool = False
    truncate: bool = False
    empty: bool = False  # an answer without a choice
    after: Sequence[str] | None = None  # in a stream: the deltas that come first
    again: bool = False  # ... and the last of them forever
    hang: bool = False  # never answers; with `after` or `truncate`: never continues
    endless: bytes = b""  # a body that repeats this forever
    raw: bytes = b""  # what is written to the socket, which is then closed


Step = Reply | Fault


@dataclass
class Call:
    """A received request, and how it ended."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: Any
    done: bool = False  # answered completely
    holding: asyncio.Event = field(default_factory=asyncio.Event)  # the answer waits for `hold`
    dropped: asyncio.Event = field(default_factory=asyncio.Event)  # the caller hung up


class UpstreamServer(ABC):
    """The server. Calls get the enqueued steps in order, then `default`."""

    def __init__(self) -> None:
        self.history: list[Call] = []
        self.default: Step | Callable[[Call], Step] = Reply()
        self.running = 0
        self.most_running = 0
        #: Of all connections so far.
        self.transports: set[Any] = set()
        self._steps: deque[Step] = deque()

    @property
    def connections(self) -> int:
        """The number of connections so far."""
        return len(self.transports)

    def enqueue(self, *steps: Step) -> None:
        """Add steps, one for each of the next calls."""
        self._steps.extend(steps)

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_route("*", "/{path:.*}", self._handle)
        # A handler is cancelled when the caller closes the connection, which sets `dropped`.
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, backlog=2048)
        await site.start()
        port = self._runner.addresses[0][1]
        self.origin = f"http://127.0.0.1:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    # --- implemented by each provider ------------------------------------------------------------

    @abstractmethod
    def asks_for_stream(self, call: Call) -> bool:
        """Whether the call asks for a stream."""

    @abstractmethod
    def answer(self, call: Call, reply: Reply) -> dict[str, Any]:
        """The body of a whole answer."""

    @abstractmethod
    def events(self, call: Call, reply: Reply) -> list[bytes]:
        """A streamed answer, in pieces."""

    @abstractmethod
    def error(self, fault: Fault) -> dict[str, Any]:
        """The body of an error."""

    @abstractmethod
    def error_event(self, fault: Fault) -> bytes:
        """The event of a stream that reports an error."""

    @abstractmethod
    def empty(self, call: Call) -> dict[str, Any]:
        """The body of an answer without a choice."""

    async def special(self, call: Call) -> web.StreamResponse | None:
        """The response for paths other than completions; None for a completion."""
        return None

    # --- the same for all ------------------------------------------------------------

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        data = await request.read()
        call = Call(
            request.method,
            request.path,
            request.query_string,
            dict(request.headers),
            json.loads(data) if data else None,
        )
        if (response := await self.special(call)) is not None:
            return response
        self.history.append(call)
        self.transports.add(request.transport)
        self.running += 1
        self.most_running = max(self.running, self.most_running)
        try:
            response = await self._play(request, call, self._next(call))
            call.done = True
            return response
        except (asyncio.CancelledError, ConnectionResetError):
            call.dropped.set()
            raise
        finally:
            self.running -= 1

    def _next(self, call: Call) -> Step:
        if self._steps:
            return self._steps.popleft()
        return self.default(call) if callable(self.default) else self.default

    async def _play(self, request: web.Request, call: Call, step: Step) -> web.StreamResponse:
        if isinstance(step, Fault):
            return await self._fail(request, call, step)
        await asyncio.sleep(step.delay)
        if not self.asks_for_stream(call):
            if step.hold is not None:
                call.holding.set()
                await step.hold.wait()
            if step.pause:
                return await self._drip(request, json.dumps(self.answer(call, step)), step)
            return web.json_response(self.answer(call, step), headers=step.headers)
        response = await self._begin_stream(request, step.headers)
        pieces = self.events(call, step)
        if not step.mark:
            pieces.pop()
        held = len(pieces) - 1 if step.held is None else step.held
        for index, piece in enumerate(pieces):
            if index == held and step.hold is not None:
                call.holding.set()
                await step.hold.wait()
            await response.write(piece)
            await asyncio.sleep(step.pause)
        return response

    async def _drip(self, request: web.Request, body: str, step: Reply) -> web.StreamResponse:
        data = body.encode()
        headers = {**step.headers, "Content-Type": "application/json"}
        response = web.StreamResponse(headers=headers)
        response.content_length = len(data)
        await response.prepare(request)
        quarter = len(data) // 4 + 1
        for begin in range(0, len(data), quarter):
            await response.write(data[begin : begin + quarter])
            await asyncio.sleep(step.pause)
        return response

    async def _fail(self, request: web.Request, call: Call, fault: Fault) -> web.StreamResponse:
        if fault.hang and fault.after is None and not fault.truncate:
            await asyncio.Event().wait()
        if fault.after is not None and self.asks_for_stream(call):
            return await self._fail_late(request, call, fault)
        if fault.reset and not fault.truncate:
            return _reset(request)
        if fault.raw and request.transport is not None:
            request.transport.write(fault.raw)  # type: ignore[attr-defined] # it is no read-only one
            request.transport.close()
            return web.Response()
        if fault.body is not None:
            body = fault.body
        elif fault.empty:
            body = json.dumps(self.empty(call)).encode()
        elif fault.truncate:
            body = json.dumps(self.answer(call, Reply())).encode()
        else:
            body = json.dumps(self.error(fault)).encode()
        if fault.truncate:
            body = body[: len(body) // 2]
        headers = {**fault.headers, "Content-Type": fault.content_type}
        if fault.endless:
            response = web.StreamResponse(status=fault.status, headers=headers)
            await response.prepare(request)
            await _flood(response, fault.endless)
        if fault.truncate and (fault.reset or fault.hang):  # shorter than its Content-Length
            response = web.StreamResponse(status=fault.status, headers=headers)
            response.content_length = 2 * len(body)
            await response.prepare(request)
            await response.write(body)
            if fault.hang:
                await asyncio.Event().wait()
            _reset(request)
            return response
        return web.Response(status=fault.status, body=body, headers=headers)

    async def _fail_late(self, request: web.Request, call: Call, fault: Fault) -> Any:
        response = await self._begin_stream(request)
        pieces = fault.after or ()
        text = Reply("".join(pieces), pieces=pieces)
        begun = self.events(call, text)[: len(pieces) + 1]
        for piece in begun:
            await response.write(piece)
        if fault.hang:
            await asyncio.Event().wait()
        if fault.again:
            await _flood(response, begun[-1])
        if fault.reset:
            return _reset(request, response)
        if not fault.truncate:
            await response.write(self.error_event(fault))
        return response

    async def _begin_stream(
        self, request: web.Request, headers: dict[str, str] | None = None
    ) -> web.StreamResponse:
        headers = {"Content-Type": "text/event-stream", **(headers or {})}
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        return response


async def _flood(response: web.StreamResponse, piece: bytes) -> NoReturn:
    """Write the piece until the caller closes the connection, which raises an exception."""
    while True:
        await response.write(piece)


def _reset(request: web.Request, response: web.StreamResponse | None = None) -> web.StreamResponse:
    """Drop the connection with a TCP reset."""
    transport = request.transport
    if isinstance(transport, asyncio.Transport):
        # A close without lingering sends a reset.
        linger = struct.pack("ii", 1, 0)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        transport.abort()
    return response or web.Response()
