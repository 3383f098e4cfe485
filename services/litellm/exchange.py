"""The HTTP requests of one call to litellm: where they may go, and what ends them."""

from __future__ import annotations

import re
import secrets
from contextvars import ContextVar

import httpx

from services.common.errors import BackendError, InvalidRequest, ModelMisconfigured
from services.common.hops import list_hop_headers
from services.common.hosted.config import Timeouts
from services.common.hosted.journal import REQUEST_ID, Entry
from services.common.hosted.request import OPTIONS
from services.litellm.raw_answer import RawAnswer

#: The server that litellm calls if it knows no address, and the providers that really use it.
_OPENAI = "api.openai.com"
_OPENAI_PROVIDERS = ("openai", "text-completion-openai")

#: OpenAI's SDK retries by itself for providers such as baseten and ai21, because litellm does not
#: pass our max_retries to it. This response header stops it. A broken connection has no response,
#: so the SDK's next request is answered here.
NO_RETRY = {"x-should-retry": "false"}
_BROKEN = {"error": {"message": "the connection broke off"}}


class Exchange:
    """The HTTP requests of one call to litellm, from `begin` to `aclose`.

    provider: litellm's name of the provider.
    max_answer: bytes of a whole answer, or of a line of a stream.
    max_stream: bytes of a whole stream; None: the call is not streamed.
    origins: the servers that the call may use; None: all.
    name: the name of the model if a caller chose it. It may not choose the server.
    answer: keeps the answer as the provider sent it.
    timeouts: of the attempt; None: those of litellm.
    failure: why the exchange was aborted, which takes precedence over what litellm says.
    sent: whether a request was sent.
    """

    def __init__(
        self,
        provider: str,
        max_answer: int,
        max_stream: int | None = None,
        *,
        origins: frozenset[str] | None = None,
        name: str = "",
        answer: RawAnswer | None = None,
        timeouts: Timeouts | None = None,
    ) -> None:
        self.provider = provider
        self.timeouts = timeouts
        self.max_answer = max_answer
        self.max_stream = max_stream
        self.failure: BackendError | None = None
        self.sent = False
        self.answer = answer
        self._origins = origins
        self._domains = [part for part in re.split(r"[/:@]", name.lower()) if "." in part]
        self._streams: list[httpx.AsyncByteStream] = []

    @property
    def pinned(self) -> bool:
        """Whether only some servers are allowed."""
        return self._origins is not None

    def begin(self) -> None:
        """Assign all further requests of this task to this exchange."""
        CURRENT.set(self)

    def admit(self, request: httpx.Request, blocking: bool = False) -> httpx.Response | None:
        """Check the destination of a request before it is sent.

        blocking: whether a synchronous client sends it.
        Returns a response if the request must not be sent but answered with it. Raises
        httpx.ReadError if the destination is not allowed; `failure` says why.
        """
        if (problem := self._check(request.url) or self.failure) is not None:
            raise self.abort(problem)
        if request.headers.get("x-stainless-retry-count", "0") != "0":
            return httpx.Response(503, request=request, headers=NO_RETRY, json=_BROKEN)
        self.sent = True
        request.headers.update(list_hop_headers())
        if (entry := self.entry) is not None:
            request.headers[REQUEST_ID] = entry.header
            entry.send()
        return None

    @property
    def entry(self) -> Entry | None:
        """What notes that a request is sent."""
        return self.answer.entry if self.answer is not None else None

    def abort(self, failure: BackendError) -> httpx.ReadError:
        """End the exchange. Returns the error to raise, which litellm understands."""
        self.failure = failure
        return httpx.ReadError(failure.message)

    def _check(self, url: httpx.URL) -> BackendError | None:
        if url.host == _OPENAI and self.provider not in _OPENAI_PROVIDERS:
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
                field=OPTIONS,
            )
        return None

    def add(self, stream: httpx.AsyncByteStream) -> None:
        """Close this stream together with the exchange."""
        self._streams.append(stream)

    async def aclose(self) -> None:
        """Close all streams."""
        for stream in self._streams:
            await stream.aclose()


class Rehearsal(Exchange):
    """Records where litellm would send a call, without sending it.

    Requests of synchronous clients that do not contain `prompt` are sent, because they fetch what
    the call needs, such as a token.

    seen: the servers of all requests. reached: whether litellm came to the request of the call.
    """

    def __init__(self, provider: str, max_answer: int, name: str = "") -> None:
        super().__init__(provider, max_answer, name=name)
        self.prompt = f"rehearsal-{secrets.token_hex(16)}"
        self.seen: set[str] = set()
        self.reached = False

    def admit(self, request: httpx.Request, blocking: bool = False) -> httpx.Response | None:
        super().admit(request)
        self.seen.add(origin(request.url))
        if blocking and self.prompt.encode() not in request.content:
            return None
        self.reached = True
        # A status that neither litellm nor an SDK retries.
        return httpx.Response(400, request=request, json={"error": {"message": "a rehearsal"}})


def origin(url: httpx.URL) -> str:
    """The server of a URL: scheme, host and port."""
    port = url.port or {"http": 80, "https": 443}.get(url.scheme)
    return f"{url.scheme}://{url.host}:{port}"


#: The exchange of the running task.
CURRENT: ContextVar[Exchange | None] = ContextVar("exchange", default=None)
