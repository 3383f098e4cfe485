"""HTTP under litellm: over one session, bounded, and closed with the call. Imports litellm.

litellm makes a client for each provider, bounds nothing that they read, leaves some
responses to the garbage collector, follows redirects with the key, and has no setting
for any of it. What its clients share is the function that makes their transport:
`install` replaces it.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextvars import ContextVar

import aiohttp
import httpx
from litellm.llms.custom_httpx.aiohttp_transport import LiteLLMAiohttpTransport
from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler

from services.common.errors import BackendError, ModelMisconfigured, UpstreamUnavailable
from services.common.hosted.bounds import MAX_ERROR_BYTES, check_size


class Exchange:
    """The HTTP responses of one call to litellm, from `begin` to `aclose`.

    provider: by litellm's name. most: bytes of a whole answer, or of a line of a stream.
    most_streamed: bytes of a whole stream; None: the call asks for none. failure: why the
    exchange was given up, for which litellm would have its own words.
    """

    def __init__(self, provider: str, most: int, most_streamed: int | None = None) -> None:
        self.provider = provider
        self.most = most
        self.most_streamed = most_streamed
        self.failure: BackendError | None = None
        self._streams: list[httpx.AsyncByteStream] = []

    def begin(self) -> None:
        """What this task asks for from now on belongs to this call."""
        _current.set(self)

    def add(self, stream: httpx.AsyncByteStream) -> None:
        """Close this one with the call, too."""
        self._streams.append(stream)

    async def aclose(self) -> None:
        """Close what is still open."""
        for stream in self._streams:
            await stream.aclose()


#: Where litellm goes when it knows no address.
_OPENAI = "api.openai.com"
_OPENAIS = ("openai", "text-completion-openai")

_current: ContextVar[Exchange | None] = ContextVar("exchange", default=None)


class _Body(httpx.AsyncByteStream):
    """An answer's body, up to its bounds."""

    def __init__(self, stream: httpx.AsyncByteStream, exchange: Exchange, failed: bool) -> None:
        self._stream = stream
        self._exchange = exchange
        self._failed = failed

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = line = 0
        async for chunk in self._stream:
            size += len(chunk)
            line = len(chunk) - 1 - chunk.rfind(b"\n") if b"\n" in chunk else line + len(chunk)
            if self._failed and size > MAX_ERROR_BYTES:
                break
            try:
                self._check(size, line)
            except UpstreamUnavailable as error:
                self._exchange.failure = error
                raise httpx.ReadError(error.message) from error
            yield chunk

    def _check(self, size: int, line: int) -> None:
        exchange = self._exchange
        if exchange.most_streamed is None:
            check_size(size, exchange.most, "max_answer_bytes")
        else:
            check_size(line, exchange.most, "max_answer_bytes")
            check_size(size, exchange.most_streamed, "max_stream_bytes")

    async def aclose(self) -> None:
        await self._stream.aclose()


class _Transport(LiteLLMAiohttpTransport):  # type: ignore[misc] # litellm tells no types
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        exchange = _current.get()
        if exchange and request.url.host == _OPENAI and exchange.provider not in _OPENAIS:
            exchange.failure = ModelMisconfigured(
                f"litellm knows no address of {exchange.provider} and would ask {_OPENAI}: set "
                "api_base in the model's entry"
            )
            raise httpx.ReadError(exchange.failure.message)
        # What came packed would have to be unpacked to be measured.
        request.headers["Accept-Encoding"] = "identity"
        try:
            response: httpx.Response = await super().handle_async_request(request)
        except httpx.ConnectError as error:
            # Of this class litellm would try once more by itself.
            raise httpx.ReadError(str(error)) from error
        if exchange is None:
            return response
        assert isinstance(response.stream, httpx.AsyncByteStream)  # noqa: S101 - its own, above
        exchange.add(response.stream)
        if response.has_redirect_location:
            raise httpx.ReadError(f"HTTP {response.status_code}, a redirect, is not followed")
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise httpx.ReadError("the answer has a Content-Encoding that was not asked for")
        response.stream = _Body(response.stream, exchange, response.is_error)
        return response


def install(session: aiohttp.ClientSession) -> None:
    """Let all clients that litellm makes from now on use this session."""

    def create(
        ssl_verify: bool | None = None, ssl_context: ssl.SSLContext | None = None, **_: object
    ) -> _Transport:
        verify = False if ssl_verify is False else ssl_context
        return _Transport(client=session, ssl_verify=verify, owns_session=False)

    AsyncHTTPHandler.create_aiohttp_transport = create
