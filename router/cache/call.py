"""A call that the cache may answer in place of a backend."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Any

from google.protobuf.message import Message

from arena_llm.v1 import generate_pb2
from router.cache.cache import Key, ReplyCache
from router.cache.entry import Event, make_events, make_reply, pack, unpack
from services.common.call import CallRecord
from services.common.streaming import PROGRESS_SECONDS

_WAITING = generate_pb2.Progress(state=generate_pb2.PROGRESS_STATE_WAITING)


class CachedCall:
    """The same as a ForwardedCall, which it makes if the cache has no reply.

    kind: the type of the request. model, request_id: of the request. forward: starts the call to
    the backend. Each call is used once: by `reply`, or as a block around `messages`.
    """

    def __init__(
        self,
        cache: ReplyCache,
        kind: type[Message],
        model: str,
        request_id: str,
        data: bytes,
        forward: Callable[[], Any],
        record: CallRecord,
    ) -> None:
        self._cache = cache
        self._kind = kind
        self._model = model
        self._request_id = request_id
        self._data = data
        self._start = forward
        self._record = record
        self._inner: Any = None
        self._passed_over: frozenset[str] = frozenset()
        self.failed: Sequence[Any] = ()

    @property
    def passed_over(self) -> frozenset[str]:
        """See ForwardedCall."""
        return self._passed_over

    @passed_over.setter
    def passed_over(self, reasons: frozenset[str]) -> None:
        self._passed_over = reasons
        if self._inner is not None:
            self._inner.passed_over = reasons

    async def __aenter__(self) -> CachedCall:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Nothing: `messages` ends the call that it makes."""

    def _forward(self) -> Any:
        self._inner = call = self._start()
        call.passed_over, call.failed = self._passed_over, self.failed
        return call

    async def reply(self) -> bytes:
        """Return the kept reply, or that of the backend."""
        key = await self._cache.find_key(self._kind, self._model, self._data)
        if key is None:
            whole: bytes = await self._forward().reply()
            return whole
        if (entry := await self._cache.get(key)) is not None:
            return self._answer(entry)
        with self._cache.run(key) as running:
            reply: bytes = await self._forward().reply()
            entry = pack(reply)
            await self._cache.keep(key, entry)
            running.answer(entry)
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
        key = await self._cache.find_key(self._kind, self._model, self._data)
        if key is None:
            async for message in self._forwarded(initial):
                yield message
            return
        looking = asyncio.ensure_future(self._cache.get(key))
        sequence = 0
        try:
            while not (await asyncio.wait((looking,), timeout=PROGRESS_SECONDS))[0]:
                # It waits for an equal call, and shows signs of life.
                if not sequence:
                    start = generate_pb2.StreamStart(request_id=self._request_id)
                    yield Event(start=start).SerializeToString()
                    sequence = 1
                yield Event(sequence=sequence, progress=_WAITING).SerializeToString()
                sequence += 1
            entry = looking.result()
        finally:
            looking.cancel()
        if entry is not None:
            self._record.add(cached=True)
            for event in make_events(entry, self._request_id, self._seconds()):
                if sequence:
                    if event.HasField("start"):
                        continue
                    event.sequence = sequence
                    sequence += 1
                yield event.SerializeToString()
            return
        async with aclosing(self._forward_and_keep(key, initial)) as messages:
            async for message in messages:
                if sequence:
                    event = Event.FromString(message)
                    if event.HasField("start"):
                        continue
                    event.sequence = sequence
                    sequence += 1
                    message = event.SerializeToString()
                yield message

    async def _forwarded(self, initial: bool) -> AsyncGenerator[bytes, None]:
        async with self._forward() as call, aclosing(call.messages(initial=initial)) as messages:
            async for message in messages:
                yield message

    async def _forward_and_keep(self, key: Key, initial: bool) -> AsyncGenerator[bytes, None]:
        deltas: list[bytes] = []
        with self._cache.run(key) as running:
            async with aclosing(self._forwarded(initial)) as messages:
                async for message in messages:
                    event = Event.FromString(message)
                    match event.WhichOneof("event"):
                        case "delta":
                            deltas.append(message)
                        case "completion":
                            entry = pack(event.completion.SerializeToString(), deltas)
                            await self._cache.keep(key, entry)
                            running.answer(entry)
                    yield message
