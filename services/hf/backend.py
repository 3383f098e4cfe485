"""The hf backend. Importing this file imports no engine."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

from services.common.local.backend import LocalBackend
from services.hf.config import HfConfig, HfModel
from services.hf.description import needs_torch

if TYPE_CHECKING:
    from services.hf.pool import HfPool

#: Files that the drivers of GPUs make: NVIDIA's, also in a container and in WSL, and AMD's.
_DRIVERS = ("/dev/nvidiactl", "/proc/driver/nvidia/version", "/dev/dxg", "/dev/kfd")


class HfBackend(LocalBackend[HfConfig]):
    """Models that run in this process, with continuous batching."""

    name = "hf"
    config_type = HfConfig
    #: Hub, proxy, threads, devices.
    environment = (
        *("HF_*", "TRANSFORMERS_*", "*_proxy", "*_PROXY"),
        *("OMP_*", "GOMP_*", "MKL_*", "TORCH*", "CUDA_*"),
    )

    _pool: HfPool

    @classmethod
    def list_parts(cls, config: HfConfig) -> Mapping[str, str]:
        """torch, if a model that is preloaded or is on this machine needs it."""
        device = config.device
        if device == "auto":
            device = "cuda" if _has_driver() else "cpu"
        for entry in config.models:
            if needs_torch(entry, device) and (entry.preload or _is_here(entry)):
                return {"torch": entry.name}
        return {}

    @property
    def entries(self) -> Sequence[HfModel]:
        """Every model that a request can name."""
        return self.config.models

    @property
    def slots(self) -> Sequence[HfModel]:
        """Every entry that has an engine of its own."""
        return self.config.models

    async def _make_pool(self) -> HfPool:
        device = await asyncio.to_thread(_choose_device, self.config)
        from services.hf.pool import HfPool

        return HfPool(self.config, device, self.config.path)


def _has_driver() -> bool:
    """True if there may be a GPU."""
    return any(map(os.path.exists, _DRIVERS))


def _is_here(entry: HfModel) -> bool:
    from services.hf.checkpoint import is_downloaded  # it imports the hub's client

    if entry.model_path is not None:
        return (entry.model_path / "config.json").is_file()
    return is_downloaded(entry)


def _choose_device(config: HfConfig) -> str:
    """Import the engine, and choose the device that the configuration names: cpu or cuda.

    torch is imported here only where there may be a GPU. Otherwise the first model that needs it
    imports it.
    """
    # How long an OpenMP thread spins while it waits for work. torch reads it when it loads
    # libgomp. A step of 8 rows takes 72 ms with the default on an idle machine, but 430 to
    # 1,300 ms when the router or a game needs one of the cores. It takes 90 and 125 ms
    # without spinning, and 78 and 160 ms with this short spin.
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    import services.hf.pool  # noqa: F401 - imported in this thread, because it takes a second

    if config.device != "auto":
        return config.device
    if _has_driver() and find_spec("torch") is not None:
        import torch

        return "cuda" if torch.cuda.is_available() else "cpu"
    return "cpu"
