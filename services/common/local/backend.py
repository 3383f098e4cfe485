"""The base of backends whose models run on this machine."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Sequence
from typing import Protocol, TypeVar

from arena_llm.types import Availability, Capability, Model, ModelState, Price
from services.common.backend import BaseLLMBackend
from services.common.config import ModelEntry, ServiceConfig
from services.common.errors import BackendError
from services.common.local.slot import misconfigured

#: What every local engine can do with every model: players may change engines.
CAPABILITIES = (
    Capability.SCORE,
    Capability.CHOICES,
    Capability.JSON_SCHEMA,
    Capability.REGEX,
    Capability.LOGPROBS,
    Capability.SEED,
)


class Pool(Protocol):
    """The configured models, each loaded once."""

    def availability(self, name: str) -> Availability:
        """The model's state, without touching it. Raises BackendError for what is wrong."""

    def context_length(self, name: str) -> int | None:
        """Tokens of prompt and completion together, once they are known."""

    def capabilities(self, name: str) -> tuple[Capability, ...]:
        """What the model can do; some of it shows when it runs."""


C = TypeVar("C", bound=ServiceConfig)


class LocalBackend(BaseLLMBackend[C]):
    """Its server answers before its library is imported; calls then wait for the pool.

    A subclass's `start` sets `_pool` and then `_has_pool`.
    """

    _pool: Pool

    def __init__(self, config: C) -> None:
        super().__init__(config)
        self._has_pool = asyncio.Event()

    @property
    @abstractmethod
    def entries(self) -> Sequence[ModelEntry]:
        """Every model that can be asked for."""

    async def is_model_available(self, model: str) -> Availability:
        """Tell the model's state from memory and disk alone."""
        if not self._has_pool.is_set():
            detail = f"{self.name} is starting; calls wait for it"
            return Availability(True, ModelState.LOADING, detail)
        try:
            return self._pool.availability(model)
        except BackendError as error:
            return misconfigured(error)

    async def get_available_models(self) -> Sequence[Model]:
        """List the configured models."""
        known = self._has_pool.is_set()
        return [
            Model(
                name=entry.name,
                description=entry.description,
                context_length=self._pool.context_length(entry.name) if known else None,
                capabilities=self._pool.capabilities(entry.name) if known else (),
                price=Price(0.0, 0.0),  # it runs on this machine
            )
            for entry in self.entries
        ]
