"""Process-wide settings that decide the speed on a CPU (measured, see bench/hf.py)."""

from __future__ import annotations

import contextlib
import ctypes
import os

import torch

# mallopt(3), <malloc.h>
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_LARGE = 1 << 30


def tune_cpu(threads: int | None) -> None:
    """Keep freed memory, and share key-value heads without copying them.

    Tensors over 32 MB may otherwise be mapped and faulted in again at every step. How
    much that costs varies: a 32-row `generate` of the embedded model made 36 tokens/s
    without and 140 with it at one time, at others as many with as without.
    """
    # Read by transformers at each call; the kernel takes a mask with shared heads.
    os.environ["TRANSFORMERS_SDPA_FORCE_GQA"] = "1"
    with contextlib.suppress(OSError, AttributeError):  # another C library than glibc
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        mallopt(_M_MMAP_THRESHOLD, _LARGE)
        mallopt(_M_TRIM_THRESHOLD, _LARGE)
    if threads is not None:
        torch.set_num_threads(threads)


def release_memory() -> None:
    """Give freed memory back to the system, after a model was dropped."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def is_out_of_memory(error: Exception) -> bool:
    """Whether an allocation has failed, on the CPU or a GPU."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


def is_lost(device: torch.device) -> bool:
    """Whether every computation on the device fails in this process.

    After some errors, such as an illegal access, CUDA does so; a new process can use the device.
    """
    try:
        torch.ones(1, device=device).sum().item()
    except Exception as error:
        return not is_out_of_memory(error)
    return False
