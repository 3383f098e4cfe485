"""The base of backends whose models run on this machine."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any, ClassVar, Self, TypeVar

from arena_llm.types import (
    Availability,
    Completion,
    CountRequest,
    Delta,
    GenerationRequest,
    Model,
    ModelState,
    Progress,
    ProgressState,
    Scoring,
    ScoringRequest,
    TokenCount,
)
from services.common.backend import BaseLLMBackend
from services.common.config import ConfigError, ModelEntry, ServiceConfig
from services.common.errors import BackendError
from services.common.local.features import LOCAL_FIELDS, REFUSED_LOCALLY
from services.common.local.pool import LocalEngine, ModelPool, misconfigured
from services.common.metrics import Figures, meter

C = TypeVar("C", bound=ServiceConfig)


class LocalBackend(BaseLLMBackend[C]):
    """Serves the models of a pool.

    The server accepts calls before the engine's library is imported; they wait for the pool.
    """

    fields = LOCAL_FIELDS
    can_score = True
    can_count_tokens = True
    refused: ClassVar[Mapping[str, str]] = REFUSED_LOCALLY

    _pool: ModelPool[Any, Any]

    def __init__(self, config: C) -> None:
        super().__init__(config)
        self._has_pool = asyncio.Event()

    @property
    @abstractmethod
    def entries(self) -> Sequence[ModelEntry]:
        """Every model that a request can name."""

    @property
    @abstractmethod
    def slots(self) -> Sequence[ModelEntry]:
        """Every entry that has an engine of its own."""

    @abstractmethod
    async def _make_pool(self) -> ModelPool[Any, Any]:
        """Import the engine's library and make the pool. Raises ConfigError."""

    async def start(self) -> None:
        """Import the engine's library, then load the models that are marked `preload`."""
        self._pool = await self._make_pool()
        self._has_pool.set()
        meter.watch("running", self._show_running)
        meter.watch("waiting", self._show_waiting)
        await self._pool.preload()

    def _show_running(self) -> Figures:
        for model, load in self._pool.loads():
            yield meter.labels(model), load.running

    def _show_waiting(self) -> Figures:
        for model, load in self._pool.loads():
            yield meter.labels(model), load.waiting

    async def reconfigure(self, config: C) -> Self:
        """Take the models of another configuration; those that stay the same stay loaded."""
        await self._has_pool.wait()
        old, self.config = self.config, config
        try:
            self._pool.reconfigure(self.slots)
        except ConfigError:
            self.config = old
            raise
        self._preloading = asyncio.create_task(self._pool.preload())
        return self

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
    ) -> AsyncGenerator[Delta | Progress | Completion, None]:
        """Yield the parts as they grow, then the completion. A model's loading is shown first."""
        return self._run(request, stream=True)

    async def score(self, request: ScoringRequest) -> Scoring:
        """Return each continuation's log-probability."""
        async with self._engine(request.model) as engine:
            return await engine.score(request)

    async def count_tokens(self, request: CountRequest) -> TokenCount:
        """Return the number of tokens of an input."""
        async with self._engine(request.model) as engine:
            return await engine.count_tokens(request)

    async def is_model_available(self, model: str) -> Availability:
        """Report the model's state from memory and disk, without loading it."""
        if not self._has_pool.is_set():
            detail = f"{self.name} is starting; calls wait for it"
            return Availability(True, ModelState.LOADING, detail)
        try:
            answer = self._pool.availability(model)
        except BackendError as error:
            return misconfigured(error)
        entries = (entry for entry in self.entries if entry.name == model)
        return replace(answer, model=self._describe(next(entries)))

    async def get_available_models(self) -> Sequence[Model]:
        """List the configured models."""
        return [*map(self._describe, self.entries)]

    def _describe(self, entry: ModelEntry) -> Model:
        if not self._has_pool.is_set():
            return Model(entry.name, description=entry.description)
        return self._pool.describe(entry)

    async def _run(
        self, request: GenerationRequest, *, stream: bool
    ) -> AsyncGenerator[Delta | Progress | Completion, None]:
        if stream and (not self._has_pool.is_set() or self._pool.must_load(request.model)):
            yield Progress(ProgressState.LOADING)
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
