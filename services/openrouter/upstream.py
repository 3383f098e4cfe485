"""HTTP to OpenRouter: one session, every failure a BackendError.

aiohttp because of its cost. CPU per call at ten in flight, with a local upstream that
answers at once (`python -m bench.openrouter`): 0.10 ms here; bare httpx 0.9; openai's
request path 0.95 over aiohttp and 1.7 over httpx, which is all that the service would do.
"""

from __future__ import annotations

import os
import urllib.request
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from pydantic_core import to_json
from yarl import URL

from services.common.errors import BackendError, UnreadableAnswer, UpstreamUnavailable
from services.common.hosted.answers import Answer, ChunkReader, read_answer
from services.common.hosted.bounds import MAX_ERROR_BYTES, check_size
from services.common.hosted.failures import Failure, error_from, failure_in, read_error_body
from services.common.hosted.http import http_session, is_loopback
from services.common.hosted.keys import Keys
from services.common.hosted.redaction import Redactor
from services.common.hosted.sse import Decoder, holds_events, is_json
from services.common.hosted.values import is_whole, load_json, load_values
from services.openrouter.config import OpenRouterConfig
from services.openrouter.response import ERROR_TYPES

KEY_VARIABLE = "OPENROUTER_API_KEY"
_ANSWERED = {"upstream_status": "200"}
_JSON = {"Content-Type": "application/json"}


class Upstream:
    """OpenRouter's API with one key. Made and closed on one event loop."""

    def __init__(self, config: OpenRouterConfig, keys: Keys, redact: Redactor) -> None:
        self._config = config
        self._keys = keys
        self._redact = redact
        headers = {"X-Title": config.title} if config.title else {}
        if config.referer:
            headers["HTTP-Referer"] = config.referer
        self._url = URL(config.base_url)
        self._chat = self._url / "chat/completions"
        self._headers = self._with_key()  # None: there is no key that can be sent
        self._session = http_session(headers, _proxy(self._url))

    def key_problem(self) -> BackendError | None:
        """Why no request can be sent: the key is missing, or no header can carry it."""
        return self._keys.problem(KEY_VARIABLE) if self._headers is None else None

    async def aclose(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def get(self, path: str, seconds: float = 30, query: str = "") -> dict[str, Any]:
        """GET the JSON object at a path below the base URL."""
        url = (self._url / path).with_query(query)
        async with self._answer("GET", url, seconds) as answer:
            value = _parsed(await self._read_json(answer))
        if not isinstance(value, dict):
            raise unreadable("it is not an object")
        return value

    async def complete(self, body: Mapping[str, Any], seconds: float) -> Answer:
        """POST a chat completion and take the whole of it, which holds no error."""
        async with self._answer("POST", self._chat, seconds, to_json(body)) as answer:
            values = _values(await self._read_json(answer))
        if len(values) > 1:
            raise UnreadableAnswer("openrouter sent several answers in place of one")
        return self._checked(_read(read_answer, values[0]))

    async def stream(self, body: Mapping[str, Any], seconds: float) -> AsyncGenerator[Answer, None]:
        """POST a chat completion and yield its chunks, which hold no error, to the end.

        Close the generator to end the request: the connection is closed with it.
        """
        reader = ChunkReader()
        async with self._answer("POST", self._chat, seconds, to_json(body)) as answer:
            pieces = answer.content.iter_any()
            begun = b""
            while not begun.strip() and (piece := await anext(pieces, b"")):
                begun += piece
            if is_json(begun):
                # An error that came before the stream began, or a server that does not
                # stream: its whole answer is the one chunk, or its chunks follow each other.
                for value in _values(await self._read_json(answer, begun)):
                    yield self._checked(_read(reader.read, value))
                return
            decoder = Decoder(self._config.max_answer_bytes)
            size = events = 0
            while begun:
                for data in decoder.feed(begun):
                    if data == b"[DONE]":
                        return
                    yield self._checked(_read(reader.read, _parsed_event(data)))
                    events += 1
                size += len(begun)
                check_size(size, self._config.max_stream_bytes, "max_stream_bytes")
                begun = await anext(pieces, b"")
            last = next(decoder.end(), b"")
            if last == b"[DONE]":
                return
            if is_whole(last):
                yield self._checked(_read(reader.read, _parsed(last)))
                events += 1
            if not events:
                kind = self._redact(answer.content_type, 100)
                raise unreadable(f"it is {kind}, and holds no event")
        # OpenRouter still owes the usage. Others end where they like, and their finish_reason
        # says whether the text is whole.
        if self._config.dialect == "openrouter":
            raise UpstreamUnavailable("openrouter's stream broke off before its end")

    def _checked(self, answer: Answer) -> Answer:
        """The answer; raises the error that it holds."""
        if (failure := failure_in(answer)) is not None:
            raise self._error(failure, 200)
        return answer

    def _error(self, failure: Failure, status: int, retry_after: str | None = None) -> BackendError:
        return error_from(
            failure,
            status,
            "openrouter",
            self._redact,
            retry_after=retry_after,
            types=ERROR_TYPES,
        )

    @asynccontextmanager
    async def _answer(
        self, method: str, url: URL, seconds: float, body: bytes | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The response to a request, its status a success; closed when the block ends."""
        if (problem := self.key_problem()) is not None:
            raise problem
        try:
            async with self._session.request(
                method,
                url,
                data=body,
                headers=self._headers,
                timeout=aiohttp.ClientTimeout(
                    total=seconds, sock_connect=self._config.connect_timeout_seconds
                ),
                allow_redirects=False,  # the key goes to the configured host alone
            ) as answer:
                if not 200 <= answer.status < 300:
                    raise self._error(
                        read_error_body(
                            await _beginning(answer), answer.status, answer.reason or ""
                        ),
                        answer.status,
                        answer.headers.get("Retry-After"),
                    )
                yield answer
        except TimeoutError as error:
            raise UpstreamUnavailable(
                f"openrouter did not answer in time ({seconds:g} s for one attempt)"
            ) from error
        except (aiohttp.ClientError, OSError) as error:
            said = self._redact(f"{type(error).__name__}: {error}", 200)
            raise UpstreamUnavailable(f"the connection to openrouter failed: {said}") from error

    async def _read_json(self, answer: aiohttp.ClientResponse, begun: bytes = b"") -> bytes:
        """The whole body. begun: what has been read of it."""
        pieces = [begun]
        size = len(begun)
        async for piece in answer.content.iter_any():
            size += len(piece)
            check_size(size, self._config.max_answer_bytes, "max_answer_bytes")
            pieces.append(piece)
        body = b"".join(pieces)
        if holds_events(body):
            raise UnreadableAnswer("openrouter sent a stream, although none was asked for")
        if not is_json(body):
            raise unreadable(f"it is {self._redact(answer.content_type, 100)}, not JSON")
        return body

    def _with_key(self) -> Mapping[str, str] | None:
        if self._url.user is not None:  # aiohttp sends these, and refuses to send both
            return _JSON
        if key := os.environ.get(KEY_VARIABLE):
            return {**_JSON, "Authorization": f"Bearer {key}"}
        optional = self._config.dialect == "openai" and KEY_VARIABLE not in self._keys.unusable
        return _JSON if optional else None


def _parsed(data: bytes) -> Any:
    try:
        return load_json(data)
    except ValueError as error:
        raise unreadable(str(error)[:100]) from error


def _parsed_event(data: bytes) -> Any:
    try:
        return load_json(data)
    except ValueError as error:
        if data.startswith(b"{"):  # a part of a completion, which has been paid for
            raise UnreadableAnswer("openrouter sent an event that is no JSON") from error
        raise unreadable(str(error)[:100]) from error


def _values(data: bytes) -> list[Any]:
    try:
        return load_values(data)
    except ValueError as error:
        raise unreadable(str(error)[:100]) from error


def _read(reader: Callable[[Any], Answer], value: Any) -> Answer:
    try:
        return reader(value)
    except ValueError as error:
        raise unreadable(str(error)[:100]) from error


def unreadable(why: str) -> UpstreamUnavailable:
    """There is no completion in it, so that it may be asked for again."""
    return UpstreamUnavailable(f"openrouter's answer cannot be read: {why}", metadata=_ANSWERED)


async def _beginning(answer: aiohttp.ClientResponse) -> bytes:
    """A failure's body, as far as it is read; what does not end is no JSON."""
    body = b""
    async for piece in answer.content.iter_any():
        body += piece
        if len(body) > MAX_ERROR_BYTES:
            break
    return body


def _proxy(url: URL) -> str | None:
    """The environment's proxy for this URL, found once: aiohttp would look at each call.

    None for a server on this machine, which no proxy can reach by that name.
    """
    host = url.host or ""
    if is_loopback(host) or urllib.request.proxy_bypass(host):
        return None
    return urllib.request.getproxies().get(url.scheme)
