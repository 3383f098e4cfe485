"""LlmService over all backends: chooses the backend of a call and forwards bytes both ways."""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from google.protobuf.message import Message

from arena_llm.tracing import continue_trace
from arena_llm.types import BackendInfo
from arena_llm.v1 import generate_pb2, models_pb2, score_pb2, service_info_pb2
from arena_llm.wire import to_message
from router import fanout
from router.access import Access, find_tenant
from router.backend import Backend
from router.backends import Backends
from router.cache.cache import ReplyCache
from router.cache.call import CachedCall
from router.config import RouterConfig
from router.costs import RequestCosts
from router.envelope import add_request, read_envelope
from router.failure import CallFailed
from router.fallback import Fallbacks, add_field
from router.fallback import list_models as list_fallbacks
from router.forwarding import ForwardedCall
from router.replicas import shorten_window
from router.routing import Metadata, build_metadata, find_prefix
from router.status import STATUS_SECONDS, Status
from router.targets import expand_routes
from services.common.admission import Admission
from services.common.call import CallRecord, CallScope
from services.common.errors import BackendDown, DeadlineExceeded, UnknownPrefix
from services.common.exporter import Page
from services.common.handlers import Context, check_client, parse
from services.common.hops import HOPS_HEADER
from services.common.pages import make_page
from services.common.service_info import make_limits, make_service_info
from services.common.unknown import check_known


class Forwarding(Protocol):
    """A call on behalf of a caller: to a backend, over several models, or to the cache."""

    async def reply(self) -> bytes:
        """Return the reply of a unary call. Raises CallFailed and BackendError."""

    def messages(self) -> AsyncGenerator[bytes, None]:
        """Yield the messages of a stream. Raises the same."""


class Router:
    """LlmService. Replies and errors of a backend are forwarded unchanged."""

    name = "router"
    forwards_calls = True

    def __init__(self, config: RouterConfig) -> None:
        self._config = config
        self._admission = Admission(config)
        self._admit = self._admission.admit
        self._access = Access(config)
        self.guards = self._access.guards
        self._backends = Backends()
        #: Tasks that close the backends and caches which new calls no longer use.
        self._closing: set[asyncio.Task[None]] = set()
        self.cache = self._make_cache(config)

    def _make_cache(self, config: RouterConfig) -> ReplyCache | None:
        return ReplyCache(config.cache, self._ask_revision) if config.cache else None

    async def start(self) -> None:
        """Open a channel to each backend.

        An unreachable backend does not stop the router; only its own calls fail.
        """
        await self._access.start()
        if self.cache is not None:
            await self.cache.start()
        routes = expand_routes(self._config)
        self._backends.replace(await self._backends.prepare(routes))

    @property
    def watched(self) -> Iterable[Path]:
        """The files of replicas and tokens, and the certificates of the routes."""
        yield self._config.replicas
        if self._config.tokens is not None:
            yield self._config.tokens
        for route in self._config.routes.values():
            if route.tls is not None:
                yield from map(Path, route.tls.settings.files)

    async def reconfigure(self, config: RouterConfig) -> Sequence[str]:
        """Put other routes, tokens, limits and another cache into force for the next call.

        After an error nothing has changed. Returns the names of what has changed in the files that
        the configuration names. Raises ConfigError.
        """
        routes = expand_routes(config)
        cache = await self._open_cache(config)
        try:
            change_access = await self._access.prepare(config)
            new = await self._backends.prepare(routes)
        except BaseException:
            if cache is not None and cache is not self.cache:
                await cache.aclose()
            raise
        # Nothing is awaited from here on, so that no call sees a part of the change.
        changed = [*change_access(), *self._backends.list_renewed(new)]
        gone: list[Backend | ReplyCache] = [*self._backends.replace(new)]
        if self.cache is not None and self.cache is not cache:
            gone.append(self.cache)
        self._config, self.cache = config, cache
        self._admission.reconfigure(config)
        for one in gone:
            task = asyncio.create_task(one.close_later())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        return changed

    async def _open_cache(self, config: RouterConfig) -> ReplyCache | None:
        """Return the cache of a configuration: the one that is open if nothing has changed."""
        if config.cache == self._config.cache:
            return self.cache
        cache = self._make_cache(config)
        if cache is not None:
            await cache.start()
        return cache

    async def failed(self) -> str:
        """Never return: without backends the router still answers BACKEND_DOWN."""
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    def listens_on(self, address: str) -> None:
        """Do nothing: a reply names the service that answers, not the router."""

    def pages(self) -> Mapping[str, Page]:
        """The page that shows what the calls take, and who makes them."""
        return Status(self._describe_backends).pages()

    def drain(self) -> None:
        """Do nothing: running calls end by themselves."""

    async def aclose(self) -> None:
        """Close the channels, and write what the callers have used."""
        await self._access.aclose()
        for task in self._closing:
            task.cancel()
        await asyncio.gather(*self._closing, return_exceptions=True)
        if self.cache is not None:
            await self.cache.aclose()
        await self._backends.aclose()

    async def Generate(self, data: bytes, context: Context) -> bytes:
        async with CallScope("Generate", context) as record:
            with self._admit(data, context):
                request = await read_envelope(generate_pb2.GenerateRequest, data)
                call = self._begin("Generate", request, data, context, record)
                return await _reply(call, context, record)

    async def Score(self, data: bytes, context: Context) -> bytes:
        async with CallScope("Score", context) as record:
            with self._admit(data, context):
                request = await read_envelope(score_pb2.ScoreRequest, data)
                call = self._call("Score", request, data, context, record)
                return await _reply(call, context, record)

    async def StreamGenerate(self, data: bytes, context: Context) -> AsyncIterator[bytes]:
        async with CallScope("StreamGenerate", context) as record:
            with self._admit(data, context):
                request = await read_envelope(generate_pb2.GenerateRequest, data)
                call = self._begin("StreamGenerate", request, data, context, record)
                try:
                    async with aclosing(call.messages()) as messages:
                        async for message in messages:
                            yield message
                except CallFailed as failed:
                    await failed.send(context, record)

    async def CountTokens(self, data: bytes, context: Context) -> bytes:
        async with CallScope("CountTokens", context) as record:
            with self._admit(data, context):
                request = await read_envelope(score_pb2.CountTokensRequest, data)
                call = self._call("CountTokens", request, data, context, record)
                return await _reply(call, context, record)

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
        """Return the answer to a question about models. A recording keeps such answers, too."""
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
        return await self._backends.describe(seconds, metadata)

    async def _forward_availability(
        self, model: str, data: bytes, context: Context, record: CallRecord
    ) -> bytes:
        """Return the backend's answer. If it cannot be reached, say so in the answer."""
        self._access.check_model(model)
        try:
            backend = self._backends.find(model, record)
            metadata = build_metadata(_received(context))
            if backend.holds:  # a question about one model starts a replica, too
                remaining = context.time_remaining()
                await backend.hold(None if remaining is None else 0.9 * remaining)

            def start() -> Any:
                return backend.call("IsAvailable", data, self._bound(context), metadata)

            reply = await _reply(ForwardedCall(start, backend, context, record), context, record)
            answered = models_pb2.IsAvailableResponse.FromString(reply)
            add_field(answered.model)
            return answered.SerializeToString()
        except (UnknownPrefix, BackendDown, DeadlineExceeded) as error:
            answer = fanout.make_unavailable(error)
            return to_message(answer, models_pb2.IsAvailableResponse).SerializeToString()

    def _begin(
        self,
        rpc: str,
        request: generate_pb2.GenerateRequest,
        data: bytes,
        context: Context,
        record: CallRecord,
    ) -> Forwarding:
        """Return the call to the request's model, and to others if they may answer, too."""
        models = list_fallbacks(request, self._config.fallbacks)
        if not models:
            return self._call(rpc, request, data, context, record)
        for model in models:
            find_prefix(model, self._backends)

        def start(model: str, data: bytes) -> Forwarding:
            envelope = generate_pb2.GenerateRequest(
                model=model,
                session=request.session,
                request_id=request.request_id,
                labels=dict(request.labels),
            )
            return self._call(rpc, envelope, data, context, record)

        return Fallbacks((request.model, *models), start, data, record, request.request_id)

    def _call(
        self, rpc: str, request: Any, data: bytes, context: Context, record: CallRecord
    ) -> Forwarding:
        """Return the call to the request's backend, which the cache may answer."""
        start = partial(self._start, rpc, request, data, context, record)
        if self.cache is None:
            return start()
        add_request(request, record)
        self._access.check_model(request.model)
        self._backends.find(request.model, record)
        request_id = getattr(request, "request_id", "")
        return CachedCall(self.cache, type(request), request.model, request_id, data, start, record)

    async def _ask_revision(self, model: str) -> str | None:
        """Return a model's revision, "" if its backend does not know it; None without an answer."""
        found = await self._backends.ask(model, self._config.ask_timeout_seconds)
        return None if found is None else found.model_revision

    def _start(
        self, rpc: str, request: Any, data: bytes, context: Context, record: CallRecord
    ) -> ForwardedCall:
        """Return the call to the request's backend, with the caller's remaining time."""
        session = add_request(request, record)
        charge = self._access.admit(request.model, record)
        backend = self._backends.find(request.model, record)
        metadata = build_metadata(_received(context), session, find_tenant(), request.model)
        metadata = continue_trace(metadata, record.trace_headers)

        def start() -> Any:
            return backend.call(rpc, data, context.time_remaining(), metadata)

        seconds = partial(self._bound, context)
        costs = RequestCosts(self._backends.ask, request.model, data, seconds)
        return ForwardedCall(start, backend, context, record, charge, costs)

    def _bound(self, context: Context) -> float:
        """Return the seconds to wait for a backend, if the router can answer without it.

        Always less than the caller's remaining time, so that the reply still arrives.
        """
        remaining = context.time_remaining()
        longest = self._config.ask_timeout_seconds
        return longest if remaining is None else min(longest, 0.9 * remaining)


async def _reply(call: Forwarding, context: Context, record: CallRecord) -> bytes:
    """Return the reply of a call, or end the caller's call with its error."""
    try:
        return await call.reply()
    except CallFailed as failed:
        await failed.send(context, record)
        raise AssertionError("unreachable") from failed


def _received(context: Context) -> Metadata:
    return tuple(context.invocation_metadata() or ())


def _count_hops(context: Context) -> Metadata:
    """Return the metadata of a call to all backends: only how many routers it has passed."""
    return build_metadata(item for item in _received(context) if item[0] == HOPS_HEADER)
