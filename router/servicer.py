"""LlmService over all backends: chooses the backend of a call and forwards bytes both ways."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message

from arena_llm.tracing import tracing
from arena_llm.types import BackendInfo
from arena_llm.v1 import generate_pb2, models_pb2, score_pb2, service_info_pb2
from arena_llm.wire import to_message
from router import fanout
from router.access import find_tenant, make_access
from router.backend import Backend
from router.cache.cache import ReplyCache
from router.cache.call import CachedCall
from router.config import RouterConfig
from router.envelope import add_request, read_envelope
from router.fallback import Fallbacks, add_field
from router.fallback import list_models as list_fallbacks
from router.forwarding import ForwardedCall
from router.replicas import describe, shorten_window
from router.reply import add_lost_request
from router.routing import HOPS_HEADER, Metadata, build_metadata, find_prefix
from router.status import STATUS_SECONDS, Status
from services.common.admission import Admission
from services.common.call import CallRecord, CallScope
from services.common.errors import BackendDown, DeadlineExceeded, UnknownPrefix
from services.common.exporter import Page
from services.common.handlers import Context, check_client, parse
from services.common.log import log
from services.common.pages import make_page
from services.common.service_info import make_limits, make_service_info
from services.common.unknown import check_known

M = TypeVar("M", bound=Message)


class Router:
    """LlmService. Replies and errors of a backend are forwarded unchanged."""

    name = "router"
    forwards_calls = True

    def __init__(self, config: RouterConfig) -> None:
        self._config = config
        self._admission = Admission(config.max_calls_in_flight, config.max_bytes_in_flight)
        self._admit = self._admission.admit
        self._access = make_access(config)
        self.interceptors = self._access.interceptors
        self._backends: dict[str, Backend] = {}
        #: Of backends whose routes are gone.
        self._closing: set[asyncio.Task[None]] = set()
        self.cache = ReplyCache(config.cache, self._ask_revision) if config.cache else None

    async def start(self) -> None:
        """Open a channel to each backend.

        An unreachable backend does not stop the router; only its own calls fail.
        """
        await self._access.start()
        if self.cache is not None:
            await self.cache.start()
        self._backends = self._open_backends(self._config)

    def _open_backends(self, config: RouterConfig) -> dict[str, Backend]:
        """Return a backend for each route; a route that stays the same keeps its own."""
        opened = {}
        for prefix, route in config.routes.items():
            old = self._backends.get(prefix)
            opened[prefix] = old if old and old.serves(route) else Backend(prefix, route)
        return opened

    @property
    def watched(self) -> Iterable[Path]:
        """The file of tokens, and the certificates of the routes."""
        if self._config.tokens is not None:
            yield self._config.tokens
        for route in self._config.routes.values():
            if route.tls is not None:
                yield from map(Path, route.tls.settings.files)

    async def reconfigure(self, config: RouterConfig) -> None:
        """Let the next call use other routes, tokens and limits. Raises ConfigError."""
        self._access.reconfigure(config)
        new = self._open_backends(config)
        gone = [backend for backend in self._backends.values() if backend not in new.values()]
        self._config, self._backends = config, new
        self._admission.max_calls = config.max_calls_in_flight
        self._admission.max_bytes = config.max_bytes_in_flight
        for backend in gone:
            task = asyncio.create_task(backend.close_later())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def failed(self) -> str:
        """Never return: without backends the router still answers BACKEND_DOWN."""
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    def listens_on(self, address: str) -> None:
        """A reply names the service that answers, not the router."""

    def pages(self) -> Mapping[str, Page]:
        """The page that shows what the calls take, and who makes them."""
        return Status(self._describe_backends).pages()

    def drain(self) -> None:
        """Running calls end by themselves."""

    async def aclose(self) -> None:
        """Close the channels, and write what the callers have used."""
        await self._access.aclose()
        for task in self._closing:
            task.cancel()
        await asyncio.gather(*self._closing, return_exceptions=True)
        if self.cache is not None:
            await self.cache.aclose()
        await asyncio.gather(*(backend.aclose() for backend in self._backends.values()))

    async def Generate(self, data: bytes, context: Context) -> bytes:
        async with CallScope("Generate", context) as record:
            with self._admit(data):
                request = await read_envelope(generate_pb2.GenerateRequest, data)
                fallbacks = self._find_fallbacks("Generate", request, data, context, record)
                if fallbacks is not None:
                    return await fallbacks.reply()
                return await self._forward_unary("Generate", request, data, context, record)

    async def Score(self, data: bytes, context: Context) -> bytes:
        async with CallScope("Score", context) as record:
            with self._admit(data):
                request = await read_envelope(score_pb2.ScoreRequest, data)
                return await self._forward_unary("Score", request, data, context, record)

    async def StreamGenerate(self, data: bytes, context: Context) -> AsyncIterator[bytes]:
        async with CallScope("StreamGenerate", context) as record:
            with self._admit(data):
                request = await read_envelope(generate_pb2.GenerateRequest, data)
                fallbacks = self._find_fallbacks("StreamGenerate", request, data, context, record)
                if fallbacks is not None:
                    async with aclosing(fallbacks.messages(request.request_id)) as messages:
                        async for message in messages:
                            yield message
                    return
                async with (
                    self._call("StreamGenerate", request, data, context, record) as forwarded,
                    aclosing(forwarded.messages()) as messages,
                ):
                    async for message in messages:
                        yield message

    async def CountTokens(self, data: bytes, context: Context) -> bytes:
        async with CallScope("CountTokens", context) as record:
            with self._admit(data):
                request = await read_envelope(score_pb2.CountTokensRequest, data)
                return await self._forward_unary("CountTokens", request, data, context, record)

    async def IsAvailable(self, data: bytes, context: Context) -> bytes:
        async with CallScope("IsAvailable", context) as record:
            request = parse(models_pb2.IsAvailableRequest, data)
            record.add_request(request.model, "", {})
            forward = partial(self._forward_availability, request.model, data, context, record)
            return await self._answer(request, forward)

    async def ListModels(self, data: bytes, context: Context) -> bytes:
        async with CallScope("ListModels", context):
            request = parse(models_pb2.ListModelsRequest, data)
            check_client(context)
            check_known(request, data)
            return await self._answer(request, partial(self._list_models, request, context))

    async def _list_models(self, request: models_pb2.ListModelsRequest, context: Context) -> bytes:
        seconds, hops = self._bound(context), _count_hops(context)
        backends = self._backends.values()
        answers = await fanout.list_models(backends, request.name_prefix, seconds, hops)
        models, unreachable = fanout.merge_models(answers, self._backends)
        models = [model for model in models if self._access.may_list(model.name)]
        page, token = make_page(models, request)
        return models_pb2.ListModelsResponse(
            models=page, next_page_token=token, unreachable=unreachable
        ).SerializeToString()

    async def _answer(self, request: Message, ask: Callable[[], Awaitable[bytes]]) -> bytes:
        """Return the answer to a question about models, which a recording has, too."""
        return await (ask() if self.cache is None else self.cache.answer(request, ask))

    async def GetServiceInfo(self, data: bytes, context: Context) -> bytes:
        async with CallScope("GetServiceInfo", context):
            check_known(parse(service_info_pb2.GetServiceInfoRequest, data), data)
            seconds, hops = self._bound(context), _count_hops(context)
            backends = await self._describe_backends(seconds, hops)
            limits = shorten_window(make_limits(self._config), backends)
            answer = make_service_info(self.name, limits, backends)
            return to_message(answer, service_info_pb2.GetServiceInfoResponse).SerializeToString()

    async def _describe_backends(
        self, seconds: float = STATUS_SECONDS, metadata: Metadata = ()
    ) -> Sequence[BackendInfo]:
        return await asyncio.gather(
            *(describe(backend, seconds, metadata) for backend in self._backends.values())
        )

    async def _forward_unary(
        self, rpc: str, request: Any, data: bytes, context: Context, record: CallRecord
    ) -> bytes:
        """Return the reply. If a replica is lost before it has answered, another one is asked."""
        try:
            return await self._call(rpc, request, data, context, record).reply()
        except BackendDown as error:
            backend = self._find(request.model, record)
            if not backend.has_replicas or error.metadata.get("reached") != "true":
                raise
            log.warning("a replica was lost; another one is asked", detail=error.message)
        reply = await self._call(rpc, request, data, context, record).reply()
        return add_lost_request(reply) if rpc == "Generate" else reply

    async def _forward_availability(
        self, model: str, data: bytes, context: Context, record: CallRecord
    ) -> bytes:
        """Return the backend's answer. If it cannot be reached, say so in the answer."""
        self._access.check_model(model)
        try:
            backend = self._find(model, record)
            metadata = build_metadata(_received(context))
            call = backend.call("IsAvailable", data, self._bound(context), metadata)
            reply = await ForwardedCall(call, backend, context, record).reply()
            answered = models_pb2.IsAvailableResponse.FromString(reply)
            add_field(answered.model)
            return answered.SerializeToString()
        except (UnknownPrefix, BackendDown, DeadlineExceeded) as error:
            answer = fanout.make_unavailable(error)
            return to_message(answer, models_pb2.IsAvailableResponse).SerializeToString()

    def _find_fallbacks(
        self,
        rpc: str,
        request: generate_pb2.GenerateRequest,
        data: bytes,
        context: Context,
        record: CallRecord,
    ) -> Fallbacks | None:
        """Return the call over several models; None if only the request's model may answer."""
        models = list_fallbacks(request, self._config.fallbacks)
        if not models:
            return None
        for model in models:
            find_prefix(model, self._backends)

        def start(model: str, data: bytes) -> ForwardedCall | CachedCall:
            envelope = generate_pb2.GenerateRequest(
                model=model,
                session=request.session,
                request_id=request.request_id,
                labels=dict(request.labels),
            )
            return self._call(rpc, envelope, data, context, record)

        return Fallbacks((request.model, *models), start, data, record)

    def _call(
        self, rpc: str, request: Any, data: bytes, context: Context, record: CallRecord
    ) -> ForwardedCall | CachedCall:
        """Return the call to the request's backend, which the cache may answer."""
        start = partial(self._start, rpc, request, data, context, record)
        if self.cache is None:
            return start()
        add_request(request, record)
        self._access.check_model(request.model)
        self._find(request.model, record)
        request_id = getattr(request, "request_id", "")
        return CachedCall(self.cache, type(request), request.model, request_id, data, start, record)

    async def _ask_revision(self, model: str) -> str | None:
        """Return a model's revision, "" if its backend does not know it; None without an answer."""
        backend = self._backends[find_prefix(model, self._backends)]
        request = models_pb2.IsAvailableRequest(model=model).SerializeToString()
        call = backend.call("IsAvailable", request, self._config.ask_timeout_seconds)
        try:
            return models_pb2.IsAvailableResponse.FromString(await call).model.model_revision
        except grpc.aio.AioRpcError:
            return None
        finally:
            call.cancel()

    def _start(
        self, rpc: str, request: Any, data: bytes, context: Context, record: CallRecord
    ) -> ForwardedCall:
        """Start the call to the request's backend, with the caller's remaining time."""
        session = add_request(request, record)
        charge = self._access.admit(request.model, record)
        backend = self._find(request.model, record)
        metadata = build_metadata(_received(context), session, find_tenant(), request.model)
        metadata = tracing.replace_headers(metadata, record.span)
        call = backend.call(rpc, data, context.time_remaining(), metadata)
        return ForwardedCall(call, backend, context, record, charge)

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


def _received(context: Context) -> Metadata:
    return tuple(context.invocation_metadata() or ())


def _count_hops(context: Context) -> Metadata:
    """Return the metadata of a call to all backends: only how many routers it has passed."""
    return build_metadata(item for item in _received(context) if item[0] == HOPS_HEADER)
