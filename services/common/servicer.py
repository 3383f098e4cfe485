"""The one servicer: validates a request, calls the backend, checks and sends its reply."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from arena_llm.types import (
    Availability,
    Completion,
    Delta,
    GenerationRequest,
    ModelList,
    ModelState,
    Price,
    Scoring,
    ScoringRequest,
    Timings,
)
from arena_llm.v1 import generate_pb2, models_pb2, score_pb2
from arena_llm.wire import from_message, to_message
from services.common.backend import BaseLLMBackend
from services.common.call import CallRecord, CallScope
from services.common.errors import ContractError, ModelNotFound
from services.common.handlers import Context, parse
from services.common.reply import (
    check_completion,
    check_models,
    check_scoring,
    check_stream,
    check_type,
    repair_delta,
)
from services.common.validation import (
    MAX_NAME,
    Refusals,
    check_generate,
    check_model,
    check_score,
)


class LlmServicer:
    """LlmService over one backend."""

    def __init__(self, backend: BaseLLMBackend[Any]) -> None:
        self._backend = backend
        self.name = backend.name
        self.forwards_calls = backend.forwards_calls
        self._prefix = f"{backend.name}_"
        self._refusals = Refusals(backend)
        #: The price of a model for which the backend states none: a model that this machine
        #: runs costs nothing, and the price of a hosted model is unknown.
        self._price = None if backend.forwards_calls else Price(0.0, 0.0)

    async def start(self) -> None:
        """Start the backend."""
        await self._backend.start()

    async def failed(self) -> str:
        """Wait until the backend cannot continue, and return the reason."""
        return await self._backend.failed()

    async def aclose(self) -> None:
        """Close the backend."""
        await self._backend.aclose()

    async def Generate(self, data: bytes, context: Context) -> bytes:
        async with CallScope("Generate", context) as record:
            request = self._read_request(data, context, record)
            completion = check_type(
                await self._backend.generate_response(request), Completion, "generate_response"
            )
            return self._build_reply(
                request, completion, record, record.started
            ).SerializeToString()

    async def StreamGenerate(self, data: bytes, context: Context) -> AsyncIterator[bytes]:
        async with CallScope("StreamGenerate", context) as record:
            request = self._read_request(data, context, record)
            first = 0.0
            texts: list[str] = []
            async with aclosing(self._backend.stream_response(request)) as events:
                async for event in events:
                    first = first or time.perf_counter()
                    if isinstance(event, Completion):
                        check_stream(texts, event)
                        completion = self._build_reply(request, event, record, first)
                        yield generate_pb2.StreamGenerateResponse(
                            completion=completion
                        ).SerializeToString()
                        return
                    texts.append(check_type(event, Delta, "stream_response").text)
                    for delta in _split_delta(repair_delta(event)):
                        yield delta.SerializeToString()
            raise ContractError("the stream ended without a completion")

    async def Score(self, data: bytes, context: Context) -> bytes:
        async with CallScope("Score", context) as record:
            proto = parse(score_pb2.ScoreRequest, data)
            record.add_request(proto.model, proto.session, proto.labels)
            check_score(proto)
            self._check_prefix(proto.model)
            self._refusals.check_score()
            request = from_message(proto, ScoringRequest)
            scoring = check_type(await self._backend.score(request), Scoring, "score")
            record.add_result(scoring.usage)
            answer = replace(check_scoring(scoring, request), backend=self.name)
            message = to_message(answer, score_pb2.ScoreResponse)
            self._add_cost(message.usage)
            return message.SerializeToString()

    async def IsAvailable(self, data: bytes, context: Context) -> bytes:
        async with CallScope("IsAvailable", context) as record:
            proto = parse(models_pb2.IsAvailableRequest, data)
            record.add_request(proto.model, "", {})
            answer = await self._check_availability(proto.model)
            return to_message(answer, models_pb2.IsAvailableResponse).SerializeToString()

    async def ListModels(self, data: bytes, context: Context) -> bytes:
        async with CallScope("ListModels", context):
            parse(models_pb2.ListModelsRequest, data)
            models = check_models(await self._backend.get_available_models(), self._prefix)
            named = tuple(
                replace(model, backend=self.name, price=model.price or self._price)
                for model in models
            )
            return to_message(ModelList(named), models_pb2.ListModelsResponse).SerializeToString()

    async def _check_availability(self, model: str) -> Availability:
        if not model:
            return Availability(True, ModelState.READY, f"the {self.name} service answers")
        try:
            check_model(model)
            self._check_prefix(model)
        except ModelNotFound as error:
            return Availability(False, ModelState.MISCONFIGURED, error.message, reason=error.reason)
        answer = await self._backend.is_model_available(model)
        answer = check_type(answer, Availability, "is_model_available")
        return replace(answer, price=answer.price or self._price)

    def _read_request(self, data: bytes, context: Context, record: CallRecord) -> GenerationRequest:
        proto = parse(generate_pb2.GenerateRequest, data)
        record.add_request(proto.model, proto.session, proto.labels)
        check_generate(proto)
        self._check_prefix(proto.model)
        remaining = context.time_remaining()
        deadline = None if remaining is None else time.monotonic() + remaining
        request = from_message(proto, GenerationRequest, deadline=deadline)
        self._refusals.check_generate(request)
        return request

    def _check_prefix(self, model: str) -> None:
        if not model.startswith(self._prefix):
            raise ModelNotFound(
                f"{model!r} is not a model of this service: its models start with {self._prefix!r}",
                field="model",
            )

    def _build_reply(
        self, request: GenerationRequest, completion: Completion, record: CallRecord, first: float
    ) -> generate_pb2.GenerateResponse:
        """Check the completion. Add the backend's name, and the times if it has none.

        first: when the first part of the completion arrived, by time.perf_counter().
        """
        completion = check_completion(completion, request, self._prefix)
        timings = completion.timings
        if not timings.total_seconds:
            now = time.perf_counter()
            timings = Timings(
                0.0, (first - record.started) or (now - record.started), now - record.started
            )
            completion = replace(completion, timings=timings)
        if completion.id:
            record.add(id=completion.id[:MAX_NAME])
        record.add_result(completion.usage, timings)
        proto = to_message(completion, generate_pb2.GenerateResponse)
        proto.backend = self.name
        self._add_cost(proto.usage)
        return proto

    def _add_cost(self, usage: generate_pb2.Usage) -> None:
        if self._price is not None and not usage.HasField("cost_usd"):
            usage.cost_usd = 0.0


def _split_delta(delta: Delta) -> list[generate_pb2.StreamGenerateResponse]:
    """Return the events of a delta: its reasoning and its text, those that are not empty."""
    events = []
    if delta.reasoning:
        events.append(generate_pb2.StreamGenerateResponse(reasoning_delta=delta.reasoning))
    if delta.text:
        events.append(generate_pb2.StreamGenerateResponse(text_delta=delta.text))
    return events
