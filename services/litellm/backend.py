"""BaseLLMBackend over litellm. The library is imported by `start`, not by this file."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from arena_llm.types import (
    Availability,
    Completion,
    Delta,
    GenerationRequest,
    Model,
    ModelState,
    Timings,
)
from services.common.backend import BaseLLMBackend
from services.common.errors import ApiKeyMissing, BackendError
from services.common.hosted.attempts import Answered, Attempts
from services.common.hosted.constraints import constrained
from services.common.hosted.redaction import Redactor
from services.litellm.config import LiteLlmConfig
from services.litellm.keys import ENVIRONMENT, forget_empty, secrets
from services.litellm.parameters import arguments_of
from services.litellm.quiet import import_litellm
from services.litellm.replies import Assembly, completion_of

if TYPE_CHECKING:
    from services.litellm.catalogue import Catalogue, Known
    from services.litellm.upstream import Upstream

#: What an open stream is: its first event, and the others.
_Opened = tuple[Delta | Completion, AsyncGenerator[Delta | Completion, None]]


class LiteLlmBackend(BaseLLMBackend[LiteLlmConfig]):
    """The models of 100+ providers, each with its provider's own key."""

    name = "litellm"
    config_type = LiteLlmConfig
    environment = ENVIRONMENT

    _catalogue: Catalogue
    _upstream: Upstream

    def __init__(self, config: LiteLlmConfig) -> None:
        super().__init__(config)
        # The server answers before litellm is imported; calls then wait for it.
        self._ready = asyncio.Event()

    async def start(self) -> None:
        """Import litellm; asks nothing of any provider, and wants no key."""
        forget_empty()
        self._attempts = Attempts(self.config)
        self._catalogue = await asyncio.to_thread(_load, self.config)
        from services.litellm.upstream import Upstream  # litellm is in memory by now

        self._upstream = Upstream(self.config, Redactor(secrets()))
        self._ready.set()

    async def aclose(self) -> None:
        """Close all connections."""
        if self._ready.is_set():
            await self._upstream.aclose()

    async def generate_response(self, request: GenerationRequest) -> Completion:
        """Answer with one whole completion."""
        known = await self._callable(request.model)
        return await constrained(request, self._ask, known.structured)

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
        arrived = time.perf_counter()
        known = await self._callable(request.model)
        arguments = self._arguments(request, known)
        async with self._attempts.open(
            request.model, request.deadline, lambda: self._open(arguments, known)
        ) as answered:
            first = time.perf_counter() - arrived
            event, others = answered.value
            while isinstance(event, Delta):
                yield event
                event = await anext(others)
            yield _measured(event, answered, arrived, first)

    async def is_model_available(self, model: str) -> Availability:
        """Tell from the configuration and the environment alone; no provider is asked."""
        if not self._ready.is_set():
            return Availability(True, ModelState.LOADING, "litellm is starting; calls wait for it")
        try:
            known = await self._callable(model)
        except BackendError as error:
            return Availability(False, ModelState.MISCONFIGURED, error.message, reason=error.reason)
        return Availability(
            True,
            ModelState.READY,
            f"{known.provider} is not asked before a call",
            price=known.price,
        )

    async def get_available_models(self) -> Sequence[Model]:
        """List the configured models, with what litellm's tables say of them."""
        if not self._ready.is_set():
            return [
                Model(entry.name, description=entry.description) for entry in self.config.models
            ]
        return [await self._model(entry.name, entry.description) for entry in self.config.models]

    async def _model(self, name: str, description: str) -> Model:
        try:
            known = await self._catalogue.find(name)
        except BackendError as error:
            return Model(name, description=description or error.message)
        return Model(
            name=name,
            description=description,
            context_length=known.context_length,
            capabilities=known.capabilities,
            price=known.price,
        )

    async def _callable(self, model: str) -> Known:
        """What is known of a model that has its key; raises ApiKeyMissing, ModelNotFound."""
        await self._ready.wait()
        known = await self._catalogue.find(model)
        if known.missing:
            raise ApiKeyMissing(
                f"{', '.join(known.missing)} must be set for {model}: put it into .env or "
                "the environment, then make down and make up",
                metadata={"variable": known.missing[0]},
            )
        return known

    def _arguments(
        self,
        request: GenerationRequest,
        known: Known,
        response_format: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        from services.litellm.catalogue import INTERNAL  # litellm is in memory by now

        arguments = arguments_of(request, known, INTERNAL, response_format)
        if known.entry.api_base is not None:
            arguments["api_base"] = known.entry.api_base
        if known.entry.key_variable is not None:
            arguments["api_key"] = os.environ[known.entry.key_variable]
        return arguments

    async def _ask(
        self, request: GenerationRequest, response_format: Mapping[str, Any] | None
    ) -> Completion:
        arrived = time.perf_counter()
        known = await self._catalogue.find(request.model)
        arguments = self._arguments(request, known, response_format)
        timeout = self.config.timeout(request.model)

        async def attempt() -> Completion:
            reply = await self._upstream.complete(arguments, known.provider, timeout)
            return completion_of(reply, known)

        answered = await self._attempts.call(request.model, request.deadline, attempt)
        return _measured(answered.value, answered, arrived)

    @asynccontextmanager
    async def _open(self, arguments: Mapping[str, Any], known: Known) -> AsyncIterator[_Opened]:
        """A stream of which the first event has come: from then on nothing is tried again."""
        async with aclosing(self._events(arguments, known)) as events:
            yield await anext(events), events

    async def _events(
        self, arguments: Mapping[str, Any], known: Known
    ) -> AsyncGenerator[Delta | Completion, None]:
        assembly = Assembly(known)
        timeout = self.config.timeout(known.full_name)
        async with aclosing(self._upstream.stream(arguments, known.provider, timeout)) as chunks:
            async for chunk in chunks:
                if (delta := assembly.add(chunk)) is not None:
                    yield delta
        yield assembly.completion()


def _load(config: LiteLlmConfig) -> Catalogue:
    import_litellm()
    from services.litellm import upstream  # noqa: F401 - imported here, in the thread
    from services.litellm.catalogue import Catalogue
    from services.litellm.gemini import tell_the_end

    tell_the_end()
    return Catalogue(config)


def _measured(
    completion: Completion,
    answered: Answered[Any],
    arrived: float,
    first: float | None = None,
) -> Completion:
    """The completion with its tries and its times; without `first` it came whole."""
    total = time.perf_counter() - arrived
    timings = Timings(answered.queue_seconds, total if first is None else first, total)
    return replace(completion, attempts=answered.attempts, timings=timings)
