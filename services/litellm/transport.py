"""HTTP under litellm: to known servers only, over one session, bounded. Imports litellm.

litellm makes a client for each provider, bounds nothing that they read, leaves some
responses to the garbage collector, follows redirects with the key, and has no setting
for any of it. What its clients share is the function that makes their transport:
`install` replaces it. A few providers use httpx's own transports (amazon_nova, nlp_cloud,
requests for a token), so `install` puts the check of the destination before these as well.
What uses neither (boto3 and google-auth, for credentials) has its destination from the
environment; no option that is allowed reaches it.
"""

from __future__ import annotations

import re
import secrets
import ssl
from collections.abc import AsyncIterator
from contextlib import suppress
from contextvars import ContextVar

import aiohttp
import httpx
from litellm.llms.custom_httpx.aiohttp_transport import LiteLLMAiohttpTransport
from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler

from services.common.errors import (
    BackendError,
    InvalidRequest,
    ModelMisconfigured,
    UnreadableAnswer,
    UpstreamUnavailable,
)
from services.common.hosted.bounds import MAX_ERROR_BYTES, check_size
from services.common.hosted.failures import read_error_body
from services.common.hosted.http import is_loopback
from services.litellm.reading import Reading, asks_for_stream
from services.litellm.wire import Wire

#: Where litellm goes when it knows no address.
_OPENAI = "api.openai.com"
_OPENAIS = ("openai", "text-completion-openai")


#: OpenAI's SDK retries on its own if litellm does not pass our max_retries on, as for baseten
#: or ai21: up to three requests for one call. This response header stops it. A connection
#: that breaks has no response, so the SDK's next request is answered here.
_LAST = {"x-should-retry": "false"}
_BROKEN = {"error": {"message": "the connection broke off"}}


class Exchange:
    """The HTTP requests of one call to litellm, from `begin` to `aclose`.

    provider: by litellm's name. most: bytes of a whole answer, or of a line of a stream.
    most_streamed: bytes of a whole stream; None: the call wants no stream. origins: the
    servers that it may talk to; None: all. name: the model's, where a caller chose it; it
    may not choose the server. failure: why the exchange was given up, for which litellm
    would have its own words. asked: whether a request went out. wire: reads the answer on
    its way to litellm.
    """

    def __init__(
        self,
        provider: str,
        most: int,
        most_streamed: int | None = None,
        *,
        origins: frozenset[str] | None = None,
        name: str = "",
        wire: Wire | None = None,
    ) -> None:
        self.provider = provider
        self.most = most
        self.most_streamed = most_streamed
        self.failure: BackendError | None = None
        self.asked = False
        self.wire = wire
        self._origins = origins
        self._domains = [part for part in re.split(r"[/:@]", name.lower()) if "." in part]
        self._streams: list[httpx.AsyncByteStream] = []

    @property
    def pinned(self) -> bool:
        """Whether it may talk to some servers only."""
        return self._origins is not None

    def begin(self) -> None:
        """What this task sends from now on belongs to this call."""
        _current.set(self)

    def admit(self, request: httpx.Request, blocking: bool = False) -> httpx.Response | None:
        """Check where a request goes before it is sent.

        blocking: whether a synchronous client sends it. A response is the answer to a request
        that is not to be sent. Raises httpx.ReadError; `failure` says why.
        """
        if (objection := self._objection(request.url) or self.failure) is not None:
            raise self.give_up(objection)
        if request.headers.get("x-stainless-retry-count", "0") != "0":
            return httpx.Response(503, request=request, headers=_LAST, json=_BROKEN)
        self.asked = True
        return None

    def give_up(self, failure: BackendError) -> httpx.ReadError:
        """End the exchange with a failure; the error to raise, which litellm understands."""
        self.failure = failure
        return httpx.ReadError(failure.message)

    def _objection(self, url: httpx.URL) -> BackendError | None:
        if url.host == _OPENAI and self.provider not in _OPENAIS:
            return ModelMisconfigured(
                f"litellm knows no address of {self.provider} and would ask {_OPENAI}: set "
                "api_base in the model's entry"
            )
        if any(domain in url.host for domain in self._domains):
            return InvalidRequest(
                f"the model's name would choose the server ({url.host[:100]}): only a model "
                "that the configuration lists can do that",
                field="model",
            )
        if self._origins is not None and origin(url) not in self._origins:
            return InvalidRequest(
                f"provider_options would send the call to {origin(url)[:100]}; without them it "
                f"goes to {' and '.join(sorted(self._origins)) or 'no server'}",
                field="provider_options",
            )
        return None

    def add(self, stream: httpx.AsyncByteStream) -> None:
        """Close this one with the call, too."""
        self._streams.append(stream)

    async def aclose(self) -> None:
        """Close what is still open."""
        for stream in self._streams:
            await stream.aclose()


class Rehearsal(Exchange):
    """A call that shows where litellm would send it.

    Its own request is not sent. Those of synchronous clients before it are, unless they
    hold `prompt`: they get what it needs, such as a token. seen: the servers of all.
    reached: whether it came to its own request.
    """

    def __init__(self, provider: str, most: int, name: str = "") -> None:
        super().__init__(provider, most, name=name)
        self.prompt = f"rehearsal-{secrets.token_hex(16)}"
        self.seen: set[str] = set()
        self.reached = False

    def admit(self, request: httpx.Request, blocking: bool = False) -> httpx.Response | None:
        super().admit(request)
        self.seen.add(origin(request.url))
        if blocking and self.prompt.encode() not in request.content:
            return None
        self.reached = True
        # No status that litellm or an SDK tries again.
        return httpx.Response(400, request=request, json={"error": {"message": "a rehearsal"}})


def origin(url: httpx.URL) -> str:
    """The server of a URL: scheme, host and port."""
    port = url.port or {"http": 80, "https": 443}.get(url.scheme)
    return f"{url.scheme}://{url.host}:{port}"


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
                raise self._exchange.give_up(error) from error
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
        if exchange is not None and (answer := exchange.admit(request)) is not None:
            return answer
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
            raise exchange.give_up(
                UpstreamUnavailable(
                    f"{exchange.provider} redirects (HTTP {response.status_code}), and the key "
                    "goes to no other address"
                )
            )
        packed = response.headers.pop("Content-Encoding", "identity") != "identity"
        if packed and response.is_success:
            raise exchange.give_up(
                UnreadableAnswer(f"{exchange.provider}'s answer is compressed without a request")
            )
        response.headers.update(_LAST)
        response.stream = _Body(response.stream, exchange, response.is_error)
        if (wire := exchange.wire) is None:
            return response
        wire.status = response.status_code
        wire.retry_after = response.headers.get("Retry-After")
        wire.reported = None
        if response.is_success:
            streamed = asks_for_stream(request)
            response.stream = Reading(response.stream, wire, streamed, response.headers)
        else:
            data = b"" if packed else await _all(response.stream)
            wire.reported = read_error_body(data, wire.status, response.reason_phrase)
            response.stream = httpx.ByteStream(data)
        return response

    def _proxy_from_env(self, url: httpx.URL) -> str | None:
        proxy: str | None = None if is_loopback(url.host) else super()._proxy_from_env(url)
        return proxy


async def _all(stream: httpx.AsyncByteStream) -> bytes:
    """The body of a failure, as far as it comes."""
    pieces = []
    with suppress(httpx.TransportError):
        async for piece in stream:
            pieces.append(piece)
    return b"".join(pieces)


_send = httpx.HTTPTransport.handle_request
_send_async = httpx.AsyncHTTPTransport.handle_async_request


def _checked_send(self: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
    exchange = _current.get()
    if exchange is None:
        return _send(self, request)
    return exchange.admit(request, blocking=True) or _at_home(_send(self, request), request)


async def _checked_send_async(
    self: httpx.AsyncHTTPTransport, request: httpx.Request
) -> httpx.Response:
    exchange = _current.get()
    if exchange is None:
        return await _send_async(self, request)
    return exchange.admit(request) or _at_home(await _send_async(self, request), request)


def _at_home(response: httpx.Response, request: httpx.Request) -> httpx.Response:
    """The response, if it does not redirect the client to another server."""
    if response.has_redirect_location:
        target = request.url.join(response.headers["Location"])
        if origin(target) != origin(request.url):
            raise httpx.ReadError(f"HTTP {response.status_code}, a redirect to another server")
    return response


def install(session: aiohttp.ClientSession) -> None:
    """Let all clients that litellm makes from now on use this session."""

    def create(
        ssl_verify: bool | None = None, ssl_context: ssl.SSLContext | None = None, **_: object
    ) -> _Transport:
        verify = False if ssl_verify is False else ssl_context
        return _Transport(client=session, ssl_verify=verify, owns_session=False)

    AsyncHTTPHandler.create_aiohttp_transport = create
    httpx.HTTPTransport.handle_request = _checked_send  # type: ignore[method-assign]
    httpx.AsyncHTTPTransport.handle_async_request = _checked_send_async  # type: ignore[method-assign]
