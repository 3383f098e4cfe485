"""The base of backends whose models run on this machine."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, ClassVar, TypeVar

from arena_llm.types import (
    Availability,
    Completion,
    Delta,
    GenerationRequest,
    Model,
    ModelState,
    Scoring,
    ScoringRequest,
)
from services.common.backend import BaseLLMBackend
from services.common.config import ModelEntry, ServiceConfig
from services.common.errors import BackendError
from services.common.local.pool import LocalEngine, ModelPool, misconfigured
from services.common.local.request import SAMPLING_DEFAULTS

C = TypeVar("C", bound=ServiceConfig)


class LocalBackend(BaseLLMBackend[C]):
    """Serves the models of a pool.

    The server accepts calls before the engine's library is imported; they wait for the pool.
    """

    parameters = frozenset(SAMPLING_DEFAULTS)
    constraints = frozenset({"choices", "json_schema", "regex"})
    can_score = True
    refused: ClassVar[Mapping[str, str]] = {
        "provider_options": "leave it out: the model runs here, without a provider"
    }

    _pool: ModelPool[Any, Any]

    def __init__(self, config: C) -> None:
        super().__init__(config)
        self._has_pool = asyncio.Event()

    @property
    @abstractmethod
    def entries(self) -> Sequence[ModelEntry]:
        """Every model that a request can name."""

    @abstractmethod
    async def _make_pool(self) -> ModelPool[Any, Any]:
        """Import the engine's library and make the pool. Raises ConfigError."""

    async def start(self) -> None:
        """Import the engine's library, then load the models that are marked `preload`."""
        self._pool = await self._make_pool()
        self._has_pool.set()
        await self._pool.preload()

    async def failed(self) -> str:
        """Wait until this process has to restart. Returns the reason."""
        await self._has_pool.wait()
        return await self._pool.failed()

    async def aclose(self) -> None:
        """Stop the engines."""
        if self._has_pool.is_set():
            await self._pool.aclose()

    async def generate_response(self, request: GenerationRequest) -> Completion:
        """Return one whole completion."""
        async with aclosing(self._run(request, stream=False)) as events:
            async for event in events:
                if isinstance(event, Completion):
                    return event
        raise AssertionError("a stream ends with its completion")

    def stream_response(
        self, request: GenerationRequest
    ) -> AsyncGenerator[Delta | Completion, None]:
        """Yield the text as it grows, then the completion."""
        return self._run(request, stream=True)

    async def score(self, request: ScoringRequest) -> Scoring:
        """Return each continuation's summed log-probability."""
        async with self._engine(request.model) as engine:
            return await engine.score(request)

    async def is_model_available(self, model: str) -> Availability:
        """Report the model's state from memory and disk, without loading it."""
        if not self._has_pool.is_set():
            detail = f"{self.name} is starting; calls wait for it"
            return Availability(True, ModelState.LOADING, detail)
        try:
            return self._pool.availability(model)
        except BackendError as error:
            return misconfigured(error)

    async def get_available_models(self) -> Sequence[Model]:
        """List the configured models."""
        ready = self._has_pool.is_set()
        return [
            Model(
                name=entry.name,
                description=entry.description,
                context_length=self._pool.context_length(entry.name) if ready else None,
                capabilities=self._pool.capabilities(entry.name) if ready else (),
            )
            for entry in self.entries
        ]

    async def _run(
        self, request: GenerationRequest, *, stream: bool
    ) -> AsyncGenerator[Delta | Completion, None]:
        async with (
            self._engine(request.model) as engine,
            aclosing(engine.run(request, stream=stream)) as events,
        ):
            async for event in events:
                yield event

    @asynccontextmanager
    async def _engine(self, model: str) -> AsyncIterator[LocalEngine]:
        await self._has_pool.wait()
        async with self._pool.use(model) as engine:
            yield engine
