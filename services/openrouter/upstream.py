"""HTTP to OpenRouter: one session, every failure a BackendError.

aiohttp because of its cost. CPU per call at ten in flight, with a local upstream that
answers at once (`python -m bench.openrouter`): 0.10 ms here; bare httpx 0.9; openai's
request path 0.95 over aiohttp and 1.7 over httpx, which is all that the service would do.
"""

from __future__ import annotations

import ipaddress
import urllib.request
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import aiohttp
from pydantic import BaseModel, ValidationError
from pydantic_core import to_json
from yarl import URL

from services.common.errors import ApiKeyMissing, ApiKeyRejected, UpstreamUnavailable
from services.common.hosted.bounds import MAX_ERROR_BYTES, check_size
from services.common.hosted.http import http_session
from services.common.hosted.redaction import Redactor
from services.openrouter.config import OpenRouterConfig
from services.openrouter.response import error_from, error_in
from services.openrouter.schema import WireCompletion, WireError, WireFailure
from services.openrouter.sse import Decoder

B = TypeVar("B", bound=BaseModel)

KEY_VARIABLE = "OPENROUTER_API_KEY"
_ANSWERED = {"upstream_status": "200"}
_JSON = {"Content-Type": "application/json"}


class Upstream:
    """OpenRouter's API with one key. Made and closed on one event loop."""

    def __init__(self, config: OpenRouterConfig, key: str, redact: Redactor) -> None:
        self._config = config
        self._key = key
        self._redact = redact
        headers = {"X-Title": config.title} if config.title else {}
        if config.referer:
            headers["HTTP-Referer"] = config.referer
        self._url = URL(config.base_url)
        self._chat = self._url / "chat/completions"
        self._session = http_session(headers, _proxy(self._url))

    async def aclose(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def get(self, path: str, kind: type[B], seconds: float = 30, query: str = "") -> B:
        """GET a path below the base URL; the query as it is."""
        url = (self._url / path).with_query(query)
        async with self._answer("GET", url, seconds) as answer:
            return self._parsed(kind, await self._read_json(answer))

    async def complete(self, body: Mapping[str, Any], seconds: float) -> WireCompletion:
        """POST a chat completion and take the whole of it, which holds no error."""
        async with self._answer("POST", self._chat, seconds, to_json(body)) as answer:
            completion = self._parsed(WireCompletion, await self._read_json(answer))
        return self._checked(completion)

    async def stream(
        self, body: Mapping[str, Any], seconds: float
    ) -> AsyncGenerator[WireCompletion, None]:
        """POST a chat completion and yield its chunks, which hold no error, to the end.

        Close the generator to end the request: the connection is closed with it.
        """
        async with self._answer("POST", self._chat, seconds, to_json(body)) as answer:
            if answer.content_type != "text/event-stream":
                # An error that came before the stream began, with HTTP 200.
                self._checked(self._parsed(WireCompletion, await self._read_json(answer)))
                raise UpstreamUnavailable("openrouter answered a stream's request with none")
            decoder = Decoder(self._config.max_answer_bytes)
            size = 0
            async for piece in answer.content.iter_any():
                for data in decoder.feed(piece):
                    if data == b"[DONE]":
                        return
                    yield self._checked(self._parsed(WireCompletion, data))
                size += len(piece)
                check_size(size, self._config.max_stream_bytes, "max_stream_bytes")
        # Of OpenRouter the usage is still to come; others end where they like, and whether
        # the text is whole their finish_reason says.
        if self._config.dialect == "openrouter":
            raise UpstreamUnavailable("openrouter's stream broke off before its end")

    def _checked(self, answer: WireCompletion) -> WireCompletion:
        """The answer; raises the error that it holds."""
        if (error := error_in(answer)) is not None:
            raise error_from(error, 200, self._redact)
        return answer

    def _parsed(self, kind: type[B], data: bytes) -> B:
        try:
            return kind.model_validate_json(data)
        except ValidationError as error:
            where = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(map(str, where["loc"])) or "it"
            raise UpstreamUnavailable(
                f"openrouter's answer cannot be read: {place}: {where['msg'][:100]}",
                metadata=_ANSWERED,
            ) from error

    @asynccontextmanager
    async def _answer(
        self, method: str, url: URL, seconds: float, body: bytes | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The response to a request, its status a success; closed when the block ends."""
        try:
            async with self._session.request(
                method,
                url,
                data=body,
                headers=self._headers(),
                timeout=aiohttp.ClientTimeout(
                    total=seconds, sock_connect=self._config.connect_timeout_seconds
                ),
                allow_redirects=False,  # the key goes to the configured host alone
            ) as answer:
                if not 200 <= answer.status < 300:
                    raise error_from(
                        self._reported(await _beginning(answer), answer),
                        answer.status,
                        self._redact,
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

    async def _read_json(self, answer: aiohttp.ClientResponse) -> bytes:
        if not answer.content_type.endswith("json"):
            raise UpstreamUnavailable(
                f"openrouter answered with {answer.content_type}, not JSON", metadata=_ANSWERED
            )
        pieces = []
        size = 0
        async for piece in answer.content.iter_any():
            size += len(piece)
            check_size(size, self._config.max_answer_bytes, "max_answer_bytes")
            pieces.append(piece)
        return b"".join(pieces)

    def _reported(self, body: bytes, answer: aiohttp.ClientResponse) -> WireError:
        """What the body of a failure says; a proxy's page in HTML says its status alone."""
        try:
            told = WireFailure.model_validate_json(body).told()
        except ValidationError:
            told = None
        return told or WireError(message=f"HTTP {answer.status} {answer.reason or ''}".strip())

    def _headers(self) -> dict[str, str]:
        """With the key, where there must be one."""
        if not self._key and self._config.dialect == "openai":
            return _JSON
        if not self._key:
            raise ApiKeyMissing(
                f"{KEY_VARIABLE} is not set: put it into .env or the environment, then "
                "make down and make up",
                metadata={"variable": KEY_VARIABLE},
            )
        if not (self._key.isascii() and self._key.isprintable()) or " " in self._key:
            raise ApiKeyRejected(
                f"{KEY_VARIABLE} holds characters that no key has",
                metadata={"variable": KEY_VARIABLE},
            )
        return {**_JSON, "Authorization": f"Bearer {self._key}"}


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
    if _is_loopback(host) or urllib.request.proxy_bypass(host):
        return None
    return urllib.request.getproxies().get(url.scheme)


def _is_loopback(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host.lower().rstrip(".") == "localhost"
    return address.is_loopback or address.is_unspecified
