"""BaseLLMBackend over vLLM. The library is imported by `start`, not by this file."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, ClassVar

import structlog

from arena_llm.types import (
    Completion,
    Delta,
    GenerationRequest,
    Scoring,
    ScoringRequest,
)
from services.common.config import ConfigError, ModelEntry
from services.common.local.backend import LocalBackend
from services.vllm.config import VllmConfig

if TYPE_CHECKING:
    from services.vllm.metrics import Metrics
    from services.vllm.pool import EnginePool

log = structlog.get_logger()


class VllmBackend(LocalBackend[VllmConfig]):
    """Models on vLLM's engine, one engine each."""

    name = "vllm"
    config_type = VllmConfig
    parameters = frozenset(
        {
            *("temperature", "top_p", "top_k", "max_tokens", "seed", "stop"),
            *("presence_penalty", "frequency_penalty", "logprobs"),
        }
    )
    constraints = frozenset({"choices", "json_schema", "regex"})
    can_score = True
    refused: ClassVar[Mapping[str, str]] = {
        "provider_options": "leave it out: the model runs here, without a provider"
    }
    #: Hub, threads, devices, and the engine's own switches.
    environment = (
        *("VLLM_*", "HF_*", "TRANSFORMERS_*", "TORCH*", "CUDA_*", "NVIDIA_*", "NCCL_*"),
        *("OMP_*", "GOMP_*", "MKL_*", "GLOO_*", "LD_PRELOAD"),
    )

    _pool: EnginePool
    _metrics: Metrics

    @property
    def entries(self) -> Sequence[ModelEntry]:
        """Every model that can be asked for."""
        return self.config.entries

    async def start(self) -> None:
        """Import vLLM, check the engines' arguments, start what is marked `preload`.

        Raises ConfigError for an argument that this vLLM does not have, and where vLLM
        is missing.
        """
        await asyncio.to_thread(_import_vllm, self.config)
        from services.vllm.metrics import Metrics
        from services.vllm.pool import EnginePool

        self._metrics = Metrics()
        if self.config.metrics is not None:
            log.info("metrics", address=self._metrics.serve(self.config.metrics))
        self._pool = EnginePool(self.config, self._metrics)
        self._has_pool.set()
        await self._pool.preload()

    async def failed(self) -> str:
        """Wait until an engine's core ends or hangs, and say which."""
        return await self._pool.failed()

    async def aclose(self) -> None:
        """Stop the engines."""
        if self._has_pool.is_set():
            await self._pool.aclose()
            self._metrics.close()

    async def generate_response(self, request: GenerationRequest) -> Completion:
        """Answer with one whole completion."""
        await self._has_pool.wait()
        engine, adapter = await self._pool.use(request.model)
        return await engine.generate(request, adapter)

    async def stream_response(
        self, request: GenerationRequest
    ) -> AsyncGenerator[Delta | Completion, None]:
        """Yield the text as it grows, then the completion."""
        await self._has_pool.wait()
        engine, adapter = await self._pool.use(request.model)
        async with aclosing(engine.stream(request, adapter)) as events:
            async for event in events:
                yield event

    async def score(self, request: ScoringRequest) -> Scoring:
        """Give each continuation's summed log-probability."""
        await self._has_pool.wait()
        engine, adapter = await self._pool.use(request.model)
        return await engine.score(request, adapter)


def _import_vllm(config: VllmConfig) -> None:
    from services.vllm.arguments import check_arguments, prepare_environment

    prepare_environment()
    try:
        check_arguments(config.models)
    except ImportError as error:
        raise ConfigError(
            f"vllm: the engine cannot be imported ({error}): run `make setup-vllm`, and start this "
            "service with .venv-vllm/bin/python -m services.vllm"
        ) from error
