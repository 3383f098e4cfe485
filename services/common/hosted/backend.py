"""The base class of hosted backends: the way of a request, whole or streamed."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Any, ClassVar, TypeVar

from arena_llm.types import Completion, Delta, GenerationRequest, Timings
from services.common.backend import BaseLLMBackend
from services.common.errors import BackendError, ModelNotFound, Unsupported
from services.common.hosted.assembly import Assembly
from services.common.hosted.attempts import Answered, Attempts
from services.common.hosted.config import HostedConfig
from services.common.hosted.constraints import constrained
from services.common.hosted.redaction import Redactor
from services.common.hosted.rules import ResponseFormat

C = TypeVar("C", bound=HostedConfig[Any])

_Event = Delta | Completion


class Asked(ABC):
    """A request in the provider's words. Each try calls `whole` or `stream` again.

    logprobs: whether log-probabilities are asked for.
    """

    logprobs: bool

    @abstractmethod
    async def whole(self) -> Completion:
        """Ask for a whole completion."""

    @abstractmethod
    def stream(self) -> tuple[Assembly, AsyncGenerator[Any, None]]:
        """Ask for a stream: its pieces, to the end, and what makes deltas and a completion
        of them. Closing the generator ends the request."""

    async def explained(self, error: ModelNotFound) -> BackendError:
        """What a 404 means here, if more than it says."""
        return error


class HostedBackend(BaseLLMBackend[C]):
    """Tries, limits, times and constraints of all hosted models.

    A subclass says how its provider is asked: `_asked` and `_structured`. Its `start` sets
    `_redact`.
    """

    forwards_calls = True
    parameters = frozenset(
        {
            *("temperature", "top_p", "top_k", "max_tokens", "seed", "stop"),
            *("presence_penalty", "frequency_penalty", "logprobs"),
        }
    )
    constraints = frozenset({"choices", "json_schema"})
    takes_provider_options = True
    refused: ClassVar[Mapping[str, str]] = {
        "constraint.regex": "use choices or json_schema, or a local backend (hf, vllm)",
        "score": "use a local backend (hf, vllm)",
    }
    _attempts: Attempts
    _redact: Redactor

    async def start(self) -> None:
        """Make ready; asks nothing of the provider."""
        self._attempts = Attempts(self.config)

    async def generate_response(self, request: GenerationRequest) -> Completion:
        """Answer with one whole completion."""
        with self._without_keys():
            structured = request.constraint is not None and await self._structured(request.model)
            return await constrained(request, self._ask, structured)

    async def stream_response(
        self, request: GenerationRequest
    ) -> AsyncGenerator[Delta | Completion, None]:
        """Yield the text as it grows, then the completion.

        A constrained text is checked first and comes as one piece.
        """
        if request.constraint is not None:
            async with aclosing(super().stream_response(request)) as whole:
                async for event in whole:
                    yield event
            return
        with self._without_keys():
            arrived = time.perf_counter()
            asked = await self._asked(request, None)
            try:
                async with self._attempts.open(
                    request.model, request.deadline, lambda: _opened(asked)
                ) as answered:
                    first = time.perf_counter() - arrived
                    event, others = answered.value
                    while isinstance(event, Delta):
                        yield event
                        event = await anext(others)
                    yield _finished(event, asked, answered, arrived, first)
            except ModelNotFound as error:
                raise await asked.explained(error) from error.__cause__

    @contextmanager
    def _without_keys(self) -> Iterator[None]:
        """Hide keys in the error that goes out. It may repeat any part of an answer: a refusal,
        a tool's name, a field that cannot be read."""
        try:
            yield
        except BackendError as error:
            error.message = self._redact.hide(error.message)
            error.metadata = {k: self._redact.hide(v) for k, v in error.metadata.items()}
            raise

    @abstractmethod
    async def _asked(
        self, request: GenerationRequest, response_format: ResponseFormat | None
    ) -> Asked:
        """The request in the provider's words; raises what the request itself does wrong."""

    @abstractmethod
    async def _structured(self, model: str) -> bool:
        """Whether the model keeps to a JSON schema."""

    async def _ask(
        self, request: GenerationRequest, response_format: ResponseFormat | None
    ) -> Completion:
        arrived = time.perf_counter()
        asked = await self._asked(request, response_format)
        try:
            answered = await self._attempts.call(request.model, request.deadline, asked.whole)
        except ModelNotFound as error:
            raise await asked.explained(error) from error.__cause__
        return _finished(answered.value, asked, answered, arrived)


@asynccontextmanager
async def _opened(asked: Asked) -> AsyncIterator[tuple[_Event, AsyncGenerator[_Event, None]]]:
    """A stream of which the first event has come: from then on nothing is tried again."""
    async with aclosing(_events(asked)) as events:
        yield await anext(events), events


async def _events(asked: Asked) -> AsyncGenerator[_Event, None]:
    assembly, pieces = asked.stream()
    async with aclosing(pieces) as chunks:
        async for chunk in chunks:
            if (delta := assembly.add(chunk)) is not None:
                yield delta
    if (delta := assembly.rest()) is not None:
        yield delta
    yield assembly.completion()


def _finished(
    completion: Completion,
    asked: Asked,
    answered: Answered[Any],
    arrived: float,
    first: float | None = None,
) -> Completion:
    """The completion with its tries and its times; without `first` it came whole.

    Raises Unsupported where log-probabilities were asked for and did not come: some
    providers leave them out although they were told to honour all parameters.
    """
    if asked.logprobs and completion.text and not completion.logprobs:
        raise Unsupported(
            f"the provider of {completion.model} returned no log-probabilities",
            field="config.logprobs",
        )
    total = time.perf_counter() - arrived
    timings = Timings(answered.queue_seconds, total if first is None else first, total)
    return replace(completion, attempts=answered.attempts, timings=timings)
