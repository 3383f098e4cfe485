"""The base class of the backends that call a provider over the network."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import replace
from typing import Any, ClassVar, TypeVar

from arena_llm.types import Completion, Delta, GenerationRequest, Timings
from services.common.backend import BaseLLMBackend
from services.common.errors import BackendError, ModelNotFound, Unsupported
from services.common.hosted.completion import CompletionBuilder
from services.common.hosted.config import HostedConfig
from services.common.hosted.constraints import generate_constrained
from services.common.hosted.keys import Redactor
from services.common.hosted.request import CHAT_PARAMETERS, ResponseFormat
from services.common.hosted.retry import Outcome, Retrier

C = TypeVar("C", bound=HostedConfig[Any])

_Event = Delta | Completion


class ProviderCall(ABC):
    """A request in the provider's format. Each attempt calls `complete` or `stream` again.

    logprobs: whether log-probabilities are requested.
    """

    logprobs: bool

    @abstractmethod
    async def complete(self) -> Completion:
        """Request a whole completion."""

    @abstractmethod
    def stream(self) -> tuple[CompletionBuilder, AsyncGenerator[Any, None]]:
        """Request a stream. Return its chunks, and the builder to feed with them.

        Closing the generator ends the provider's request.
        """

    async def explain(self, error: ModelNotFound) -> BackendError:
        """Return the error to raise for a 404. A subclass may find a more precise one."""
        return error


class HostedBackend(BaseLLMBackend[C]):
    """Retries, limits, timings and constraints of all hosted models.

    A subclass implements `_build_call` and `_takes_schema`, and sets `_redact` in `start`.
    """

    forwards_calls = True
    parameters = frozenset(CHAT_PARAMETERS)
    constraints = frozenset({"choices", "json_schema"})
    takes_provider_options = True
    refused: ClassVar[Mapping[str, str]] = {
        "constraint.regex": "use choices or json_schema, or a local backend (hf, vllm)",
        "score": "use a local backend (hf, vllm)",
    }
    _retrier: Retrier
    _redact: Redactor

    async def start(self) -> None:
        """Make the limits and queues. No request is sent to the provider."""
        self._retrier = Retrier(self.config)

    async def generate_response(self, request: GenerationRequest) -> Completion:
        """Return a whole completion."""
        with self._keys_hidden():
            structured = request.constraint is not None and await self._takes_schema(request.model)
            return await generate_constrained(request, self._generate, structured)

    async def stream_response(
        self, request: GenerationRequest
    ) -> AsyncGenerator[Delta | Completion, None]:
        """Yield the text as it arrives, then the completion.

        A constrained text is checked before it is sent, so it arrives in one piece.
        """
        if request.constraint is not None:
            async with aclosing(super().stream_response(request)) as events:
                async for event in events:
                    yield event
            return
        with self._keys_hidden():
            arrived = time.perf_counter()
            call = await self._build_call(request, None)
            try:
                async with self._retrier.open(
                    request.model, request.deadline, lambda: _open_stream(call)
                ) as outcome:
                    first = time.perf_counter() - arrived
                    event, events = outcome.value
                    async with aclosing(events):
                        while isinstance(event, Delta):
                            yield event
                            event = await anext(events)
                        yield _add_measurements(event, call, outcome, arrived, first)
            except ModelNotFound as error:
                raise await call.explain(error) from error.__cause__

    @contextmanager
    def _keys_hidden(self) -> Iterator[None]:
        """Hide keys in an error that leaves the block.

        Its message may repeat any part of an answer: a refusal, the name of a tool, a field that
        cannot be read.
        """
        try:
            yield
        except BackendError as error:
            error.message = self._redact.hide(error.message)
            error.metadata = {k: self._redact.hide(v) for k, v in error.metadata.items()}
            raise

    @abstractmethod
    async def _build_call(
        self, request: GenerationRequest, response_format: ResponseFormat | None
    ) -> ProviderCall:
        """Translate the request. Raises BackendError if the request cannot be sent."""

    @abstractmethod
    async def _takes_schema(self, model: str) -> bool:
        """Whether the model takes a JSON schema as `response_format`."""

    async def _generate(
        self, request: GenerationRequest, response_format: ResponseFormat | None
    ) -> Completion:
        arrived = time.perf_counter()
        call = await self._build_call(request, response_format)
        try:
            outcome = await self._retrier.call(request.model, request.deadline, call.complete)
        except ModelNotFound as error:
            raise await call.explain(error) from error.__cause__
        return _add_measurements(outcome.value, call, outcome, arrived)


async def _open_stream(call: ProviderCall) -> tuple[_Event, AsyncGenerator[_Event, None]]:
    """Wait for the first event of a stream. Return it and the generator of the others."""
    events = _read_events(call)
    return await anext(events), events


async def _read_events(call: ProviderCall) -> AsyncGenerator[_Event, None]:
    builder, chunks = call.stream()
    async with aclosing(chunks):
        async for chunk in chunks:
            if (delta := builder.feed(chunk)) is not None:
                yield delta
    if (delta := builder.flush()) is not None:
        yield delta
    yield builder.completion()


def _add_measurements(
    completion: Completion,
    call: ProviderCall,
    outcome: Outcome[Any],
    arrived: float,
    first: float | None = None,
) -> Completion:
    """Add attempts and timings to a completion.

    arrived: when the request came, on time.perf_counter's clock. first: seconds until the
    first event; None for a completion that came whole.

    Raises Unsupported if log-probabilities were requested and are missing. Some providers
    leave them out although OpenRouter required them to honour every parameter.
    """
    if call.logprobs and completion.text and not completion.logprobs:
        raise Unsupported(
            f"the provider of {completion.model} returned no log-probabilities",
            field="config.logprobs",
        )
    total = time.perf_counter() - arrived
    timings = Timings(outcome.queue_seconds, total if first is None else first, total)
    return replace(completion, attempts=outcome.attempts, timings=timings)
