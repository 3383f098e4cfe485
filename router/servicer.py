"""LlmService over all backends: chooses the backend of a call and forwards bytes both ways."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from types import TracebackType
from typing import Any

import grpc

from arena_llm.v1 import generate_pb2, models_pb2, score_pb2
from router import fanout
from router.backend import Backend
from router.config import RouterConfig
from router.routing import HOPS_HEADER, Metadata, build_metadata, find_prefix
from services.common.call import CallRecord, CallScope
from services.common.errors import BackendDown, DeadlineExceeded, UnknownPrefix, read_reason
from services.common.handlers import Context, parse


class Router:
    """LlmService. Replies and errors of a backend are forwarded unchanged."""

    name = "router"
    forwards_calls = True

    def __init__(self, config: RouterConfig) -> None:
        self._config = config
        self._backends: dict[str, Backend] = {}

    async def start(self) -> None:
        """Open a channel to each backend.

        An unreachable backend does not stop the router; only its own calls fail.
        """
        for prefix, route in self._config.routes.items():
            self._backends[prefix] = Backend(prefix, route)

    async def failed(self) -> str:
        """Never return: without backends the router still answers BACKEND_DOWN."""
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    async def aclose(self) -> None:
        """Close the channels."""
        await asyncio.gather(*(backend.aclose() for backend in self._backends.values()))

    async def Generate(self, data: bytes, context: Context) -> bytes:
        async with CallScope("Generate", context) as record:
            request = parse(generate_pb2.GenerateRequest, data)
            return await self._forward_unary("Generate", request, data, context, record)

    async def Score(self, data: bytes, context: Context) -> bytes:
        async with CallScope("Score", context) as record:
            request = parse(score_pb2.ScoreRequest, data)
            return await self._forward_unary("Score", request, data, context, record)

    async def StreamGenerate(self, data: bytes, context: Context) -> AsyncIterator[bytes]:
        async with CallScope("StreamGenerate", context) as record:
            request = parse(generate_pb2.GenerateRequest, data)
            backend, call = self._start("StreamGenerate", request, data, context, record)
            async with (
                ForwardedCall(call, backend, context, record),
                aclosing(_forward_stream(call, context)) as messages,
            ):
                async for message in messages:
                    yield message

    async def IsAvailable(self, data: bytes, context: Context) -> bytes:
        async with CallScope("IsAvailable", context) as record:
            request = parse(models_pb2.IsAvailableRequest, data)
            record.add_request(request.model, "", {})
            if request.model:
                return await self._forward_availability(request.model, data, context, record)
            answers = await self._ask_all("IsAvailable", data, context)
            return fanout.merge_availability(answers).SerializeToString()

    async def ListModels(self, data: bytes, context: Context) -> bytes:
        async with CallScope("ListModels", context):
            parse(models_pb2.ListModelsRequest, data)
            answers = await self._ask_all("ListModels", data, context)
            return fanout.merge_models(answers, self._backends).SerializeToString()

    async def _forward_unary(
        self, rpc: str, request: Any, data: bytes, context: Context, record: CallRecord
    ) -> bytes:
        backend, call = self._start(rpc, request, data, context, record)
        async with ForwardedCall(call, backend, context, record):
            return await _forward_reply(call, context)

    async def _forward_availability(
        self, model: str, data: bytes, context: Context, record: CallRecord
    ) -> bytes:
        """Return the backend's answer. If it cannot be reached, say so in the answer."""
        try:
            backend = self._find(model, record)
            metadata = build_metadata(_received(context))
            call = backend.call("IsAvailable", data, self._bound(context), metadata)
            async with ForwardedCall(call, backend, context, record):
                return await _forward_reply(call, context)
        except (UnknownPrefix, BackendDown, DeadlineExceeded) as error:
            return fanout.build_unavailable(error).SerializeToString()

    def _start(
        self, rpc: str, request: Any, data: bytes, context: Context, record: CallRecord
    ) -> tuple[Backend, Any]:
        """Start the call to the request's backend, with the caller's remaining time."""
        record.add_request(request.model, request.session, request.labels)
        backend = self._find(request.model, record)
        metadata = build_metadata(_received(context), request.session)
        return backend, backend.call(rpc, data, context.time_remaining(), metadata)

    async def _ask_all(self, rpc: str, data: bytes, context: Context) -> fanout.Answers:
        hops = build_metadata(item for item in _received(context) if item[0] == HOPS_HEADER)
        return await fanout.ask_all(self._backends.values(), rpc, data, self._bound(context), hops)

    def _bound(self, context: Context) -> float:
        """Return the seconds to wait for a backend without which the router can answer.

        Always less than the caller's remaining time, so that the reply still arrives.
        """
        remaining = context.time_remaining()
        longest = self._config.ask_timeout_seconds
        return longest if remaining is None else min(longest, 0.9 * remaining)

    def _find(self, model: str, record: CallRecord) -> Backend:
        backend = self._backends[find_prefix(model, self._backends)]
        record.add(backend=backend.name)
        return backend


class ForwardedCall:
    """Holds a call to a backend: the caller's call gets its trailers, or its error.

    Leaving the block cancels the call to the backend, so that a caller that has disconnected
    leaves no work behind.

    A class, because it is around every call: @asynccontextmanager takes three times as long.
    """

    __slots__ = ("_backend", "_call", "_context", "_record")

    def __init__(self, call: Any, backend: Backend, context: Context, record: CallRecord) -> None:
        self._call = call
        self._backend = backend
        self._context = context
        self._record = record

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self._context.set_trailing_metadata(tuple(await self._call.trailing_metadata()))
            elif isinstance(error, grpc.aio.AioRpcError):
                await self._end(error)
        finally:
            self._call.cancel()

    async def _end(self, error: grpc.aio.AioRpcError) -> None:
        if failure := self._backend.explain_failure(error):
            raise failure from error
        await _forward_initial(tuple(error.initial_metadata()), self._context)
        self._record.status = error.code().name
        trailers: tuple[Any, ...] = tuple(error.trailing_metadata())
        if reason := read_reason(trailers):
            self._record.add(reason=reason)
        await self._context.abort(error.code(), error.details() or "", trailers)


def _received(context: Context) -> Metadata:
    return tuple(context.invocation_metadata() or ())


async def _forward_reply(call: Any, context: Context) -> bytes:
    """Return the reply, after sending its initial metadata."""
    reply: bytes = await call
    await _forward_initial(tuple(await call.initial_metadata()), context)
    return reply


async def _forward_stream(call: Any, context: Context) -> AsyncGenerator[bytes, None]:
    """Yield the messages. Each is read only after the previous one has been sent."""
    await _forward_initial(tuple(await call.initial_metadata()), context)
    async for message in call:
        yield message


async def _forward_initial(metadata: tuple[Any, ...], context: Context) -> None:
    if metadata:  # otherwise gRPC sends the headers with the first message, in one packet
        await context.send_initial_metadata(metadata)
