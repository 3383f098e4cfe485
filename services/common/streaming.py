"""The events of a stream: numbered deltas, progress, and its completion or interruption."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing
from typing import Any

from arena_llm.types import (
    CallReport,
    Completion,
    Delta,
    FinishReason,
    GenerationRequest,
    Message,
    Part,
    Progress,
    Reasoning,
    Refusal,
    StreamStart,
    Text,
    ToolCall,
)
from arena_llm.v1 import generate_pb2, reply_pb2
from arena_llm.wire import from_message, to_message
from services.common.backend import BaseLLMBackend, split_message
from services.common.call import CallRecord
from services.common.errors import BackendError, ContractError, repair_text
from services.common.reply import (
    ReplyBuilder,
    build_message,
    check_fields,
    check_type,
    mark_replayed,
)
from services.common.shared_calls import SharedCalls

#: Seconds of silence after which a stream sends a sign of life.
PROGRESS_SECONDS = 15.0
#: Events of a stream that wait for a slow reader. Then the backend waits.
_MAX_WAITING = 16

Event = generate_pb2.StreamGenerateResponse
_GENERATING = generate_pb2.Progress(state=generate_pb2.PROGRESS_STATE_GENERATING)


class Streams:
    """The streams over one backend. A stream may share a call with others."""

    def __init__(
        self, backend: BaseLLMBackend[Any], replies: ReplyBuilder, calls: SharedCalls
    ) -> None:
        self._backend = backend
        self._replies = replies
        self._calls = calls
        self._first_state = (
            generate_pb2.PROGRESS_STATE_WAITING
            if backend.forwards_calls
            else generate_pb2.PROGRESS_STATE_UNSPECIFIED
        )

    async def stream(
        self, request: GenerationRequest, digest: bytes, record: CallRecord
    ) -> AsyncGenerator[Event, None]:
        """Yield the events of a call, not yet numbered. digest: empty if it is not shared."""
        found = self._calls.find(request.request_id, digest) if digest else None
        if found is not None:
            record.add(replayed=True)
        served_by = self._replies.served_by(request.model)
        start = StreamStart("", request.request_id, served_by, found is not None)
        first = Event(start=to_message(start, generate_pb2.StreamStart))
        if isinstance(found, bytes):
            yield first
            for event in _replay(mark_replayed(found)):
                yield event
            return
        feed = Feed(generate_pb2.Progress(state=self._first_state))
        call = found or self._calls.start(
            request.request_id, digest, self._run(request, record, feed)
        )
        call.enter()
        try:
            yield first
            # A stream that joins a running call has only signs of life until that call ends.
            async with aclosing(feed.read(call.task, PROGRESS_SECONDS)) as events:
                async for event in events:
                    yield event
            call.heard = True
            reply = call.task.result()
            if found is None:
                yield Event(completion=reply_pb2.GenerateResponse.FromString(reply))
                return
            for event in _replay(mark_replayed(reply)):
                yield event
        finally:
            call.leave()

    async def _run(self, request: GenerationRequest, record: CallRecord, feed: Feed) -> bytes:
        """Put the backend's events into the feed; return the completion."""
        numbering = PartNumbering()
        first: float | None = None
        try:
            async with aclosing(self._backend.stream_response(request)) as events:
                async for event in events:
                    if isinstance(event, Progress):
                        feed.progress = to_message(event, generate_pb2.Progress)
                        await feed.put(Event(progress=feed.progress))
                        continue
                    if first is None:
                        first = time.perf_counter()
                        feed.progress = _GENERATING
                    if isinstance(event, Completion):
                        check_fields(event)
                        numbering.check(event)
                        return self._replies.build(request, event, record, first)
                    for delta in numbering.number(check_type(event, Delta, "stream_response")):
                        await feed.put(Event(delta=build_message(delta, generate_pb2.PartDelta)))
        except BackendError as error:
            if first is not None:
                partial = self._interrupt(request, numbering, error)
                interruption = build_message(partial, reply_pb2.GenerateResponse)
                await feed.put(Event(interruption=interruption))
            raise
        raise ContractError("the stream ended without a completion")

    def _interrupt(
        self, request: GenerationRequest, numbering: PartNumbering, error: BackendError
    ) -> Completion:
        """Return what a stream had generated and paid when it failed."""
        report = error.report or CallReport()
        return Completion(
            numbering.message(),
            FinishReason.INTERRUPTED,
            report.usage,
            self._replies.served_by(request.model),
            request_id=request.request_id,
            attempts=report.attempts,
        )


def _replay(reply: bytes) -> Iterator[Event]:
    """Yield a serialized reply as the deltas of its parts and its completion."""
    completion = reply_pb2.GenerateResponse.FromString(reply)
    numbering = PartNumbering()
    for piece in split_message(from_message(completion.message, Message)):
        for delta in numbering.number(piece):
            yield Event(delta=to_message(delta, generate_pb2.PartDelta))
    yield Event(completion=completion)


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


#: The kinds of parts that are texts, in the order in which a delta with several is sent.
_TEXTS: Mapping[str, Callable[[str], Part]] = {
    "reasoning": Reasoning,
    "text": Text,
    "refusal": Refusal,
}


class PartNumbering:
    """Numbers the parts of a stream's deltas, and compares them with the completion."""

    def __init__(self) -> None:
        self._kind = ""
        self._parts: list[tuple[str, list[str]]] = []

    def number(self, delta: Delta) -> Iterator[Delta]:
        """Yield the delta's pieces, one kind each, with the index of their part."""
        for kind in _TEXTS:
            if text := getattr(delta, kind):
                text = repair_text(text)
                piece: dict[str, Any] = {kind: text}
                yield Delta(part=self._add(kind, text), tokens=delta.tokens, **piece)
        if (call := delta.tool_call) is not None:
            if call.id:
                self._kind = ""  # each id begins a part
            part = self._add("tool_call", repair_text(call.arguments))
            yield Delta(tool_call=call, part=part, tokens=delta.tokens)

    def _add(self, kind: str, text: str) -> int:
        if kind != self._kind:
            self._kind = kind
            self._parts.append((kind, []))
        self._parts[-1][1].append(text)
        return len(self._parts) - 1

    def check(self, completion: Completion) -> None:
        """Raise ContractError if the deltas do not add up to the completion's parts."""
        streamed = [(kind, "".join(texts)) for kind, texts in self._parts]
        whole = [
            (kind, repair_text(text))
            for part in completion.message.parts
            for kind, text in _describe(part)
        ]
        if streamed != whole:
            raise ContractError("the deltas do not add up to the parts of the completion's message")

    def message(self) -> Message:
        """Return what has arrived so far, without tool calls, which may be incomplete."""
        parts = (_TEXTS[kind]("".join(texts)) for kind, texts in self._parts if kind in _TEXTS)
        return Message("assistant", tuple(parts))


def _describe(part: Part) -> Iterator[tuple[str, str]]:
    """Yield kind and text of a part, unless it has no text that is streamed."""
    match part:
        case ToolCall():
            yield part.kind, part.arguments
        case Text(text) | Reasoning(text) | Refusal(text) if text:
            yield part.kind, text
