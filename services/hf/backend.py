"""The hf backend. `start` imports torch; importing this file does not."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from services.common.local.backend import LocalBackend
from services.hf.config import HfConfig, HfModel

if TYPE_CHECKING:
    import torch

    from services.hf.pool import HfPool

# mallopt(3), <malloc.h>
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_LARGE = 1 << 30


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

    @property
    def entries(self) -> Sequence[HfModel]:
        """Every model that a request can name."""
        return self.config.models

    async def _make_pool(self) -> HfPool:
        device = await asyncio.to_thread(_choose_device, self.config)
        from services.hf.pool import HfPool

        return HfPool(self.config, device, self.config.path)


def _choose_device(config: HfConfig) -> torch.device:
    """Import torch and the engine, and prepare the device that the configuration names."""
    # How long an OpenMP thread spins while it waits for work. torch reads it when it loads
    # libgomp. A step of 8 rows takes 72 ms with the default on an idle machine, but 430 to
    # 1,300 ms when the router or a game needs one of the cores. It takes 90 and 125 ms
    # without spinning, and 78 and 160 ms with this short spin.
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    import torch

    import services.hf.pool  # noqa: F401 - imported in this thread, because it takes seconds

    name = config.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cpu":
        tune_cpu(config.threads)
    return torch.device(name)


def tune_cpu(threads: int | None) -> None:
    """Set what decides the speed on a CPU (measured with `python -m bench hf`).

    Keeps freed memory in the process, and shares key-value heads without copying them.
    Tensors over 32 MB may otherwise be mapped and faulted in again at every step. The cost
    varies: a 32-row `generate` of the embedded model once made 36 tokens/s without and 140
    with it, and at other times the same number.
    """
    import torch

    # transformers reads it at each call; the attention kernel takes a mask with shared heads.
    os.environ["TRANSFORMERS_SDPA_FORCE_GQA"] = "1"
    with contextlib.suppress(OSError, AttributeError):  # not glibc
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        mallopt(_M_MMAP_THRESHOLD, _LARGE)
        mallopt(_M_TRIM_THRESHOLD, _LARGE)
    if threads is not None:
        torch.set_num_threads(threads)
