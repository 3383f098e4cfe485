"""Rewrites providers' answers before litellm reads them.

litellm relies on the documented type of every field. Any other type makes it lose the text or
fail. So answers in the three formats that nearly all providers use are reduced to the fields
that litellm needs, each with its documented type. RawAnswer keeps what litellm would lose.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx

from services.common.errors import BackendError, UnreadableAnswer, UpstreamUnavailable
from services.common.hosted.errors import paid
from services.common.hosted.events import BOM, EventDecoder, begins_event, holds_events, is_json
from services.common.hosted.failures import Failure, find_reported, is_whole, read_failure
from services.common.hosted.values import (
    is_complete_json,
    label,
    list_objects,
    load_json,
    load_values,
)
from services.litellm.formats import (
    clean_anthropic,
    clean_gemini,
    clean_openai,
    split_anthropic_message,
)
from services.litellm.raw_answer import RawAnswer

#: Types of Anthropic's messages and events:
#: https://docs.anthropic.com/en/docs/build-with-claude/streaming
_ANTHROPIC = (
    *("message", "message_start", "message_delta", "message_stop"),
    *("content_block_start", "content_block_delta", "content_block_stop"),
)

#: The keys of those events that hold a part of the answer. litellm skips unknown types.
_ANTHROPIC_CONTENT = ("message", "content_block", "delta")

_GEMINI = ("candidates", "usageMetadata", "promptFeedback")

_ASKS_FOR_STREAM = re.compile(rb'"stream"\s*:\s*true')

#: Content types of streams that are rewritten. Others have their own framing.
_TEXT_TYPES = ("text/event-stream", "application/json", "text/plain", "text/html", "")


def rewrite(value: Any, answer: RawAnswer, streamed: bool) -> list[Any] | None:
    """Return the values that litellm reads in place of a JSON value; None: the value itself.

    answer: keeps what litellm would lose. streamed: litellm expects the events of a stream. One
    value may become several.
    Raises UnreadableAnswer, and the error that the value reports.
    """
    if isinstance(value, list) and streamed and len(value) > 1:  # Gemini's streams in JSON
        parts = [rewrite(item, answer, streamed) or [item] for item in value]
        return [event for events in parts for event in events]
    if isinstance(value, list) and len(value) == 1:
        (value,) = value
    if not streamed and (value in (None, []) or isinstance(value, str | int | float)):
        raise UpstreamUnavailable(f"{answer.provider} sent JSON that is not an answer")
    if not isinstance(value, dict):
        return None
    if (failure := read_failure(find_reported(value))) is not None:
        error = answer.to_error(failure)
        raise paid(error) if is_whole(value) else error
    if "error" in value:  # it says nothing, but litellm would fail
        value = {name: inner for name, inner in value.items() if name != "error"}
    if "choices" in value or label(value.get("object")).startswith("chat.completion"):
        answer.has_known_format = True
        return [clean_openai(value, answer, streamed)]
    if not value.keys().isdisjoint(_GEMINI):
        answer.has_known_format = True
        return [clean_gemini(value, answer, streamed)]
    if value.get("type") in _ANTHROPIC or {"content", "stop_reason"} <= value.keys():
        answer.has_known_format = answer.is_anthropic = True
        clean = clean_anthropic(value, answer)
        whole = streamed and clean["type"] == "message"
        return list(split_anthropic_message(clean)) if whole else [clean]
    if answer.is_anthropic and not isinstance(value.get("type"), str):
        raise UnreadableAnswer("the provider's stream has an event without a type")
    if answer.is_anthropic and not value.keys().isdisjoint(_ANTHROPIC_CONTENT):
        raise UnreadableAnswer("the provider's stream has content in an event of an unknown type")
    return None


class RewrittenBody(httpx.AsyncByteStream):
    """The body of a successful response, rewritten for litellm.

    answer: keeps what the body holds, and why it cannot be used.
    streamed: whether the request is for a stream. limit: bytes of one event.
    """

    def __init__(
        self,
        stream: httpx.AsyncByteStream,
        answer: RawAnswer,
        streamed: bool,
        headers: httpx.Headers,
        limit: int,
    ) -> None:
        self._stream = stream
        self._answer = answer
        self._streamed = streamed
        self._limit = limit
        self._kind = headers.get("Content-Type", "").partition(";")[0].strip().lower()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for piece in self._pieces():
                yield piece
        except BackendError as error:
            self._answer.failure = error
            raise httpx.ReadError(error.message) from error

    async def _pieces(self) -> AsyncIterator[bytes]:
        chunks = self._read_chunks()
        if self._streamed and self._kind not in _TEXT_TYPES:
            async for chunk in chunks:
                yield chunk
            return
        begun = b""
        while self._streamed and not begun.strip() and (chunk := await anext(chunks, b"")):
            begun += chunk
        begun = begun.removeprefix(BOM)
        if not self._streamed or is_json(begun):
            body = begun + b"".join([chunk async for chunk in chunks])
            for piece in self._rewrite_whole(body):
                yield piece
            return
        if not begins_event(begun):
            if self._answer.keep_words(begun) and begun.startswith(b"<"):
                raise self._answer.no_answer(self._kind)
            yield begun
            async for chunk in chunks:
                yield chunk
            return
        decoder = EventDecoder(self._limit)
        for data in decoder.feed(begun):
            yield self._rewrite_event(data)
        async for chunk in chunks:
            for data in decoder.feed(chunk):
                yield self._rewrite_event(data)
        for data in decoder.end():
            if not data.startswith(b"{") or is_complete_json(data):  # otherwise it broke off
                yield self._rewrite_event(data)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def _read_chunks(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._stream:
                yield chunk
        except Exception:
            self._answer.broken = True
            raise

    def _rewrite_whole(self, body: bytes) -> Iterator[bytes]:
        """Rewrite a whole body, which may have come in place of a stream."""
        if not self._streamed and holds_events(body):
            raise UnreadableAnswer("the provider sent a stream although none was requested")
        try:
            values = load_values(body)
        except ValueError:
            if self._answer.keep_words(body):
                raise self._answer.no_answer(self._kind) from None
            yield body
            return
        if len(values) > 1 and not self._streamed:
            raise UnreadableAnswer("the provider sent several answers in place of one")
        value = values if len(values) > 1 else values[0]
        if (events := rewrite(value, self._answer, self._streamed)) is None:
            yield body
        elif not self._streamed:
            yield json.dumps(events[0]).encode()
        else:
            for event in events:
                yield b"data: " + json.dumps(event).encode() + b"\n\n"
            yield b"data: [DONE]\n\n"

    def _rewrite_event(self, data: bytes) -> bytes:
        """Rewrite an event of a stream. litellm reads its data only, in this framing only."""
        try:
            value = load_json(data)
        except ValueError:
            if data.startswith(b"{"):
                raise UnreadableAnswer("the provider sent an event that is not JSON") from None
            if not data.startswith(b"["):  # as the end mark does
                words = self._answer.keep_words(data)
                if self._answer.has_known_format:
                    error = self._answer.to_error(Failure(words))
                    error.metadata["upstream_status"] = "200"  # it may have been paid for
                    raise error from None
            return b"data: " + data + b"\n\n"
        if value is None or isinstance(value, list):
            found = [rewrite(one, self._answer, True) or [one] for one in list_objects([value])]
            events: list[Any] | None = [event for part in found for event in part]
        else:
            events = rewrite(value, self._answer, True)
        if events is None:
            return b"data: " + data.replace(b"\n", b" ") + b"\n\n"
        return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)


def asks_for_stream(request: httpx.Request) -> bool:
    """Whether a request asks for a stream. litellm requests whole answers of some providers and
    streams them itself."""
    try:
        body = request.content
    except httpx.RequestNotRead:
        return False
    return "stream" in request.url.path.lower() or _ASKS_FOR_STREAM.search(body) is not None
