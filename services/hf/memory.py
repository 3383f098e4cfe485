"""Gives memory back to the system. Imports no torch."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import mmap
import sys
from pathlib import Path


def release_memory() -> None:
    """Return freed memory to the system, after a model was dropped or a pass failed."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # not glibc
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def drop_pages(file: Path) -> None:
    """Free this process's pages of a file that it maps. They are read again if they are used.

    A compiled model has its weights in an order of its own, so those in the file lie idle. For
    files that nobody writes through their mapping. Linux only; elsewhere it does nothing.
    """
    try:
        mappings = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    libc = ctypes.CDLL(None)
    for mapping in mappings:
        places, _, _, _, _, *path = mapping.split(maxsplit=5)
        if path == [str(file.resolve())]:
            begin, end = (int(place, 16) for place in places.split("-"))
            libc.madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), mmap.MADV_DONTNEED)
