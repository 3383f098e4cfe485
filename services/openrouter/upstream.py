"""HTTP to OpenRouter: one session. Every failure is raised as a BackendError.

aiohttp is used because it is the fastest. CPU per call at ten calls in flight, with a local
upstream that answers immediately (`python -m bench openrouter`): 0.10 ms here, 0.9 with bare
httpx, and for openai's request path 0.95 over aiohttp and 1.7 over httpx.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Generic, TypeVar

import aiohttp
from aiohttp.http_exceptions import ContentEncodingError
from async_lru import alru_cache
from pydantic_core import to_json
from yarl import URL

from arena_llm.types import CallReport
from services.common.errors import BackendError, UnreadableAnswer, UpstreamUnavailable
from services.common.hops import list_hop_headers
from services.common.hosted.config import Timeouts
from services.common.hosted.errors import paid, redirected, silent, too_slow
from services.common.hosted.events import EventDecoder, holds_events, is_json
from services.common.hosted.failures import is_whole, read_error_body, read_words
from services.common.hosted.http import (
    MAX_ERROR_BYTES,
    check_size,
    drop_idle,
    find_proxy,
    make_http_session,
)
from services.common.hosted.journal import REQUEST_ID, Entry
from services.common.hosted.keys import Keys, Redactor
from services.common.hosted.response import ChunkReader, ProviderAnswer, find_failure, parse_answer
from services.common.hosted.usage import parse_usage
from services.common.hosted.values import is_complete_json, list_objects, load_json, load_values
from services.common.hosted.waits import read_wait
from services.openrouter.config import DIALECTS, OpenRouterConfig
from services.openrouter.errors import to_error, unreadable

T = TypeVar("T")

KEY_VARIABLE = "OPENROUTER_API_KEY"
_JSON = {"Content-Type": "application/json"}


class OpenRouterUpstream:
    """OpenRouter's API with one key. Make and close it on the same event loop."""

    def __init__(self, config: OpenRouterConfig, keys: Keys, redact: Redactor) -> None:
        self._config = config
        self._dialect = DIALECTS[config.dialect]
        self._keys = keys
        self._redact = redact
        headers = {"X-Title": config.title} if config.title else {}
        if config.referer:
            headers["HTTP-Referer"] = config.referer
        self._url = URL(config.base_url)
        self._chat = self._url / "chat/completions"
        self._headers = self._build_headers()  # None: there is no usable key
        self._session = make_http_session(
            headers, find_proxy(self._url.scheme, self._url.host or "")
        )

    def key_problem(self) -> BackendError | None:
        """Why no request can be sent: the key is missing, or no header can carry it."""
        return self._keys.explain(KEY_VARIABLE) if self._headers is None else None

    async def aclose(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def get(self, path: str, seconds: float = 30, query: str = "") -> dict[str, Any]:
        """GET a JSON object. path: relative to the base URL."""
        url = (self._url / path).with_query(query)
        async with self._request("GET", url, Timeouts(seconds, seconds)) as response:
            value = _parse_json(await self._read_json(response))
        if not isinstance(value, dict):
            raise unreadable("it is not an object")
        return value

    async def complete(
        self, body: Mapping[str, Any], timeouts: Timeouts, entry: Entry | None = None
    ) -> ProviderAnswer:
        """POST a chat completion. Return the whole answer, which holds no error.

        entry: notes that it is sent, and gives it an id.
        """
        async with self._request("POST", self._chat, timeouts, to_json(body), entry) as response:
            values = list_objects(_parse_values(await self._read_json(response)))
        if len(values) > 1:
            raise UnreadableAnswer("openrouter sent several answers in place of one")
        return self._checked(_parse(parse_answer, values[0] if values else None))

    async def stream(
        self, body: Mapping[str, Any], timeouts: Timeouts, entry: Entry | None = None
    ) -> AsyncGenerator[ProviderAnswer, None]:
        """POST a chat completion. Yield all chunks of the stream, which hold no error.

        Closing the generator ends the request and closes its connection.
        """
        reader = ChunkReader()
        async with self._request("POST", self._chat, timeouts, to_json(body), entry) as response:
            pieces = response.content.iter_any()
            piece = b""
            while not piece.strip() and (next_piece := await anext(pieces, b"")):
                piece += next_piece
            if is_json(piece):
                # Not a stream of events but one answer, an error, or chunks in a row.
                values = list_objects(_parse_values(await self._read_json(response, piece)))
                for value in values or [None]:
                    yield self._checked(_parse(reader.parse, value))
                return
            decoder = EventDecoder(self._config.max_answer_bytes)
            begun = piece
            size = events = 0
            while piece:
                for data in decoder.feed(piece):
                    if data == b"[DONE]":
                        return
                    for value in self._parse_event(data):
                        yield self._checked(_parse(reader.parse, value))
                        events += 1
                size += len(piece)
                check_size(size, self._config.max_stream_bytes, "max_stream_bytes")
                piece = await anext(pieces, b"")
            last = next(decoder.end(), b"")
            if last == b"[DONE]":
                return
            if is_complete_json(last):
                for value in list_objects([_parse_json(last)]):
                    yield self._checked(_parse(reader.parse, value))
                    events += 1
            if not events:
                raise unreadable(f"{self._describe(response, begun)}, and holds no event")
        # Other servers need not send an end mark: finish_reason shows whether the text is whole.
        if self._dialect.marks_end:
            raise UpstreamUnavailable("openrouter's stream broke off before its end")

    def _checked(self, answer: ProviderAnswer) -> ProviderAnswer:
        """Return the answer, or raise the error that it holds."""
        if (failure := find_failure(answer)) is not None:
            error = to_error(failure, 200, self._redact)
            if answer.usage is not None:
                error.report = CallReport(usage=parse_usage(answer.usage))
            if answer.choice is not None and is_whole({"choices": [answer.choice.source]}):
                raise paid(error, error.report)
            raise error
        return answer

    @asynccontextmanager
    async def _request(
        self,
        method: str,
        url: URL,
        timeouts: Timeouts,
        body: bytes | None = None,
        entry: Entry | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request and yield its successful response. The block's end closes the response."""
        if (problem := self.key_problem()) is not None:
            raise problem
        try:
            headers = {**(self._headers or {}), **list_hop_headers()}
            if entry is not None:
                headers[REQUEST_ID] = entry.header
                entry.send()
            async with self._session.request(
                method,
                url,
                data=body,
                headers=headers,
                timeout=aiohttp.ClientTimeout(
                    total=timeouts.total,
                    sock_connect=self._config.connect_timeout_seconds,
                    sock_read=timeouts.silence,
                ),
                allow_redirects=False,  # the key is only for the configured host
            ) as response:
                if entry is not None:
                    entry.name(response.headers.get("X-Generation-Id"))
                location = response.headers.get("Location")
                if location and 300 <= response.status < 400:
                    raise redirected("openrouter", response.status, location, "base_url")
                if not 200 <= response.status < 300:
                    failure = read_error_body(
                        await _read_beginning(response), response.status, response.reason or ""
                    )
                    wait = read_wait(response.headers)
                    raise to_error(failure, response.status, self._redact, wait)
                yield response
        except (aiohttp.ConnectionTimeoutError, aiohttp.ClientConnectorError) as error:
            if entry is not None:
                entry.unsend()
            reason = self._redact(f"{type(error).__name__}: {error}", 200)
            raise UpstreamUnavailable(f"the connection to openrouter failed: {reason}") from error
        except aiohttp.SocketTimeoutError as error:
            raise silent("openrouter", timeouts) from error
        except TimeoutError as error:
            raise too_slow("openrouter", timeouts) from error
        except aiohttp.ClientResponseError as error:  # a generation may have been paid for
            reason = self._redact(f"{type(error).__name__}: {error.message}", 200)
            raise UnreadableAnswer(f"openrouter's answer is not readable HTTP: {reason}") from error
        except (aiohttp.ClientError, OSError) as error:
            if isinstance(error.__cause__, ContentEncodingError):  # may have been paid for
                reason = self._redact(str(error.__cause__.message), 200)
                raise UnreadableAnswer(f"openrouter's answer is not readable: {reason}") from error
            drop_idle(self._session)
            reason = self._redact(f"{type(error).__name__}: {error}", 200)
            raise UpstreamUnavailable(f"the connection to openrouter failed: {reason}") from error

    async def _read_json(self, response: aiohttp.ClientResponse, begun: bytes = b"") -> bytes:
        """Read the whole body. begun: the part that has already been read."""
        pieces = [begun]
        size = len(begun)
        async for piece in response.content.iter_any():
            size += len(piece)
            check_size(size, self._config.max_answer_bytes, "max_answer_bytes")
            pieces.append(piece)
        body = b"".join(pieces)
        if holds_events(body):
            raise UnreadableAnswer("openrouter sent a stream although none was requested")
        if not is_json(body):
            raise unreadable(f"{self._describe(response, body)}, not JSON")
        return body

    def _describe(self, response: aiohttp.ClientResponse, body: bytes) -> str:
        """What an answer is that cannot be read, with its words."""
        words = self._redact(read_words(body[:MAX_ERROR_BYTES]))
        kind = self._redact(response.content_type, 100)
        return f"it is {kind} ({words})" if words else f"it is {kind}"

    def _parse_event(self, data: bytes) -> list[Any]:
        """The chunks in an event: usually one, and none in an event that says nothing."""
        try:
            return list_objects([load_json(data)])
        except ValueError as error:
            if data.startswith(b"{"):  # part of a completion, which has been paid for
                raise UnreadableAnswer("openrouter sent an event that is not JSON") from error
            words = self._redact(read_words(data))
            raise unreadable(f"an event is not JSON but {words or 'binary'}") from error

    def _build_headers(self) -> Mapping[str, str] | None:
        if self._url.user is not None:  # aiohttp sends user and password, and refuses a key then
            return _JSON
        if key := os.environ.get(KEY_VARIABLE):
            return {**_JSON, "Authorization": f"Bearer {key}"}
        if self._dialect.needs_key or KEY_VARIABLE in self._keys.unusable:
            return None
        return _JSON


class Cached(Generic[T]):
    """A value that is kept for some seconds. Concurrent callers share one request."""

    def __init__(self, fetch: Callable[[], Awaitable[T]], seconds: float) -> None:
        async def fetch_value() -> T:
            return await fetch()

        self._fetch = alru_cache(maxsize=1, ttl=seconds)(fetch_value)

    async def get(self) -> T:
        """Return the value. Raises what `fetch` raises; errors are not kept."""
        # Shielded, so that a caller who gives up does not cancel the request for the others.
        return await asyncio.shield(self._fetch())

    async def aclose(self) -> None:
        """Stop the timers of the cache."""
        await self._fetch.cache_close()


def _parse_json(data: bytes) -> Any:
    try:
        return load_json(data)
    except ValueError as error:
        raise unreadable(str(error)[:100]) from error


def _parse_values(data: bytes) -> list[Any]:
    try:
        return load_values(data)
    except ValueError as error:
        raise unreadable(str(error)[:100]) from error


def _parse(parser: Callable[[Any], ProviderAnswer], value: Any) -> ProviderAnswer:
    try:
        return parser(value)
    except ValueError as error:
        raise unreadable(str(error)[:100]) from error


async def _read_beginning(response: aiohttp.ClientResponse) -> bytes:
    """Read the body of an error, up to a limit."""
    body = b""
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > MAX_ERROR_BYTES:
            break
    return body
