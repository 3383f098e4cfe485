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
from services.common.hosted.completion import Extras
from services.common.hosted.errors import convert_failure, paid
from services.common.hosted.events import BOM, EventDecoder, begins_event, holds_events, is_json
from services.common.hosted.failures import (
    Failure,
    find_reported,
    is_whole,
    read_failure,
    read_words,
)
from services.common.hosted.http import MAX_ERROR_BYTES
from services.common.hosted.journal import Entry
from services.common.hosted.keys import Redactor
from services.common.hosted.response import ChunkReader, ProviderMessage
from services.common.hosted.values import (
    count,
    is_complete_json,
    label,
    list_objects,
    load_json,
    load_values,
    number,
)
from services.litellm.errors import TYPES
from services.litellm.formats import (
    clean_anthropic,
    clean_gemini,
    clean_openai,
    split_anthropic_message,
)

#: Types of Anthropic's messages and events:
#: https://docs.anthropic.com/en/docs/build-with-claude/streaming
_ANTHROPIC = (
    *("message", "message_start", "message_delta", "message_stop"),
    *("content_block_start", "content_block_delta", "content_block_stop"),
)

_PROMPT_COUNTS = frozenset(("prompt_tokens", "input_tokens", "promptTokenCount"))
_COMPLETION_COUNTS = frozenset(
    ("completion_tokens", "output_tokens", "candidatesTokenCount", "thoughtsTokenCount")
)

_GEMINI = ("candidates", "usageMetadata", "promptFeedback")

_ASKS_FOR_STREAM = re.compile(rb'"stream"\s*:\s*true')

#: Content types of streams that are rewritten. Others have their own framing.
_TEXT_TYPES = ("text/event-stream", "application/json", "text/plain", "text/html", "")


class RawAnswer:
    """What a provider has sent, before litellm reads it.

    entry: notes what is sent. status: the HTTP status, 0 before the answer has arrived.
    retry_after: the seconds that it asks for. reported: the error that came with an error status.
    failure: why the answer cannot be used, which takes precedence over what litellm says. broken:
    the connection failed.

    has_known_format: its format is one of the three. answered: it holds at least the beginning of a
    completion. id: the provider's, because litellm replaces it. fingerprint: of its system.
    extras: what a completion has no part for. finish_word: the provider's finish reason. stop: the
    stop string that ended the answer, of any type. words: text that is no part of an answer, as a
    page or an event that is not JSON; it may explain why there is none. region: where it was made,
    from a header. unreadable: the names of counts that are negative, absurd or no numbers.
    candidate: the index of the Gemini candidate that is read; None before the first.
    """

    def __init__(self, provider: str, redact: Redactor, entry: Entry | None = None) -> None:
        self.entry = entry
        self._provider = provider
        self._redact = redact
        self.status = 0
        self.retry_after: float | None = None
        self.reported: Failure | None = None
        self.failure: BackendError | None = None
        self.broken = False
        self.has_known_format = False
        self.answered = False
        self.id = ""
        self.fingerprint = ""
        self.extras = Extras()
        self._refusal = ""
        self.finish_word = ""
        self.stop: Any = None
        self.words = ""
        self.region = ""
        self.candidate: int | None = None
        self.chunks = ChunkReader()
        self._anthropic = False
        self._counts: set[str] = set()
        self.unreadable: list[str] = []

    @property
    def succeeded(self) -> bool:
        """Whether the provider answered with a success status."""
        return 200 <= self.status < 300

    @property
    def counted(self) -> bool:
        """Whether the provider reported any token count. litellm guesses if it did not."""
        return not self.has_known_format or bool(self._counts)

    @property
    def priced(self) -> bool:
        """Whether it reported the counts of prompt and completion, and all were readable."""
        both = self.knows_prompt and len(self._counts) > 1
        return not self.has_known_format or (both and not self.unreadable)

    @property
    def knows_prompt(self) -> bool:
        """Whether it reported a readable count of the prompt. litellm writes 0 if it did not."""
        return self._knows(_PROMPT_COUNTS)

    @property
    def knows_completion(self) -> bool:
        """The same for the completion."""
        return self._knows(_COMPLETION_COUNTS)

    def _knows(self, names: frozenset[str]) -> bool:
        unreadable = names.intersection(self.unreadable)
        return not self.has_known_format or (bool(names & self._counts) and not unreadable)

    def knows_part(self, word: str) -> bool:
        """Whether no unreadable count has this word in its name, such as "cache"."""
        return not any(word in name.lower() for name in self.unreadable)

    def rewrite(self, value: Any, streamed: bool) -> list[Any] | None:
        """Return the values that litellm reads in place of a JSON value; None: the value itself.

        streamed: litellm expects the events of a stream. One value may become several.
        Raises UnreadableAnswer, and the error that the value reports.
        """
        if isinstance(value, list) and streamed and len(value) > 1:  # Gemini's streams in JSON
            parts = [self.rewrite(item, streamed) or [item] for item in value]
            return [event for events in parts for event in events]
        if isinstance(value, list) and len(value) == 1:
            (value,) = value
        if not streamed and (value in (None, []) or isinstance(value, str | int | float)):
            raise UpstreamUnavailable(f"{self._provider} sent JSON that is not an answer")
        if not isinstance(value, dict):
            return None
        if (failure := read_failure(find_reported(value))) is not None:
            error = self.to_error(failure)
            raise paid(error) if is_whole(value) else error
        if "error" in value:  # it says nothing, but litellm would fail
            value = {name: inner for name, inner in value.items() if name != "error"}
        if "choices" in value or label(value.get("object")).startswith("chat.completion"):
            self.has_known_format = True
            return [clean_openai(value, self, streamed)]
        if not value.keys().isdisjoint(_GEMINI):
            self.has_known_format = True
            return [clean_gemini(value, self, streamed)]
        if value.get("type") in _ANTHROPIC or {"content", "stop_reason"} <= value.keys():
            self.has_known_format = self._anthropic = True
            clean = clean_anthropic(value, self)
            whole = streamed and clean["type"] == "message"
            return list(split_anthropic_message(clean)) if whole else [clean]
        if self._anthropic and not isinstance(value.get("type"), str):
            raise UnreadableAnswer("the provider's stream has an event without a type")
        return None

    def no_answer(self, kind: str) -> BackendError:
        """The error for a body that holds no answer but words. kind: its Content-Type."""
        kind = self._redact(kind, 100) or "text"
        return UpstreamUnavailable(f"{self._provider} sent {kind}, not an answer: {self.words}")

    def to_error(self, failure: Failure) -> BackendError:
        """Make the error for a failure that an answer reports with HTTP 200."""
        return convert_failure(
            failure, 200, self._provider, self._redact, retry_after=self.retry_after, types=TYPES
        )

    def keep_words(self, body: bytes) -> str:
        """Keep the words of something that is no part of an answer, and return them."""
        self.words = self._redact(read_words(body[:MAX_ERROR_BYTES])) or self.words
        return self.words

    def keep_finish(self, word: Any) -> str | None:
        """Keep the provider's finish reason and return it; None if there is none."""
        text = label(word) or ("unknown" if word else "")
        self.finish_word = text or self.finish_word
        return text or None

    def keep_extras(self, message: ProviderMessage) -> None:
        """Keep the parts of a message that litellm would lose."""
        self.answered = True
        self.extras.add(message)
        self._refusal += message.refusal

    def take_refusal(self) -> str:
        """Return what the model has refused with since the last call. litellm loses it."""
        refusal, self._refusal = self._refusal, ""
        return refusal

    def clean_usage(self, usage: Any) -> dict[str, Any]:
        """Usage with integer counts, which are 0 if they cannot be read."""
        if not isinstance(usage, dict):
            self.unreadable += ["usage"] if usage is not None else []
            return {}
        return dict(self._clean_figures(usage, 0))

    def _clean_figures(self, usage: dict[str, Any], depth: int) -> Iterator[tuple[str, Any]]:
        for name, value in usage.items():
            if name.endswith(("tokens", "TokenCount", "tokenCount")):
                if isinstance(value, dict):
                    continue
                figure = count(value)
                self.unreadable += [name] if figure is None and value is not None else []
                if not depth and figure is not None:
                    self._counts.add(name)
                yield name, figure or 0
            elif isinstance(value, dict) and depth < 2:
                yield name, dict(self._clean_figures(value, depth + 1))
            elif isinstance(value, list) and depth < 2:
                objects = (item for item in value if isinstance(item, dict))
                yield name, [dict(self._clean_figures(item, depth + 1)) for item in objects]
            elif name.lower().endswith("details"):
                continue
            elif isinstance(value, str) or number(value) is not None:
                yield name, value


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
        if (events := self._answer.rewrite(value, self._streamed)) is None:
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
            found = [self._answer.rewrite(one, True) or [one] for one in list_objects([value])]
            events: list[Any] | None = [event for part in found for event in part]
        else:
            events = self._answer.rewrite(value, True)
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
