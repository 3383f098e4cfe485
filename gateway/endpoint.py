"""An endpoint: reads a request, works while the caller waits, answers, and logs one line."""

from __future__ import annotations

import asyncio
import re
import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ClassVar

from arena_llm import ArenaError, AsyncClient, InvalidArgumentError
from arena_llm.tls import Tls
from arena_llm.tracing import tracing
from gateway.chat import ChatTask
from gateway.completions import TextTask
from gateway.config import GatewayConfig
from gateway.errors import ApiError, make_overload, to_api_error
from gateway.exchange import CallerLeft, HttpExchange, Receive, Scope, Send
from gateway.options import find_param
from gateway.parse import parse_request
from gateway.schema.chat import ChatRequest
from gateway.schema.common import SamplingRequest
from gateway.schema.completion import CompletionRequest
from gateway.task import CompletionTask
from services.common.call import CallRecord
from services.common.digits import read_digits
from services.common.hops import HOPS_HEADER
from services.common.log import list_frames, log

_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{1,60}")
_SCHEME = "bearer "


class Upstream:
    """The router, and what is in flight to it."""

    def __init__(self, config: GatewayConfig) -> None:
        self.config = config
        tls: Tls | bool = config.router_tls.settings if config.router_tls else False
        # Without a token: otherwise a caller that sends none would use the gateway's.
        self.client = AsyncClient(config.router, timeout=config.timeout_seconds, token="", tls=tls)
        self._calls = 0
        self._bytes = 0

    @contextmanager
    def admit(self, size: int) -> Iterator[None]:
        """Hold a place for a request. size: its bytes. Raises ApiError if no place is free."""
        most_calls, most_bytes = self.config.max_calls_in_flight, self.config.max_bytes_in_flight
        if most_calls and self._calls >= most_calls:
            raise make_overload(f"{self._calls} calls are in flight: try again later")
        if most_bytes and self._calls and self._bytes + size > most_bytes:
            raise make_overload("the requests in flight have too many bytes: try again later")
        self._calls += 1
        self._bytes += size
        try:
            yield
        finally:
            self._calls -= 1
            self._bytes -= size

    def find_client(self, exchange: HttpExchange) -> AsyncClient:
        """Return the client of a request's caller. Raises ApiError for a missing token."""
        text = exchange.header("authorization")
        if text and text[: len(_SCHEME)].lower() != _SCHEME:
            raise _make_token_error("the header Authorization is not `Bearer TOKEN`")
        token = text[len(_SCHEME) :].strip()
        if self.config.require_token and not token:
            raise _make_token_error("this gateway needs `Authorization: Bearer TOKEN`")
        count = read_digits(exchange.header(HOPS_HEADER))
        hops = {} if count is None else {HOPS_HEADER: str(count)}
        try:
            return self.client.on_behalf_of(token, hops)
        except InvalidArgumentError as error:
            raise _make_token_error(error.message) from None


def _make_token_error(message: str) -> ApiError:
    return ApiError(401, message, code="invalid_api_key", reason="TOKEN_MISSING")


class Endpoint(ABC):
    """A route of the application, as an ASGI callable. rpc: its name in log and metrics."""

    rpc: ClassVar[str]

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream

    @abstractmethod
    async def handle(self, exchange: HttpExchange, record: CallRecord) -> None:
        """Answer."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = HttpExchange(scope, receive, send, self.upstream.config)
        record = CallRecord(self.rpc)
        if tracing.is_on:
            record.begin_span((k.decode(), v.decode("latin-1")) for k, v in scope["headers"])
        try:
            await self.handle(exchange, record)
        except CallerLeft:
            record.status = "CANCELLED"
        except ApiError as error:
            record.status = "INVALID_ARGUMENT" if error.status < 500 else "UNAVAILABLE"
            await _fail(exchange, record, error)
        except ArenaError as error:
            record.status = error.code
            param = find_param(error.field, exchange.params)
            await _fail(exchange, record, to_api_error(error, param))
        except asyncio.CancelledError:
            record.status = "CANCELLED"
            raise
        except Exception as error:  # a bug must not end in uvicorn, which knows no error object
            record.status = "INTERNAL"
            await _fail(exchange, record, _make_bug_error(error))
        finally:
            record.end()


async def _fail(exchange: HttpExchange, record: CallRecord, error: ApiError) -> None:
    record.add(http=error.status, reason=error.reason)
    await exchange.fail(error)


def _make_bug_error(error: Exception) -> ApiError:
    error_id = secrets.token_hex(8)
    # Without its text, which may hold a prompt.
    name, frames = type(error).__qualname__, list_frames(error)
    log.error("bug", error_id=error_id, type=name, frames=frames)
    return ApiError(
        500, f"a bug of the gateway: its log has the error under the id {error_id}",
        code="internal_error", reason="INTERNAL",
    )  # fmt: skip


class GenerateEndpoint(Endpoint):
    """An endpoint that generates text."""

    request_type: ClassVar[type[SamplingRequest]]
    task_type: ClassVar[Callable[..., CompletionTask]]

    async def handle(self, exchange: HttpExchange, record: CallRecord) -> None:
        with self.upstream.admit(exchange.size()):
            client = self.upstream.find_client(exchange)
            body = await exchange.read()
            request, ignored = parse_request(
                self.request_type, body, self.upstream.config.drop_unknown
            )
            session = exchange.header("arena-session")
            request_id = _find_request_id(exchange)
            record.add_request(request.model, session, {}, request_id)
            exchange.add_header("x-request-id", request_id)
            if ignored:
                exchange.add_header("arena-ignored-fields", ", ".join(ignored))
            task = type(self).task_type(request, client, request_id, session)
            exchange.params = task.params
            if request.stream:
                await exchange.run(task.stream(exchange))
            else:
                answer = await exchange.run(task.answer())
                if task.warnings:
                    exchange.add_header("arena-warnings", "; ".join(task.warnings))
                await exchange.answer(200, answer)
            _add_usage(record, task)


def _find_request_id(exchange: HttpExchange) -> str:
    given = exchange.header("idempotency-key")
    if not given:
        return secrets.token_hex(16)
    if not _REQUEST_ID.fullmatch(given):
        raise ApiError(
            400, "Idempotency-Key has at most 60 letters, digits, '_' and '-'",
            code="invalid_value",
        )  # fmt: skip
    return given


def _add_usage(record: CallRecord, task: CompletionTask) -> None:
    for name in ("prompt_tokens", "completion_tokens"):
        counts = [getattr(completion.usage, name) or 0 for completion in task.completions]
        record.add(**{name: sum(counts)})


class ChatEndpoint(GenerateEndpoint):
    """/v1/chat/completions."""

    rpc = "chat.completions"
    request_type = ChatRequest
    task_type = ChatTask


class CompletionEndpoint(GenerateEndpoint):
    """/v1/completions."""

    rpc = "completions"
    request_type = CompletionRequest
    task_type = TextTask


class EmbeddingsEndpoint(Endpoint):
    """/v1/embeddings, which our contract does not have."""

    rpc = "embeddings"

    async def handle(self, exchange: HttpExchange, record: CallRecord) -> None:
        raise ApiError(
            404, "this gateway has no embeddings: the models of Arena LLM write text",
            code="unsupported_endpoint", reason="UNSUPPORTED",
        )  # fmt: skip
