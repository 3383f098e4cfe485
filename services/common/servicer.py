"""The one servicer: validates a request, calls the backend, checks and sends its reply."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from arena_llm.types import (
    Attempt,
    Availability,
    BackendInfo,
    CallReport,
    Completion,
    FreePrice,
    GenerationRequest,
    Model,
    ModelList,
    ModelState,
    ReplicaInfo,
    ReplicaState,
    Scoring,
    ScoringRequest,
    TokenCount,
)
from arena_llm.v1 import REVISION, models_pb2, reply_pb2, score_pb2, service_info_pb2
from arena_llm.wire import from_message, to_message
from services.common.admission import Admission
from services.common.backend import BaseLLMBackend, describe_breaker, report_failed_start
from services.common.call import CallRecord, CallScope
from services.common.errors import BackendError, ModelNotFound
from services.common.exporter import Page
from services.common.handlers import Context, check_client, parse
from services.common.metrics import meter
from services.common.pages import make_page
from services.common.peers import Peers
from services.common.reply import (
    ReplyBuilder,
    build_message,
    check_models,
    check_scoring,
    check_type,
    mark_replayed,
)
from services.common.requests import RequestReader
from services.common.service_info import SOFTWARE_VERSION, make_limits, make_service_info
from services.common.shared_calls import SharedCalls
from services.common.streaming import Streams
from services.common.tenant import set_tenant
from services.common.unknown import check_known
from services.common.validation import check_model

#: Seconds that a check of a model or a list of models takes at most.
_CHECK_SECONDS = 60.0
#: Open breakers that GetServiceInfo names at most.
_MOST_SHOWN = 5


class LlmServicer:
    """LlmService over one backend. peers: the other workers of the service."""

    guards: Sequence[Any] = ()

    def __init__(self, backend: BaseLLMBackend[Any], peers: Peers | None = None) -> None:
        self.name = backend.name
        self.forwards_calls = backend.forwards_calls
        config = backend.config
        self._calls = SharedCalls(
            config.request_id_seconds, config.request_id_bytes, self._keep_report, self._keep_reply
        )
        self._peers = peers or Peers()
        #: Of backends whose configuration is no longer used; see `reconfigure`.
        self._closing: set[asyncio.Task[None]] = set()
        self._use(backend)

    def _use(self, backend: BaseLLMBackend[Any]) -> None:
        """Let the next call use a backend."""
        config = backend.config
        self._backend = backend
        self._admission = Admission(config)
        self._admit = self._admission.admit
        self._limits = make_limits(config)
        self._requests = RequestReader(backend, shares=config.request_id_seconds > 0)
        self._replies = ReplyBuilder(backend)
        self._streams = Streams(backend, self._replies, self._calls)

    def listens_on(self, address: str) -> None:
        """Name the address in replies."""
        self._replies.replica = address

    def pages(self) -> Mapping[str, Page]:
        """None: a service shows its metrics only."""
        return {}

    async def start(self) -> None:
        """Start the backend."""
        with report_failed_start(type(self._backend)):
            await self._backend.start()

    async def failed(self) -> str:
        """Wait until the backend cannot continue, and return the reason."""
        return await self._backend.failed()

    @property
    def watched(self) -> Iterable[Path]:
        """No further files."""
        return ()

    async def reconfigure(self, config: Any) -> None:
        """Let the next call use another configuration. Raises ConfigError."""
        old, admission = self._backend, self._admission
        new = await old.reconfigure(config)
        self._use(new)
        if new is not old:
            task = asyncio.create_task(self._close_later(old, admission))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def _close_later(self, backend: BaseLLMBackend[Any], admission: Admission) -> None:
        """Close a backend after its calls."""
        shared = self._calls.running
        try:
            # `admission` does not count checks and lists of models, which take less than this.
            await asyncio.sleep(_CHECK_SECONDS)
            while admission.calls:  # noqa: ASYNC110 - seldom, so that no call pays for an event
                await asyncio.sleep(1.0)
            if shared:
                await asyncio.wait(shared)
        finally:
            await backend.aclose()

    def drain(self) -> None:
        """Prepare the backend to stop."""
        self._backend.drain()

    async def aclose(self) -> None:
        """End the calls that run without callers, and close the backend."""
        await self._calls.aclose()
        await self._peers.aclose()
        for task in self._closing:
            task.cancel()
        await asyncio.gather(*self._closing, return_exceptions=True)
        await self._backend.aclose()

    async def Generate(self, data: bytes, context: Context) -> bytes:
        async with CallScope("Generate", context) as record:
            with self._admit(data, context):
                request, digest = await self._read_request(data, context, record)
                if digest and self._peers.exist:
                    found = await self._peers.ask("Generate", request.request_id, data, context)
                    if found is not None:
                        record.add(handed_over=True)
                        return found
                run = partial(self._generate, request, record)
                reply, is_replayed = await self._share(request.request_id, digest, run, record)
                return mark_replayed(reply) if is_replayed else reply

    def _keep_report(self, request_id: str, error: Exception) -> None:
        """Let the next call with this request_id report a failure whose callers had left."""
        if isinstance(error, BackendError) and error.report is not None:
            self._backend.keep_report(request_id, error.report)

    def _keep_reply(self, request_id: str, reply: bytes) -> None:
        """Let the next call with this request_id list the attempts of a reply that nobody got."""
        if self.forwards_calls:  # else it cost nothing
            message = reply_pb2.GenerateResponse.FromString(reply)
            attempts = tuple(from_message(one, Attempt) for one in message.attempts)
            self._backend.keep_report(request_id, CallReport(attempts=attempts))

    async def _generate(self, request: GenerationRequest, record: CallRecord) -> bytes:
        completion = check_type(
            await self._backend.generate_response(request), Completion, "generate_response"
        )
        return self._replies.build(request, completion, record)

    async def _share(
        self,
        request_id: str,
        digest: bytes,
        run: Callable[[], Coroutine[Any, Any, bytes]],
        record: CallRecord,
        *,
        tells_cost: bool = True,
    ) -> tuple[bytes, bool]:
        """Return the reply of `run`, or of an earlier call with this id, and if it is replayed.

        digest: empty if the call is not shared. tells_cost: the reply lists attempts.
        """
        if not digest:
            return await run(), False
        found = self._calls.find(request_id, digest)
        if found is None:
            call = self._calls.start(
                request_id,
                digest,
                run(),
                runs_to_its_end=self.forwards_calls,
                tells_cost=tells_cost,
            )
            return await call.join(), False
        record.add(replayed=True)
        return found if isinstance(found, bytes) else await found.join(), True

    async def StreamGenerate(self, data: bytes, context: Context) -> AsyncIterator[bytes]:
        async with CallScope("StreamGenerate", context) as record:
            with self._admit(data, context):
                request, digest = await self._read_request(data, context, record)
                if digest and self._peers.exist:
                    replies = self._peers.stream(
                        "StreamGenerate", request.request_id, data, context
                    )
                    async with aclosing(replies):
                        async for reply in replies:
                            record.add(handed_over=True)
                            yield reply
                    if record.has("handed_over"):
                        return
                sequence = 0
                async with aclosing(self._streams.stream(request, digest, record)) as events:
                    async for event in events:
                        event.sequence = sequence
                        sequence += 1
                        yield event.SerializeToString()

    async def _read_request(
        self, data: bytes, context: Context, record: CallRecord
    ) -> tuple[GenerationRequest, bytes]:
        """Return the request, and its digest if its caller gave it an id."""
        check_client(context)
        set_tenant(context)
        remaining = context.time_remaining()
        deadline = None if remaining is None else time.monotonic() + remaining
        return await self._requests.read_generate(data, record, deadline)

    async def Score(self, data: bytes, context: Context) -> bytes:
        async with CallScope("Score", context) as record:
            with self._admit(data, context):
                check_client(context)
                set_tenant(context)
                request, digest = await self._requests.read_score(data, record)
                if digest and self._peers.exist:
                    found = await self._peers.ask("Score", request.request_id, data, context)
                    if found is not None:
                        record.add(handed_over=True)
                        return found
                run = partial(self._score, request, record)
                reply, _ = await self._share(
                    request.request_id, digest, run, record, tells_cost=False
                )
                return reply

    async def _score(self, request: ScoringRequest, record: CallRecord) -> bytes:
        scoring = check_type(await self._backend.score(request), Scoring, "score")
        scoring = check_scoring(scoring, request)
        message = build_message(scoring, score_pb2.ScoreResponse)
        self._replies.complete(message, request, record)
        return message.SerializeToString()

    async def CountTokens(self, data: bytes, context: Context) -> bytes:
        async with CallScope("CountTokens", context) as record:
            with self._admit(data, context):
                check_client(context)
                request = await self._requests.read_count(data, record)
                count = check_type(
                    await self._backend.count_tokens(request), TokenCount, "count_tokens"
                )
                return build_message(count, score_pb2.CountTokensResponse).SerializeToString()

    async def IsAvailable(self, data: bytes, context: Context) -> bytes:
        async with CallScope("IsAvailable", context) as record:
            proto = parse(models_pb2.IsAvailableRequest, data)
            record.add_request(proto.model, "", {})
            check_client(context)
            check_known(proto, data)
            answer = await self._check_availability(proto.model)
            return build_message(answer, models_pb2.IsAvailableResponse).SerializeToString()

    async def ListModels(self, data: bytes, context: Context) -> bytes:
        async with CallScope("ListModels", context):
            proto = parse(models_pb2.ListModelsRequest, data)
            check_client(context)
            check_known(proto, data)
            models = check_models(await self._backend.get_available_models(), self._requests.prefix)
            page, token = make_page(models, proto)
            answer = ModelList(tuple(map(self._complete_model, page)), token)
            return build_message(answer, models_pb2.ListModelsResponse).SerializeToString()

    async def GetServiceInfo(self, data: bytes, context: Context) -> bytes:
        async with CallScope("GetServiceInfo", context):
            check_known(parse(service_info_pb2.GetServiceInfoRequest, data), data)
            detail = "; ".join(map(describe_breaker, self._backend.list_breakers()[:_MOST_SHOWN]))
            load = meter.load()
            replica = ReplicaInfo(
                "",
                ReplicaState.SERVING,
                detail,
                SOFTWARE_VERSION,
                REVISION,
                calls_in_flight=load.in_flight - 1,  # without this one
                calls_waiting=load.waiting,
            )
            limits = self._limits
            backend = BackendInfo(self.name, (self._requests.prefix,), (replica,), limits=limits)
            answer = make_service_info(self.name, self._limits, [backend])
            return to_message(answer, service_info_pb2.GetServiceInfoResponse).SerializeToString()

    async def _check_availability(self, model: str) -> Availability:
        try:
            check_model(model)
            self._requests.check_prefix(model)
        except ModelNotFound as error:
            return Availability(False, ModelState.MISCONFIGURED, error.message, reason=error.reason)
        answer = await self._backend.is_model_available(model)
        answer = check_type(answer, Availability, "is_model_available")
        return replace(answer, model=self._complete_model(answer.model or Model(model)))

    def _complete_model(self, model: Model) -> Model:
        """Add what holds for every model of the backend."""
        fields = model.supported_fields or self._supported_fields
        known = model.supported_fields_known or not model.supported_fields
        price = model.price or (FreePrice() if self._replies.is_free else None)
        return replace(
            model,
            backend=self.name,
            supported_fields=fields,
            supported_fields_known=known,
            price=price,
        )

    @cached_property
    def _supported_fields(self) -> tuple[str, ...]:
        return tuple(sorted(self._requests.refusals.honoured))
