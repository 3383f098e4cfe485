"""The base class of every backend: domain types in, domain types out, no gRPC."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Sequence
from typing import ClassVar, Generic, TypeVar

from arena_llm.types import (
    Availability,
    Completion,
    Delta,
    GenerationRequest,
    Model,
    Scoring,
    ScoringRequest,
)
from services.common.config import ServiceConfig
from services.common.errors import Unsupported

C = TypeVar("C", bound=ServiceConfig)


class BaseLLMBackend(ABC, Generic[C]):
    """One source of models.

    A subclass sets `name` (its models' prefix is `name` + "_") and `config_type`,
    and implements the three abstract methods. All methods run on one event loop
    and are cancelled when the caller goes away or runs out of time: they must then
    stop the work they started.

    Errors: raise the classes of services.common.errors; anything else reaches the
    caller as INTERNAL with an id to find in the log.
    """

    name: ClassVar[str]
    config_type: type[C]
    #: Whether it waits for others' answers rather than computes its own.
    relays: ClassVar[bool] = False
    #: Variables (fnmatch patterns) that this service alone reads, such as its keys:
    #: from the environment, else from .env.
    environment: ClassVar[tuple[str, ...]] = ()

    def __init__(self, config: C) -> None:
        self.config = config

    async def start(self) -> None:
        """Make ready to serve; health turns SERVING when it returns."""

    async def failed(self) -> str:
        """Wait until the backend cannot go on, and say why.

        Health then turns NOT_SERVING and the process exits non-zero, so that its
        supervisor starts it again. The default waits for ever.
        """
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    async def aclose(self) -> None:
        """Free what `start` took, after the last call has ended."""

    @abstractmethod
    async def generate_response(self, request: GenerationRequest) -> Completion:
        """Answer with one whole completion."""

    @abstractmethod
    async def is_model_available(self, model: str) -> Availability:
        """Tell whether a model is usable now, at once and without loading it."""

    @abstractmethod
    async def get_available_models(self) -> Sequence[Model]:
        """List the models that can be asked for."""

    async def stream_response(
        self, request: GenerationRequest
    ) -> AsyncGenerator[Delta | Completion, None]:
        """Yield deltas, then the completion; the default yields one delta."""
        completion = await self.generate_response(request)
        if completion.text or completion.reasoning:
            yield Delta(text=completion.text, reasoning=completion.reasoning)
        yield completion

    async def score(self, request: ScoringRequest) -> Scoring:
        """Give the log-probability of each continuation; the default refuses."""
        raise Unsupported(
            f"{self.name} models cannot score continuations: use a local backend (hf, vllm)"
        )
