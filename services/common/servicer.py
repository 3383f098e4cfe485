"""The one servicer: validates a request, calls the backend, checks and sends its reply."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import replace
from functools import cached_property
from typing import Any, TypeVar

from google.protobuf.message import Message as ProtoMessage

from arena_llm.types import (
    Availability,
    BackendInfo,
    CallReport,
    Completion,
    CountRequest,
    Delta,
    FinishReason,
    FreePrice,
    GenerationRequest,
    Message,
    Model,
    ModelList,
    ModelState,
    Progress,
    ReplicaInfo,
    ReplicaState,
    Scoring,
    ScoringRequest,
    ServedBy,
    StreamStart,
    TokenCount,
)
from arena_llm.v1 import (
    REVISION,
    generate_pb2,
    models_pb2,
    reply_pb2,
    score_pb2,
    service_info_pb2,
)
from arena_llm.wire import from_message, to_message
from services.common.admission import admit_calls
from services.common.backend import BaseLLMBackend, split_message
from services.common.call import CallRecord, CallScope
from services.common.errors import BackendError, ContractError, ModelNotFound
from services.common.fields import Refusals
from services.common.handlers import (
    SMALL,
    Context,
    Scan,
    check_client,
    parse,
    parse_scanned,
    scan,
)
from services.common.pages import make_page
from services.common.reply import (
    PartNumbering,
    build_message,
    check_completion,
    check_models,
    check_scoring,
    check_type,
)
from services.common.service_info import SOFTWARE_VERSION, make_limits, make_service_info
from services.common.shared_calls import (
    Event,
    Feed,
    SharedCall,
    SharedCalls,
    digest_fields,
    digest_request,
)
from services.common.validation import (
    MAX_NAME,
    check_count_tokens,
    check_generate,
    check_known,
    check_model,
    check_score,
    refuse_unknown,
)

#: Seconds of silence after which a stream sends a sign of life.
PROGRESS_SECONDS = 15.0


class LlmServicer:
    """LlmService over one backend."""

    def __init__(self, backend: BaseLLMBackend[Any]) -> None:
        self._backend = backend
        self.name = backend.name
        self.forwards_calls = backend.forwards_calls
        self._prefix = f"{backend.name}_"
        self._refusals = Refusals(backend)
        config = backend.config
        self._calls = SharedCalls(config.request_id_seconds, config.request_id_bytes)
        self._admit = admit_calls(config)
        self._limits = make_limits(config)
        self._first_state = (
            generate_pb2.PROGRESS_STATE_WAITING
            if backend.forwards_calls
            else generate_pb2.PROGRESS_STATE_UNSPECIFIED
        )
        #: True if the models run on this machine, so that they cost nothing.
        self._is_free = not backend.forwards_calls

    async def start(self) -> None:
        """Start the backend."""
        await self._backend.start()

    async def failed(self) -> str:
        """Wait until the backend cannot continue, and return the reason."""
        return await self._backend.failed()

    async def aclose(self) -> None:
        """End the calls that run without callers, and close the backend."""
        await self._calls.aclose()
        await self._backend.aclose()

    async def Generate(self, data: bytes, context: Context) -> bytes:
        async with CallScope("Generate", context) as record, self._admit(data):
            request, digest = await self._read_request(data, context, record)
            call = self._find_call(request, digest, record)
            if call is not None:
                return _mark_replayed(await call.join()).SerializeToString()
            run = self._run_unary(request, record)
            if not digest:
                return (await run).SerializeToString()
            call = self._calls.start(
                request.request_id, digest, run, runs_to_its_end=self.forwards_calls
            )
            return (await call.join()).SerializeToString()

    async def _run_unary(
        self, request: GenerationRequest, record: CallRecord
    ) -> reply_pb2.GenerateResponse:
        completion = check_type(
            await self._backend.generate_response(request), Completion, "generate_response"
        )
        return self._build_reply(request, completion, record)

    async def StreamGenerate(self, data: bytes, context: Context) -> AsyncIterator[bytes]:
        async with CallScope("StreamGenerate", context) as record, self._admit(data):
            request, digest = await self._read_request(data, context, record)
            sequence = 0
            async with aclosing(self._stream(request, digest, record)) as events:
                async for event in events:
                    event.sequence = sequence
                    sequence += 1
                    yield event.SerializeToString()

    async def _stream(
        self, request: GenerationRequest, digest: bytes, record: CallRecord
    ) -> AsyncGenerator[Event, None]:
        """Yield the events of a stream, not yet numbered."""
        feed = Feed(generate_pb2.Progress(state=self._first_state))
        shared = self._find_call(request, digest, record)
        call = shared or self._calls.start(
            request.request_id, digest, self._run_stream(request, record, feed)
        )
        call.enter()
        try:
            served_by = self._served_by(request.model)
            start = StreamStart("", request.request_id, served_by, shared is not None)
            yield Event(start=to_message(start, generate_pb2.StreamStart))
            # A stream that shares a call has no events until its end but signs of life.
            async with aclosing(feed.read(call.task, PROGRESS_SECONDS)) as events:
                async for event in events:
                    yield event
            reply = call.task.result()
            if shared is None:
                yield Event(completion=reply)
                return
            numbering = PartNumbering()
            for piece in split_message(from_message(reply.message, Message)):
                for delta in numbering.number(piece):
                    yield Event(delta=to_message(delta, generate_pb2.PartDelta))
            yield Event(completion=_mark_replayed(reply))
        finally:
            call.leave()

    async def _run_stream(
        self, request: GenerationRequest, record: CallRecord, feed: Feed
    ) -> reply_pb2.GenerateResponse:
        """Put the backend's events into the feed; return the completion."""
        numbering = PartNumbering()
        first: float | None = None
        try:
            async with aclosing(self._backend.stream_response(request)) as events:
                async for event in events:
                    if isinstance(event, Progress):
                        feed.progress = to_message(event, generate_pb2.Progress)
                        await feed.put(Event(progress=feed.progress))
                        continue
                    if first is None:
                        first = time.perf_counter()
                        feed.progress = generate_pb2.Progress(
                            state=generate_pb2.PROGRESS_STATE_GENERATING
                        )
                    if isinstance(event, Completion):
                        numbering.check(event)
                        return self._build_reply(request, event, record, first)
                    for delta in numbering.number(check_type(event, Delta, "stream_response")):
                        await feed.put(Event(delta=build_message(delta, generate_pb2.PartDelta)))
        except BackendError as error:
            if first is not None:
                partial = self._interrupt(request, numbering, error)
                interruption = build_message(partial, reply_pb2.GenerateResponse)
                await feed.put(Event(interruption=interruption))
            raise
        raise ContractError("the stream ended without a completion")

    def _find_call(
        self, request: GenerationRequest, digest: bytes, record: CallRecord
    ) -> SharedCall | None:
        """Return the call or the kept reply with the id of this request."""
        call = self._calls.find(request.request_id, digest) if digest else None
        if call is not None:
            record.add(replayed=True)
        return call

    def _interrupt(
        self, request: GenerationRequest, numbering: PartNumbering, error: BackendError
    ) -> Completion:
        """Return what a stream had generated and paid when it failed."""
        report = error.report or CallReport()
        return Completion(
            numbering.message(),
            FinishReason.INTERRUPTED,
            report.usage,
            self._served_by(request.model),
            request_id=request.request_id,
            attempts=report.attempts,
        )

    async def Score(self, data: bytes, context: Context) -> bytes:
        async with CallScope("Score", context) as record, self._admit(data):
            check_client(context)
            request = await _apply(self._check_score, data, record)
            scoring = check_type(await self._backend.score(request), Scoring, "score")
            scoring = check_scoring(scoring, request)
            message = build_message(scoring, score_pb2.ScoreResponse)
            self._complete(message, request, record)
            record.add_result(scoring.usage, self._is_free)
            return message.SerializeToString()

    async def CountTokens(self, data: bytes, context: Context) -> bytes:
        async with CallScope("CountTokens", context) as record, self._admit(data):
            check_client(context)
            request = await _apply(self._check_count, data, record)
            count = check_type(
                await self._backend.count_tokens(request), TokenCount, "count_tokens"
            )
            return build_message(count, score_pb2.CountTokensResponse).SerializeToString()

    async def IsAvailable(self, data: bytes, context: Context) -> bytes:
        async with CallScope("IsAvailable", context) as record:
            proto = parse(models_pb2.IsAvailableRequest, data)
            record.add_request(proto.model, "", {})
            check_client(context)
            check_known(proto)
            answer = await self._check_availability(proto.model)
            return build_message(answer, models_pb2.IsAvailableResponse).SerializeToString()

    async def ListModels(self, data: bytes, context: Context) -> bytes:
        async with CallScope("ListModels", context):
            proto = parse(models_pb2.ListModelsRequest, data)
            check_client(context)
            check_known(proto)
            models = check_models(await self._backend.get_available_models(), self._prefix)
            page, token = make_page(models, proto)
            answer = ModelList(tuple(map(self._complete_model, page)), token)
            return build_message(answer, models_pb2.ListModelsResponse).SerializeToString()

    async def GetServiceInfo(self, data: bytes, context: Context) -> bytes:
        async with CallScope("GetServiceInfo", context):
            check_known(parse(service_info_pb2.GetServiceInfoRequest, data))
            replica = ReplicaInfo("", ReplicaState.SERVING, "", SOFTWARE_VERSION, REVISION)
            backend = BackendInfo(self.name, (self._prefix,), (replica,))
            answer = make_service_info(self.name, self._limits, [backend])
            return to_message(answer, service_info_pb2.GetServiceInfoResponse).SerializeToString()

    async def _check_availability(self, model: str) -> Availability:
        try:
            check_model(model)
            self._check_prefix(model)
        except ModelNotFound as error:
            return Availability(False, ModelState.MISCONFIGURED, error.message, reason=error.reason)
        answer = await self._backend.is_model_available(model)
        answer = check_type(answer, Availability, "is_model_available")
        return replace(answer, model=self._complete_model(answer.model or Model(model)))

    def _complete_model(self, model: Model) -> Model:
        """Add what holds for every model of the backend."""
        fields = model.supported_fields or self._supported_fields
        known = model.supported_fields_known or not model.supported_fields
        price = model.price or (FreePrice() if self._is_free else None)
        return replace(
            model,
            backend=self.name,
            supported_fields=fields,
            supported_fields_known=known,
            price=price,
        )

    @cached_property
    def _supported_fields(self) -> tuple[str, ...]:
        return tuple(sorted(self._refusals.honoured))

    async def _read_request(
        self, data: bytes, context: Context, record: CallRecord
    ) -> tuple[GenerationRequest, bytes]:
        """Return the request, and its digest if its caller gave it an id."""
        check_client(context)
        remaining = context.time_remaining()
        deadline = None if remaining is None else time.monotonic() + remaining
        return await _apply(self._check_request, data, record, deadline)

    def _check_request(
        self, data: bytes, record: CallRecord, deadline: float | None
    ) -> tuple[GenerationRequest, bytes]:
        """Check a request, and convert it."""
        proto, found = _parse(generate_pb2.GenerateRequest, data)
        is_shared = bool(proto.request_id) and self._limits.request_id_seconds > 0
        proto.request_id = proto.request_id or _make_id()
        record.add_request(proto.model, proto.session, proto.labels, proto.request_id)
        check_generate(proto, known=found is not None)
        self._check_prefix(proto.model)
        self._refusals.check_generate(proto)
        request = from_message(proto, GenerationRequest, deadline=deadline)
        if not is_shared:
            return request, b""
        return request, digest_fields(data, found) if found else digest_request(proto)

    def _check_score(self, data: bytes, record: CallRecord) -> ScoringRequest:
        proto, found = _parse(score_pb2.ScoreRequest, data)
        proto.request_id = proto.request_id or _make_id()
        record.add_request(proto.model, proto.session, proto.labels, proto.request_id)
        check_score(proto, known=found is not None)
        self._check_prefix(proto.model)
        self._refusals.check_score()
        self._refusals.check_input(proto)
        return from_message(proto, ScoringRequest)

    def _check_count(self, data: bytes, record: CallRecord) -> CountRequest:
        proto, found = _parse(score_pb2.CountTokensRequest, data)
        record.add_request(proto.model, "", {})
        check_count_tokens(proto, known=found is not None)
        self._check_prefix(proto.model)
        self._refusals.check_count_tokens()
        self._refusals.check_input(proto)
        return from_message(proto, CountRequest)

    def _check_prefix(self, model: str) -> None:
        if not model.startswith(self._prefix):
            raise ModelNotFound(
                f"{model!r} is not a model of this service: its models start with {self._prefix!r}",
                field="model",
                metadata={"model": model[:MAX_NAME]},
            )

    def _build_reply(
        self,
        request: GenerationRequest,
        completion: Completion,
        record: CallRecord,
        first: float | None = None,
    ) -> reply_pb2.GenerateResponse:
        """Check the completion, and add what the backend did not set.

        first: when the first part of the completion arrived, by time.perf_counter(); None for one
        that came whole.
        """
        completion = check_completion(completion, request)
        if completion.served_by.model and not completion.served_by.model.startswith(self._prefix):
            raise ContractError(f"the completion's model does not start with {self._prefix!r}")
        if completion.id:
            record.add(id=completion.id[:MAX_NAME])
        record.add_result(completion.usage, self._is_free)
        message = build_message(completion, reply_pb2.GenerateResponse)
        self._complete(message, request, record, first)
        return message

    def _complete(
        self,
        message: Any,
        request: GenerationRequest | ScoringRequest,
        record: CallRecord,
        first: float | None = None,
    ) -> None:
        """Add to a reply what the backend did not set: who answered, cost, times, and the id."""
        message.request_id = request.request_id
        served_by, usage, timings = message.served_by, message.usage, message.timings
        served_by.backend = self.name
        served_by.service_version = SOFTWARE_VERSION
        if not served_by.model:
            served_by.model = request.model
        if self._is_free and not usage.HasField("cost_picousd"):
            usage.cost_picousd = 0
            usage.cost_basis = reply_pb2.COST_BASIS_FREE
        if not timings.HasField("total_seconds"):
            timings.queue_seconds = 0.0
            if first is not None:
                timings.first_token_seconds = first - record.started
            timings.total_seconds = time.perf_counter() - record.started
        record.add_timings(timings)

    def _served_by(self, model: str) -> ServedBy:
        return ServedBy(self.name, model, service_version=SOFTWARE_VERSION)


T = TypeVar("T")
M = TypeVar("M", bound=ProtoMessage)


async def _apply(check: Callable[..., T], data: bytes, *arguments: Any) -> T:
    """Check the bytes of a request; a large one in another thread, so that other calls run."""
    if len(data) <= SMALL:
        return check(data, *arguments)
    return await asyncio.to_thread(check, data, *arguments)


def _parse(message_type: type[M], data: bytes) -> tuple[M, Scan | None]:
    """Parse a request. A large one is scanned first: it then has no unknown fields."""
    found = None
    if len(data) > SMALL:
        found = scan(message_type.DESCRIPTOR, data)
    message = parse_scanned(message_type, data)
    if found and found.unknown:
        refuse_unknown(found.unknown)
    return message, found


def _mark_replayed(reply: reply_pb2.GenerateResponse) -> reply_pb2.GenerateResponse:
    """Return a copy of an earlier reply that says so."""
    copy = reply_pb2.GenerateResponse()
    copy.CopyFrom(reply)
    copy.replayed = True
    return copy


def _make_id() -> str:
    return secrets.token_hex(16)
