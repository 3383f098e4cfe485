"""A gRPC server in this process with scripted replies, which records its calls.

tests/support/scripted.py scripts a backend behind the real servicer. This one scripts the
wire itself, so that it can send what no service sends, such as broken details.
"""

from __future__ import annotations

import dataclasses
import inspect
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import grpc
from google.protobuf.any_pb2 import Any as AnyProto
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from arena_llm.v1 import (
    content_pb2,
    generate_pb2,
    llm_service_pb2_grpc,
    models_pb2,
    reply_pb2,
    score_pb2,
)

T = TypeVar("T")

MODEL = "hf_scripted"

#: In place of a reply: keep the call open until the caller ends it.
HOLD = object()


@dataclasses.dataclass(frozen=True)
class Fail:
    """A status to fail with, and its details, as the services send them."""

    code: grpc.StatusCode
    message: str = "it went wrong"
    reason: str = ""
    field: str = ""
    retry_seconds: float | None = None
    metadata: dict[str, str] = dataclasses.field(default_factory=dict)
    #: Further details.
    more: Sequence[Any] = ()
    #: Sent in place of the details.
    garbage: bytes = b""

    def abort(self, context: grpc.ServicerContext) -> None:
        trailers: list[tuple[str, Any]] = [("grpc-retry-pushback-ms", "-1")]
        if self.garbage:
            trailers.append(("grpc-status-details-bin", self.garbage))
        elif self.reason:
            trailers.append(("grpc-status-details-bin", self._status().SerializeToString()))
        context.set_trailing_metadata(tuple(trailers))  # type: ignore[arg-type]
        context.abort(self.code, self.message)

    def _status(self) -> status_pb2.Status:
        details: list[Any] = [
            error_details_pb2.ErrorInfo(
                reason=self.reason, domain="arena_llm", metadata=self.metadata
            )
        ]
        if self.field:
            violation = error_details_pb2.BadRequest.FieldViolation(field=self.field)
            details.append(error_details_pb2.BadRequest(field_violations=[violation]))
        if self.retry_seconds is not None:
            delay = Duration()
            delay.FromNanoseconds(int(self.retry_seconds * 1e9))
            details.append(error_details_pb2.RetryInfo(retry_delay=delay))
        details += self.more
        packed = []
        for detail in details:
            packed.append(AnyProto())
            packed[-1].Pack(detail)
        number: int = self.code.value[0]  # type: ignore[index]
        return status_pb2.Status(code=number, message=self.message, details=packed)


@dataclasses.dataclass
class Seen:
    """A call that arrived."""

    method: str
    request: Any
    metadata: dict[str, str]
    #: Seconds to the deadline; None without one.
    time_remaining: float | None
    #: Set when the call has ended.
    ended: threading.Event


def text_reply(text: str, **more: Any) -> reply_pb2.GenerateResponse:
    """A reply with this text."""
    message = content_pb2.Message(
        role=content_pb2.ROLE_ASSISTANT, parts=[content_pb2.Part(text=text)] if text else []
    )
    return reply_pb2.GenerateResponse(
        message=message,
        text=text,
        served_by=reply_pb2.ServedBy(model=MODEL, backend="hf"),
        finish_reason=reply_pb2.FINISH_REASON_STOP,
        **more,
    )


def text_event(text: str) -> generate_pb2.StreamGenerateResponse:
    return generate_pb2.StreamGenerateResponse(delta=generate_pb2.PartDelta(text=text))


def end_event(text: str) -> generate_pb2.StreamGenerateResponse:
    return generate_pb2.StreamGenerateResponse(completion=text_reply(text))


class Script(llm_service_pb2_grpc.LlmServiceServicer):
    """Sends the enqueued replies; Generate echoes the prompt if there are none."""

    def __init__(self) -> None:
        self.history: list[Seen] = []
        self.respond: Callable[[Any], Any] = lambda request: text_reply(request.prompt)
        #: Called as soon as a call is in the history.
        self.on_arrival: Callable[[], object] = lambda: None
        self.health = health.HealthServicer()
        self.health.set("", health_pb2.HealthCheckResponse.SERVING)
        self._queue: deque[Any] = deque()
        self._streams: deque[Any] = deque()

    def enqueue(self, *results: Any) -> None:
        """Add replies for the next unary calls: a message, a Fail or HOLD each."""
        self._queue.extend(results)

    def enqueue_stream(self, *events: Any) -> None:
        """Add the events of one streamed call; a Fail or HOLD may be among them."""
        self._streams.append(events)

    def _seen(self, method: str, request: Any, context: grpc.ServicerContext) -> Seen:
        ended = threading.Event()
        if not context.add_callback(ended.set):
            ended.set()
        metadata = {key: value for key, value in context.invocation_metadata()}  # noqa: C416 - pairs
        seen = Seen(method, request, metadata, context.time_remaining(), ended)
        self.history.append(seen)
        self.on_arrival()
        return seen

    def _unary(self, method: str, request: Any, context: grpc.ServicerContext) -> Any:
        seen = self._seen(method, request, context)
        result = self._queue.popleft() if self._queue else self.respond(request)
        if result is HOLD:
            seen.ended.wait()
        if isinstance(result, Fail):
            result.abort(context)
        return result

    def Generate(self, request: Any, context: Any) -> Any:
        return self._unary("Generate", request, context)

    def Score(self, request: Any, context: Any) -> Any:
        return self._unary("Score", request, context)

    def CountTokens(self, request: Any, context: Any) -> Any:
        return self._unary("CountTokens", request, context)

    def GetServiceInfo(self, request: Any, context: Any) -> Any:
        return self._unary("GetServiceInfo", request, context)

    def IsAvailable(self, request: Any, context: Any) -> Any:
        return self._unary("IsAvailable", request, context)

    def ListModels(self, request: Any, context: Any) -> Any:
        return self._unary("ListModels", request, context)

    def StreamGenerate(self, request: Any, context: Any) -> Any:
        seen = self._seen("StreamGenerate", request, context)
        for event in self._streams.popleft():
            if event is HOLD:
                seen.ended.wait()
                return
            if isinstance(event, Fail):
                event.abort(context)
            yield event


def start(script: Script, address: str) -> tuple[grpc.Server, int]:
    """Start a server of the script and the standard health service."""
    limits = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    server = grpc.server(ThreadPoolExecutor(64), options=limits)
    llm_service_pb2_grpc.add_LlmServiceServicer_to_server(script, server)  # type: ignore[no-untyped-call]
    health_pb2_grpc.add_HealthServicer_to_server(script.health, server)
    port = server.add_insecure_port(address)
    server.start()
    return server, port


async def settle(value: T | Awaitable[T]) -> T:
    """Return the result of a method of either client."""
    if inspect.isawaitable(value):
        return await value  # type: ignore[no-any-return]
    return value  # type: ignore[return-value]


async def collect(items: Any) -> list[Any]:
    """Return all items of an iterator of either client."""
    if hasattr(items, "__aiter__"):
        return [item async for item in items]
    return list(items)


def scores(*logprobs: float) -> score_pb2.ScoreResponse:
    return score_pb2.ScoreResponse(
        scores=[
            score_pb2.ContinuationScore(
                logprob=logprob, tokens=reply_pb2.TokenTrace(ids=[1], logprobs=[logprob])
            )
            for logprob in logprobs
        ]
    )


def models(*names: str, unreachable: tuple[str, ...] = ()) -> models_pb2.ListModelsResponse:
    return models_pb2.ListModelsResponse(
        models=[models_pb2.ModelInfo(name=name, backend=name.split("_")[0]) for name in names],
        unreachable=[
            models_pb2.UnreachableBackend(
                backend=name, addresses=["127.0.0.1:9"], detail=f"start {name}"
            )
            for name in unreachable
        ],
    )
