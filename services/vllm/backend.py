"""The vllm backend. `start` imports vLLM; importing this file does not."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from services.common.config import ConfigError, ModelEntry
from services.common.local.backend import LocalBackend
from services.common.local.features import (
    BUDGET,
    IMAGE,
    IMAGE_DATA,
    LOCAL_FIELDS,
    REFUSED_LOCALLY,
    TOOL_NAMES,
    TOOL_STRICT,
)
from services.common.metrics import meter
from services.vllm.config import VllmConfig, VllmModel

if TYPE_CHECKING:
    from services.vllm.pool import VllmPool


#: What some models of this service honour beside what every local one may.
_MORE = frozenset((TOOL_NAMES, TOOL_STRICT, BUDGET, IMAGE_DATA))


class VllmBackend(LocalBackend[VllmConfig]):
    """Models on vLLM. Each has its own engine."""

    name = "vllm"
    config_type = VllmConfig
    fields = LOCAL_FIELDS | _MORE
    refused: ClassVar[Mapping[str, str]] = {
        **{path: advice for path, advice in REFUSED_LOCALLY.items() if path not in _MORE},
        f"{IMAGE}.url": "send the bytes of the file as data: the service fetches nothing",
        f"{IMAGE}.detail": "leave it out: the model's own processor sets the resolution",
    }
    #: Hub, threads, devices, and the engine's own switches.
    environment = (
        *("VLLM_*", "HF_*", "TRANSFORMERS_*", "TORCH*", "CUDA_*", "NVIDIA_*", "NCCL_*"),
        *("OMP_*", "GOMP_*", "MKL_*", "GLOO_*", "LD_PRELOAD"),
    )

    _pool: VllmPool

    @property
    def entries(self) -> Sequence[ModelEntry]:
        """Every model that a request can name."""
        return self.config.entries

    @property
    def slots(self) -> Sequence[VllmModel]:
        """Every entry that has an engine of its own."""
        return self.config.models

    async def _make_pool(self) -> VllmPool:
        await asyncio.to_thread(_import_vllm, self.config)
        from services.vllm.metrics import Metrics
        from services.vllm.pool import VllmPool

        metrics = Metrics()
        meter.add(metrics)
        return VllmPool(self.config, metrics)


def _import_vllm(config: VllmConfig) -> None:
    """Import vLLM. Raises ConfigError if it is missing or lacks an engine argument of the file."""
    from services.vllm.arguments import check_arguments, prepare_environment

    prepare_environment()
    try:
        check_arguments(config)
    except ImportError as error:
        raise ConfigError(
            f"vllm: the engine cannot be imported ({error}): run `make setup-vllm`, and start this "
            "service with .venv-vllm/bin/python -m services.vllm"
        ) from error
