"""`python -m bench._backend`: a service that answers at once, to measure what is around it."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from arena_llm.types import (
    Availability,
    Completion,
    FinishReason,
    GenerationRequest,
    Model,
    ModelState,
    Usage,
)
from services.common.backend import BaseLLMBackend
from services.common.config import ServiceConfig
from services.common.log import configure_logging
from services.common.server import run
from services.common.servicer import LlmServicer


class InstantBackend(BaseLLMBackend[ServiceConfig]):
    """Answers every prompt with the same move."""

    name = "hf"
    config_type = ServiceConfig
    parameters = frozenset({"temperature", "max_tokens", "seed"})

    async def generate_response(self, request: GenerationRequest) -> Completion:
        return Completion("5", FinishReason.STOP, Usage(60, 1), request.model)

    async def is_model_available(self, model: str) -> Availability:
        return Availability(True, ModelState.READY)

    async def get_available_models(self) -> Sequence[Model]:
        return [Model("hf_instant")]


if __name__ == "__main__":
    configure_logging()
    run(LlmServicer(InstantBackend(ServiceConfig(listen=sys.argv[1]))), sys.argv[1])
