"""LlmService over all backends: finds the one to ask and passes bytes both ways."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from arena_llm.v1 import generate_pb2, models_pb2, score_pb2
from router import relay, survey
from router.backends import Backend
from router.config import RouterConfig
from router.routing import forwarded, prefix_of
from services.common.calls import CallRecord, mapped_errors
from services.common.errors import BackendDown, DeadlineExceeded, UnknownPrefix
from services.common.handlers import Context, parse


class Router:
    """LlmService; what a backend answers goes back as it came."""

    name = "router"
    forwards_calls = True

    def __init__(self, config: RouterConfig) -> None:
        self._config = config
        self._backends: dict[str, Backend] = {}

    async def start(self) -> None:
        """Open the channels; a backend that is down is found so by its callers only."""
        for prefix, route in self._config.routes.items():
            self._backends[prefix] = Backend(prefix, route)

    async def failed(self) -> str:
        """Never: a router without a single backend still says so to its callers."""
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    async def aclose(self) -> None:
        """Close the channels."""
        await asyncio.gather(*(backend.aclose() for backend in self._backends.values()))

    async def Generate(self, data: bytes, context: Context) -> bytes:
        async with mapped_errors("Generate", context) as record:
            request = parse(generate_pb2.GenerateRequest, data)
            return await self._unary("Generate", request, data, context, record)

    async def Score(self, data: bytes, context: Context) -> bytes:
        async with mapped_errors("Score", context) as record:
            request = parse(score_pb2.ScoreRequest, data)
            return await self._unary("Score", request, data, context, record)

    async def StreamGenerate(self, data: bytes, context: Context) -> AsyncIterator[bytes]:
        async with mapped_errors("StreamGenerate", context) as record:
            request = parse(generate_pb2.GenerateRequest, data)
            backend, call = self._call("StreamGenerate", request, data, context, record)
            async with (
                relay.relayed(call, backend, context, record),
                aclosing(relay.stream(call, context)) as messages,
            ):
                async for message in messages:
                    yield message

    async def IsAvailable(self, data: bytes, context: Context) -> bytes:
        async with mapped_errors("IsAvailable", context) as record:
            request = parse(models_pb2.IsAvailableRequest, data)
            record.add_request(request.model, "", {})
            if request.model:
                return await self._availability(request.model, data, context, record)
            answers = await self._ask_all("IsAvailable", data, context)
            return survey.merged_availability(answers).SerializeToString()

    async def ListModels(self, data: bytes, context: Context) -> bytes:
        async with mapped_errors("ListModels", context):
            parse(models_pb2.ListModelsRequest, data)
            answers = await self._ask_all("ListModels", data, context)
            return survey.merged_models(answers, self._backends).SerializeToString()

    async def _unary(
        self, rpc: str, request: Any, data: bytes, context: Context, record: CallRecord
    ) -> bytes:
        backend, call = self._call(rpc, request, data, context, record)
        async with relay.relayed(call, backend, context, record):
            return await relay.unary(call, context)

    async def _availability(
        self, model: str, data: bytes, context: Context, record: CallRecord
    ) -> bytes:
        """The backend's answer, or why it could not be asked."""
        try:
            backend = self._find(model, record)
            metadata = forwarded(context.invocation_metadata() or (), "")
            call = backend.call("IsAvailable", data, self._bound(context), metadata)
            async with relay.relayed(call, backend, context, record):
                return await relay.unary(call, context)
        except (UnknownPrefix, BackendDown, DeadlineExceeded) as error:
            return survey.unavailable(error).SerializeToString()

    def _call(
        self, rpc: str, request: Any, data: bytes, context: Context, record: CallRecord
    ) -> tuple[Backend, Any]:
        """Start the call to the request's backend, with the caller's remaining time."""
        record.add_request(request.model, request.session, request.labels)
        backend = self._find(request.model, record)
        metadata = forwarded(context.invocation_metadata() or (), request.session)
        return backend, backend.call(rpc, data, context.time_remaining(), metadata)

    async def _ask_all(self, rpc: str, data: bytes, context: Context) -> survey.Answers:
        return await survey.ask_all(self._backends.values(), rpc, data, self._bound(context))

    def _bound(self, context: Context) -> float:
        """Seconds that a backend may take where the router can answer without it.

        Less than the caller has left, so that the answer still reaches the caller.
        """
        left = context.time_remaining()
        longest = self._config.ask_timeout_seconds
        return longest if left is None else min(longest, 0.9 * left)

    def _find(self, model: str, record: CallRecord) -> Backend:
        backend = self._backends[prefix_of(model, self._backends)]
        record.add(backend=backend.name)
        return backend
