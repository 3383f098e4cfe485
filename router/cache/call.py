"""A call that the cache may answer in place of a backend."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import Any

from google.protobuf.message import Message

from arena_llm.v1 import generate_pb2
from router.cache.cache import Key, ReplyCache
from router.cache.entry import make_events, make_reply, pack, unpack
from router.cache.lease import Lease
from router.events import Event, JoinedStream
from router.forwarding import ForwardedCall
from services.common.call import CallRecord
from services.common.streaming import PROGRESS_SECONDS

_WAITING = generate_pb2.Progress(state=generate_pb2.PROGRESS_STATE_WAITING)


class CachedCall:
    """A call that the cache answers, or a ForwardedCall if the cache has no reply.

    kind: the type of the request. model, request_id: of the request. forward: makes the call to
    the backend.
    """

    def __init__(
        self,
        cache: ReplyCache,
        kind: type[Message],
        model: str,
        request_id: str,
        data: bytes,
        forward: Callable[[], ForwardedCall],
        record: CallRecord,
    ) -> None:
        self._cache = cache
        self._kind = kind
        self._model = model
        self._request_id = request_id
        self._data = data
        self._forward = forward
        self._record = record

    async def reply(self) -> bytes:
        """Return the kept reply, or that of the backend."""
        with self._cache:
            return await self._reply()

    async def _reply(self) -> bytes:
        key = await self._cache.find_key(self._kind, self._model, self._data)
        if key is None:
            return await self._forward().reply()
        found = await self._cache.get(key)
        if isinstance(found, bytes):
            return self._answer(found)
        with found:
            reply = await self._forward().reply()
            await self._cache.keep(key, entry := pack(reply))
            found.answer(entry)
            return reply

    def _answer(self, entry: bytes) -> bytes:
        self._record.add(cached=True)
        if self._kind is not generate_pb2.GenerateRequest:
            return unpack(entry)[0]
        return make_reply(entry, self._request_id, self._seconds()).SerializeToString()

    def _seconds(self) -> float:
        return time.perf_counter() - self._record.started

    async def messages(self, *, initial: bool = True) -> AsyncGenerator[bytes, None]:
        """Yield the events of the kept reply, or those of the backend."""
        with self._cache:
            async with aclosing(self._messages(initial)) as messages:
                async for message in messages:
                    yield message

    async def _messages(self, initial: bool) -> AsyncGenerator[bytes, None]:
        key = await self._cache.find_key(self._kind, self._model, self._data)
        stream = JoinedStream()
        found: bytes | Lease | None = None
        if key is not None:
            with _looking(self._cache, key) as looking:
                while not (await asyncio.wait((looking,), timeout=PROGRESS_SECONDS))[0]:
                    # While it waits for an equal call, the caller sees progress.
                    if not stream.has_begun:
                        yield stream.start(self._request_id)
                    yield stream.add(Event(progress=_WAITING))
                found = looking.result()
            stream.join()
        if isinstance(found, bytes):
            self._record.add(cached=True)
            for event in make_events(found, self._request_id, self._seconds()):
                if (message := stream.take(event.SerializeToString())) is not None:
                    yield message
            return
        initial = initial and not stream.has_begun
        if key is None or found is None:
            messages = self._forward().messages(initial=initial)
        else:
            messages = self._forward_and_keep(key, found, initial)
        async with aclosing(messages):
            async for message in messages:
                if not stream.has_begun:
                    yield message
                elif (joined := stream.take(message)) is not None:
                    yield joined

    async def _forward_and_keep(
        self, key: Key, lease: Lease, initial: bool
    ) -> AsyncGenerator[bytes, None]:
        """Yield the messages of the backend, and keep the reply that they bring."""
        deltas: list[bytes] = []
        with lease:
            async with aclosing(self._forward().messages(initial=initial)) as messages:
                async for message in messages:
                    event = Event.FromString(message)
                    match event.WhichOneof("event"):
                        case "delta":
                            deltas.append(message)
                        case "completion":
                            entry = pack(event.completion.SerializeToString(), deltas)
                            await self._cache.keep(key, entry)
                            lease.answer(entry)
                    yield message


@contextmanager
def _looking(cache: ReplyCache, key: Key) -> Iterator[asyncio.Task[Any]]:
    """Look for a reply in a task. If the block fails, a lease that the task gets is ended."""
    task: asyncio.Task[bytes | Lease] = asyncio.create_task(cache.get(key))
    try:
        yield task
    except BaseException:
        task.cancel()
        task.add_done_callback(_end_lease)
        raise


def _end_lease(task: asyncio.Task[bytes | Lease]) -> None:
    if not task.cancelled() and task.exception() is None:
        found = task.result()
        if isinstance(found, Lease):
            found.__exit__()
