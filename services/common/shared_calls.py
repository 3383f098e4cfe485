"""Calls that several callers may share: the same request_id does not pay twice.

A call with a request_id runs in a task of its own. Another caller with the same id and the same
request waits for that task, or gets its result within the window after its end. Failures are not
kept.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from hashlib import blake2b
from typing import Any

from arena_llm.v1 import generate_pb2, score_pb2
from services.common.errors import RequestIdReused
from services.common.handlers import Scan

#: Bytes that a kept reply takes beside the reply itself: its key, its digest, its place.
_OVERHEAD = 320
#: The requests whose calls can be shared.
Request = generate_pb2.GenerateRequest | score_pb2.ScoreRequest


def digest_request(request: Any) -> bytes:
    """Return a digest, which two requests share if they differ only in their hints.

    Clears the hints of the request.
    """
    fields = request.DESCRIPTOR.fields_by_name
    for name in _HINTS:
        if name in fields:
            request.ClearField(name)
    if "conversation" in fields and request.HasField("conversation"):
        for message in request.conversation.messages:
            for part in message.parts:
                part.ClearField("cache")
    if "tools" in fields:
        for tool in request.tools:
            tool.ClearField("cache")
    digest = _begin_digest(request)
    digest.update(request.SerializeToString(deterministic=True))
    return digest.digest()


def digest_fields(request: Request, data: bytes, found: Scan) -> bytes:
    """Return the digest of a large request from its bytes, because protobuf would copy it.

    Here, requests that differ in the hints of their parts have different digests.
    """
    digest = _begin_digest(request)
    fields = request.DESCRIPTOR.fields_by_name
    numbers = {fields[name].number for name in _HINTS if name in fields}
    for number, begin, end in found.top:
        if number not in numbers:
            digest.update(memoryview(data)[begin:end])
    return digest.digest()


def _begin_digest(request: Any) -> blake2b:
    """Begin with the kind of the request: an id stands for one request of any kind."""
    return blake2b(request.DESCRIPTOR.name.encode(), digest_size=16)


#: Fields that do not change the reply.
_HINTS = ("session", "request_id", "labels", "cache_use")


class SharedCall:
    """A running call, and the callers that wait for its reply: the bytes of a message.

    runs_to_its_end: it also runs without callers, because its provider bills it anyway. tells_cost:
    its reply lists what it cost. before: an abandoned call with the same id, which has to end
    before this one begins. on_unheard: called if the call has ended and its last caller left
    without the result.
    """

    __slots__ = (
        "_callers",
        "_on_unheard",
        "_runs_to_its_end",
        "_waiters",
        "abandoned",
        "before",
        "digest",
        "heard",
        "task",
        "tells_cost",
    )

    def __init__(
        self,
        digest: bytes,
        runs_to_its_end: bool,
        tells_cost: bool,
        before: SharedCall | None,
        on_unheard: Callable[[], None],
    ) -> None:
        self.digest = digest
        self.tells_cost = tells_cost
        self.before = before
        self._runs_to_its_end = runs_to_its_end
        self._on_unheard = on_unheard
        #: A caller has got the result. It had to be there to take it: a caller that was cancelled
        #: in the same turn of the event loop did not get it.
        self.heard = False
        self._callers = 0
        self._waiters: list[asyncio.Future[bytes]] = []
        #: It was cancelled, because its last caller left.
        self.abandoned = False
        self.task: asyncio.Task[bytes]

    async def join(self) -> bytes:
        """Wait for the reply as one of its callers."""
        # Not asyncio.shield, which takes one more turn of the event loop.
        waiter: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        self.enter()
        try:
            reply = await waiter
            self.heard = True
            return reply
        except Exception:
            self.heard = True
            raise
        finally:
            self.leave()

    @property
    def has_callers(self) -> bool:
        """Whether a caller waits for its result."""
        return self._callers > 0

    def enter(self) -> None:
        """Add a caller. `join` does; the reader of a stream waits for the task itself.

        That reader sets `heard`.
        """
        self._callers += 1

    def leave(self) -> None:
        """Remove a caller. The last one cancels the call, unless it runs to its end."""
        self._callers -= 1
        if self._callers:
            return
        if self.task.done():
            if not self.heard:
                self._on_unheard()
        elif not self._runs_to_its_end:
            self.abandoned = True
            self.task.cancel()

    def answer(self, reply: bytes) -> None:
        """Give the reply to all who wait for it."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(reply)

    def fail(self, error: BaseException) -> None:
        """Give the failure to all who wait for a reply."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(error)


#: The digest and the reply of a call, when it ended, by time.monotonic(), and whether it was heard:
#: a caller got the reply, or it does not tell what the call cost. A plain tuple of such values,
#: which the garbage collector does not track: a minute has thousands.
_Kept = tuple[bytes, bytes, float, bool]


class SharedCalls:
    """The calls that run, and the replies of those that ended, by request_id.

    seconds: the window in which a reply is kept; 0 means not at all. max_bytes: of all kept
    replies together; the oldest are dropped first. on_unheard: gets the failure of a call that no
    caller got, and its request_id. on_dropped: gets a reply that is dropped although no caller got
    it, and its request_id, if the reply tells what the call cost.
    """

    def __init__(
        self,
        seconds: float,
        max_bytes: int,
        on_unheard: Callable[[str, Exception], None] = lambda request_id, error: None,
        on_dropped: Callable[[str, bytes], None] = lambda request_id, reply: None,
    ) -> None:
        self._seconds = seconds
        self._max_bytes = max_bytes
        self._on_unheard = on_unheard
        self._on_dropped = on_dropped
        self._calls: dict[str, SharedCall] = {}
        self._kept: dict[str, _Kept] = {}  # the oldest first
        self._bytes = 0
        self._tasks: set[asyncio.Task[bytes]] = set()

    def find(self, request_id: str, digest: bytes) -> SharedCall | bytes | None:
        """Return the running call with this id, or the kept reply.

        Raises RequestIdReused if that call had another request.
        """
        self._drop_old()
        found: SharedCall | bytes
        call = self._calls.get(request_id)
        if call is not None and not call.abandoned:
            known, found = call.digest, call
        elif (kept := self._kept.get(request_id)) is not None:
            known, found, ended, _ = kept
        else:
            return None
        if known != digest:
            raise RequestIdReused(
                "another request has this request_id: give each request its own id",
                field="request_id",
            )
        if isinstance(found, bytes):
            self._kept[request_id] = known, found, ended, True
        return found

    def start(
        self,
        request_id: str,
        digest: bytes,
        run: Coroutine[Any, Any, bytes],
        *,
        runs_to_its_end: bool = False,
        tells_cost: bool = True,
    ) -> SharedCall:
        """Start a call, which returns its reply. An empty digest means that it is not shared."""
        before = self._calls.get(request_id) if digest else None
        call = SharedCall(
            digest,
            runs_to_its_end and bool(digest),
            tells_cost,
            before,
            lambda: self._note_unheard(request_id, call),
        )
        if digest:
            self._calls[request_id] = call
        call.task = asyncio.get_running_loop().create_task(self._run(request_id, call, run))
        self._tasks.add(call.task)
        call.task.add_done_callback(lambda task: self._end(request_id, call, run))
        return call

    @property
    def running(self) -> set[asyncio.Task[bytes]]:
        """The calls that run now."""
        return set(self._tasks)

    async def aclose(self) -> None:
        """Cancel the calls that still run."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(
        self, request_id: str, call: SharedCall, run: Coroutine[Any, Any, bytes]
    ) -> bytes:
        """Await the reply, keep it, and give it to all callers."""
        try:
            if call.before is not None:
                # At its end it notes what it cost. This call reports that.
                await asyncio.wait((call.before.task,))
                call.before = None
            reply = await run
        except BaseException as error:
            self._forget(request_id, call)
            if isinstance(error, Exception) and not call.has_callers:
                self._on_unheard(request_id, error)
            raise
        self._forget(request_id, call)
        if call.digest:
            heard = call.has_callers or not call.tells_cost
            self._kept[request_id] = call.digest, reply, time.monotonic(), heard
            self._bytes += len(reply) + _OVERHEAD
            self._drop_old()
        call.answer(reply)
        return reply

    def _end(self, request_id: str, call: SharedCall, run: Coroutine[Any, Any, bytes]) -> None:
        self._tasks.discard(call.task)
        if not call.task.cancelled():
            if (error := call.task.exception()) is not None:
                call.fail(error)
            return
        # It may have been cancelled before `_run` began.
        run.close()
        self._forget(request_id, call)
        call.fail(asyncio.CancelledError())

    def _note_unheard(self, request_id: str, call: SharedCall) -> None:
        """Note that the last caller left with the result on its way."""
        if call.task.cancelled():
            return
        if (error := call.task.exception()) is not None:
            if isinstance(error, Exception):
                self._on_unheard(request_id, error)
        elif call.digest and call.tells_cost:
            reply = call.task.result()
            kept = self._kept.get(request_id)
            if kept is not None and kept[1] is reply:
                self._kept[request_id] = *kept[:3], False
            else:
                self._on_dropped(request_id, reply)

    def _forget(self, request_id: str, call: SharedCall) -> None:
        if self._calls.get(request_id) is not call:
            return
        if call.before is not None and not call.before.task.done():
            self._calls[request_id] = call.before
        else:
            del self._calls[request_id]

    def _drop_old(self) -> None:
        oldest = time.monotonic() - self._seconds
        while self._kept:
            request_id, (_, reply, ended, heard) = next(iter(self._kept.items()))
            if ended >= oldest and self._bytes <= self._max_bytes:
                return
            del self._kept[request_id]
            self._bytes -= len(reply) + _OVERHEAD
            if not heard:
                self._on_dropped(request_id, reply)
