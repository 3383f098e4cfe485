"""Calls that several callers may share: the same request_id does not pay twice.

A call with a request_id runs in a task of its own. Another caller with the same id and the same
request waits for that task, or gets its result within the window after its end. Failures are not
kept.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Coroutine
from hashlib import blake2b
from typing import Any

from arena_llm.v1 import generate_pb2, reply_pb2
from services.common.errors import RequestIdReused
from services.common.handlers import Scan

Reply = reply_pb2.GenerateResponse
Event = generate_pb2.StreamGenerateResponse

#: Events of a stream that wait for a slow reader. Then the backend waits.
_MAX_WAITING = 16


def digest_request(request: generate_pb2.GenerateRequest) -> bytes:
    """Return what two requests have in common if all but their hints is the same.

    Clears the hints of the request.
    """
    for name in ("request_id", "session", "labels"):
        request.ClearField(name)
    if request.HasField("conversation"):
        for message in request.conversation.messages:
            for part in message.parts:
                part.ClearField("cache")
    for tool in request.tools:
        tool.ClearField("cache")
    return blake2b(request.SerializeToString(deterministic=True), digest_size=16).digest()


def digest_fields(data: bytes, found: Scan) -> bytes:
    """Return the same for a large request, from its bytes: protobuf would copy it.

    Hints inside its parts count here, too.
    """
    digest = blake2b(digest_size=16)
    for number, begin, end in found.top:
        if number not in _HINTS:
            digest.update(memoryview(data)[begin:end])
    return digest.digest()


#: The numbers of session, request_id and labels.
_HINTS = frozenset(
    generate_pb2.GenerateRequest.DESCRIPTOR.fields_by_name[name].number
    for name in ("session", "request_id", "labels")
)


class SharedCall:
    """A call, and the callers that wait for its reply.

    runs_to_its_end: it also runs without callers, because its provider bills it anyway.
    """

    def __init__(self, digest: bytes, run: Coroutine[Any, Any, Reply], runs_to_its_end: bool):
        self.digest = digest
        self.ended = 0.0  # by time.monotonic()
        self.size = 0  # bytes of the reply
        self._runs_to_its_end = runs_to_its_end
        self._callers = 0
        #: It was cancelled, because its last caller left.
        self.abandoned = False
        self.task = asyncio.ensure_future(run)

    async def join(self) -> Reply:
        """Return the reply. The last caller that leaves before it cancels the call."""
        self._callers += 1
        try:
            return await asyncio.shield(self.task)
        finally:
            self.leave()

    def leave(self) -> None:
        """End the part of one caller."""
        self._callers -= 1
        if self._callers == 0 and not self._runs_to_its_end and not self.task.done():
            self.abandoned = True
            self.task.cancel()

    def enter(self) -> None:
        """Add a caller that does not wait in `join`, such as the reader of a stream."""
        self._callers += 1


class SharedCalls:
    """The calls that run, and the replies of those that ended, by request_id.

    seconds: the window in which a reply is kept; 0 means not at all. max_bytes: of all kept
    replies together; the oldest are dropped first.
    """

    def __init__(self, seconds: float, max_bytes: int) -> None:
        self._seconds = seconds
        self._max_bytes = max_bytes
        self._calls: dict[str, SharedCall] = {}
        self._kept: dict[str, SharedCall] = {}  # the oldest first
        self._bytes = 0
        self._tasks: set[asyncio.Task[Reply]] = set()

    def find(self, request_id: str, digest: bytes) -> SharedCall | None:
        """Return the call with this id, if it runs or its reply is kept.

        Raises RequestIdReused if its request is another one.
        """
        self._drop_old()
        call = self._calls.get(request_id) or self._kept.get(request_id)
        if call is None or call.abandoned:
            return None
        if call.digest != digest:
            raise RequestIdReused(
                "another request has this request_id: give each request its own id",
                field="request_id",
            )
        return call

    def start(
        self,
        request_id: str,
        digest: bytes,
        run: Coroutine[Any, Any, Reply],
        *,
        runs_to_its_end: bool = False,
    ) -> SharedCall:
        """Start a call. An empty digest means that it is not shared."""
        call = SharedCall(digest, run, runs_to_its_end and bool(digest))
        self._tasks.add(call.task)
        if digest:
            self._calls[request_id] = call
        call.task.add_done_callback(lambda task: self._end(request_id, call))
        return call

    async def aclose(self) -> None:
        """Cancel the calls that still run."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _end(self, request_id: str, call: SharedCall) -> None:
        self._tasks.discard(call.task)
        if self._calls.get(request_id) is call:
            del self._calls[request_id]
        # Asking for the exception of a failure that nobody waits for keeps the event loop quiet.
        if call.task.cancelled() or call.task.exception() is not None or not call.digest:
            return
        call.ended = time.monotonic()
        call.size = call.task.result().ByteSize()
        self._kept[request_id] = call
        self._bytes += call.size
        self._drop_old()

    def _drop_old(self) -> None:
        oldest = time.monotonic() - self._seconds
        while self._kept:
            request_id, call = next(iter(self._kept.items()))
            if call.ended >= oldest and self._bytes <= self._max_bytes:
                return
            del self._kept[request_id]
            self._bytes -= call.size


class Feed:
    """The events of a running stream, from its task to its reader.

    progress: what the stream waits for, for a sign of life.
    """

    def __init__(self, progress: generate_pb2.Progress) -> None:
        self.progress = progress
        self._queue: asyncio.Queue[Event | None] = asyncio.Queue(_MAX_WAITING)
        self._open = True
        self._last = 0.0

    async def put(self, event: Event) -> None:
        """Add an event. Waits while the reader is behind; does nothing after it has left."""
        if not self._open:
            return
        if self._queue.full():
            await self._queue.put(event)
        else:
            self._queue.put_nowait(event)  # the usual case, without another coroutine

    async def read(self, task: asyncio.Task[Any], seconds: float) -> AsyncGenerator[Event, None]:
        """Yield the events until the task ends, and a sign of life after `seconds` of silence."""
        loop = asyncio.get_running_loop()
        self._last = loop.time()
        timer: asyncio.TimerHandle | None = None

        def beat() -> None:
            nonlocal timer
            silent = loop.time() - self._last
            if silent >= seconds and self._queue.empty():
                self._queue.put_nowait(None)
                silent = 0.0
            timer = loop.call_later(max(0.001, seconds - silent), beat)

        def wake(_: object) -> None:
            if self._queue.empty():
                self._queue.put_nowait(None)

        task.add_done_callback(wake)
        timer = loop.call_later(seconds, beat)
        try:
            while not (task.done() and self._queue.empty()):
                event = await self._queue.get()
                self._last = loop.time()
                if event is not None:
                    yield event
                elif not task.done():
                    yield Event(progress=self.progress)
        finally:
            timer.cancel()
            self._open = False
            while not self._queue.empty():  # the task must not wait for this reader
                self._queue.get_nowait()
