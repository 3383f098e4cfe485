"""litellm's HTTP: only to known servers, over one session, with bounds. Imports litellm.

litellm makes a client for each provider, bounds nothing that they read, leaves some responses to
the garbage collector, follows redirects with the key, and has no setting for any of it. Its
clients share the function that makes their transport, so `install` replaces this function. A few
providers use httpx's own transports (amazon_nova, nlp_cloud, requests for a token), so `install`
adds the check of the destination to these as well. boto3 and google-auth, which fetch credentials,
use neither. They get their destination from the environment, which no allowed option changes.
"""

from __future__ import annotations

import ssl
import zlib
from collections.abc import AsyncIterator
from contextlib import suppress

import aiohttp
import httpx
from litellm.llms.custom_httpx.aiohttp_transport import LiteLLMAiohttpTransport
from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler

from services.common.errors import UnreadableAnswer, UpstreamUnavailable
from services.common.hosted.errors import redirected, silent
from services.common.hosted.failures import read_error_body
from services.common.hosted.http import MAX_ERROR_BYTES, check_size, drop_idle, find_proxy
from services.common.hosted.waits import read_wait
from services.litellm.exchange import CURRENT, NO_RETRY, Exchange, origin
from services.litellm.rewriting import RewrittenBody, asks_for_stream

#: The headers in which Azure and Groq name the region of an answer. OpenRouter can name one, too,
#: but that of its own server.
_REGIONS = ("x-ms-region", "x-groq-region")

#: Compressions that are read although none is requested: zlib's, with any header.
_CODINGS = ("identity", "gzip", "x-gzip", "deflate")
_ANY_HEADER = 32 + zlib.MAX_WBITS
#: Bytes that are decompressed before the bounds are checked.
_UNPACKED = 64 * 1024


class _Body(httpx.AsyncByteStream):
    """The body of a response, up to its bounds."""

    def __init__(
        self, stream: httpx.AsyncByteStream, exchange: Exchange, failed: bool, coding: str
    ) -> None:
        self._stream = stream
        self._exchange = exchange
        self._failed = failed
        self._coding = coding

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = line = 0
        async for chunk in self._chunks():
            size += len(chunk)
            line = len(chunk) - 1 - chunk.rfind(b"\n") if b"\n" in chunk else line + len(chunk)
            if self._failed:
                if size > MAX_ERROR_BYTES:
                    break
            else:
                try:
                    self._check(size, line)
                except UpstreamUnavailable as error:
                    raise self._exchange.abort(error) from error
            yield chunk

    async def _chunks(self) -> AsyncIterator[bytes]:
        """The pieces of the body, decompressed in small pieces, so that bounds come in time."""
        unpack = None if self._coding == "identity" else zlib.decompressobj(_ANY_HEADER)
        chunks = aiter(self._stream)
        while True:
            try:
                chunk = await anext(chunks)
                if unpack is None:
                    yield chunk
                while unpack is not None and chunk:
                    yield unpack.decompress(chunk, _UNPACKED)
                    chunk = unpack.unconsumed_tail
            except StopAsyncIteration:
                return
            except httpx.ReadTimeout as error:
                raise _abort_silent(self._exchange) or error from error
            except zlib.error as error:
                problem = f"{self._exchange.provider}'s answer cannot be decompressed"
                raise self._exchange.abort(UnreadableAnswer(problem)) from error

    def _check(self, size: int, line: int) -> None:
        exchange = self._exchange
        if exchange.max_stream is None:
            check_size(size, exchange.max_answer, "max_answer_bytes")
        else:
            check_size(line, exchange.max_answer, "max_answer_bytes")
            check_size(size, exchange.max_stream, "max_stream_bytes")

    async def aclose(self) -> None:
        await self._stream.aclose()


class _Transport(LiteLLMAiohttpTransport):  # type: ignore[misc] # litellm has no types
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        exchange = CURRENT.get()
        if exchange is not None and (prepared := exchange.admit(request)) is not None:
            return prepared
        _set_timeouts(request, exchange)
        # Answers are short, and decompression would delay other calls.
        request.headers["Accept-Encoding"] = "identity"
        try:
            response: httpx.Response = await super().handle_async_request(request)
        except (httpx.ConnectError, httpx.ReadError) as error:
            if isinstance(error.__cause__, aiohttp.ClientConnectorError):
                _unsend(exchange)
            if isinstance(self.client, aiohttp.ClientSession):
                drop_idle(self.client)
            # litellm would retry after a ConnectError.
            raise httpx.ReadError(str(error)) from error
        except httpx.ConnectTimeout:
            _unsend(exchange)
            raise
        except httpx.ReadTimeout as error:
            raise _abort_silent(exchange) or error from error
        except httpx.RequestError as error:
            if exchange is None or not isinstance(error.__cause__, aiohttp.ClientResponseError):
                raise
            problem = (
                f"{exchange.provider}'s answer is not readable HTTP: {error.__cause__.message}"
            )
            # A generation may have been paid for.
            raise exchange.abort(UnreadableAnswer(problem[:300])) from error
        if exchange is None:
            return response
        assert isinstance(response.stream, httpx.AsyncByteStream)  # noqa: S101 - litellm's own
        exchange.add(response.stream)
        if response.has_redirect_location:
            location, status = response.headers["Location"], response.status_code
            raise exchange.abort(redirected(exchange.provider, status, location, "api_base"))
        coding = response.headers.pop("Content-Encoding", "identity").strip().lower()
        if coding not in _CODINGS and response.is_success:
            raise exchange.abort(
                UnreadableAnswer(
                    f"{exchange.provider}'s answer is compressed ({coding[:40]}) although that was "
                    "not requested"
                )
            )
        response.headers.update(NO_RETRY)
        response.stream = _Body(response.stream, exchange, response.is_error, coding)
        if (answer := exchange.answer) is None:
            return response
        answer.status = response.status_code
        answer.retry_after = read_wait(response.headers)
        answer.reported = None
        answer.region = next((response.headers[n] for n in _REGIONS if n in response.headers), "")
        if response.is_success:
            streamed = asks_for_stream(request)
            response.stream = RewrittenBody(
                response.stream, answer, streamed, response.headers, exchange.max_answer
            )
        else:
            data = await _read_all(response.stream) if coding in _CODINGS else b""
            answer.reported = read_error_body(data, answer.status, response.reason_phrase)
            response.stream = httpx.ByteStream(data)
        return response

    def _proxy_from_env(self, url: httpx.URL) -> str | None:
        if url.host not in self.proxy_cache:  # the environment does not change
            self.proxy_cache[url.host] = find_proxy(url.scheme, url.host)
        proxy: str | None = self.proxy_cache[url.host]
        return proxy


def _set_timeouts(request: httpx.Request, exchange: Exchange | None) -> None:
    """Bound the time to connect, and the time without a byte."""
    timeout = {**request.extensions.get("timeout", {}), "connect": _connect_seconds}
    if exchange is not None and exchange.timeouts is not None:
        timeout["read"] = exchange.timeouts.silence
    request.extensions["timeout"] = timeout


def _unsend(exchange: Exchange | None) -> None:
    if exchange is not None and exchange.entry is not None:
        exchange.entry.unsend()


def _abort_silent(exchange: Exchange | None) -> httpx.ReadError | None:
    if exchange is None or exchange.timeouts is None:
        return None
    return exchange.abort(silent(exchange.provider, exchange.timeouts))


async def _read_all(stream: httpx.AsyncByteStream) -> bytes:
    """Read the body of an error. If the connection breaks, return what has arrived."""
    pieces = []
    with suppress(httpx.TransportError):
        async for piece in stream:
            pieces.append(piece)
    return b"".join(pieces)


_send = httpx.HTTPTransport.handle_request
_send_async = httpx.AsyncHTTPTransport.handle_async_request


def _checked_send(self: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
    exchange = CURRENT.get()
    if exchange is None:
        return _send(self, request)
    return exchange.admit(request, blocking=True) or _check_redirect(_send(self, request), request)


async def _checked_send_async(
    self: httpx.AsyncHTTPTransport, request: httpx.Request
) -> httpx.Response:
    exchange = CURRENT.get()
    if exchange is None:
        return await _send_async(self, request)
    _set_timeouts(request, exchange)
    return exchange.admit(request) or _check_redirect(await _send_async(self, request), request)


def _check_redirect(response: httpx.Response, request: httpx.Request) -> httpx.Response:
    """Return the response. Raises httpx.ReadError if it redirects to another server."""
    if response.has_redirect_location:
        target = request.url.join(response.headers["Location"])
        if origin(target) != origin(request.url):
            raise httpx.ReadError(f"HTTP {response.status_code}, a redirect to another server")
    return response


_connect_seconds: float = 10


def install(session: aiohttp.ClientSession, connect_seconds: float) -> None:
    """Make all clients that litellm creates from now on use this session.

    connect_seconds: to open a connection.
    """
    global _connect_seconds
    _connect_seconds = connect_seconds

    def create(
        ssl_verify: bool | None = None, ssl_context: ssl.SSLContext | None = None, **_: object
    ) -> _Transport:
        verify = False if ssl_verify is False else ssl_context
        return _Transport(client=session, ssl_verify=verify, owns_session=False)

    AsyncHTTPHandler.create_aiohttp_transport = create
    httpx.HTTPTransport.handle_request = _checked_send  # type: ignore[method-assign]
    httpx.AsyncHTTPTransport.handle_async_request = _checked_send_async  # type: ignore[method-assign]
