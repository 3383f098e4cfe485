"""One bound, in bytes, for the weights, caches and prefixes of all models of a process."""

from __future__ import annotations

import os
import threading
from pathlib import Path

#: The share of the machine's memory that models may take by default. The rest is for the process,
#: its passes, and other processes.
_SHARE = 0.7
#: Where Linux tells the limit of a container: cgroup 2, then cgroup 1.
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def default_budget(device: str) -> int:
    """Bytes that models may take: a share of the memory of the GPU, container or machine."""
    if device != "cpu":
        import torch

        return int(_SHARE * torch.cuda.get_device_properties(device).total_memory)
    sizes = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for file in map(Path, _LIMITS):
        if file.exists() and (limit := file.read_text().strip()).isdigit():
            sizes.append(int(limit))
    return int(_SHARE * min(sizes))


class MemoryBudget:
    """The bytes of all models. Its methods, and those of its accounts, are safe from any thread."""

    def __init__(self, total: int) -> None:
        self.total = total
        self._lock = threading.Lock()
        self._used = 0

    @property
    def free(self) -> int:
        """Bytes that no model uses."""
        return self.total - self._used

    def open(self, fixed: int) -> MemoryAccount:
        """Count a new model, whose weights and prefixes take `fixed` bytes."""
        account = MemoryAccount(self, fixed)
        self._change(fixed, force=True)
        return account

    def _change(self, by: int, *, force: bool = False) -> bool:
        with self._lock:
            if by > self.free and not force:
                return False
            self._used += by
            return True


class MemoryAccount:
    """What one model uses. Its engine's thread alone resizes it."""

    def __init__(self, budget: MemoryBudget, fixed: int) -> None:
        self._budget = budget
        self._fixed = fixed
        self._cache = 0

    @property
    def most(self) -> int:
        """The most bytes that its cache can ever take."""
        return self._budget.total - self._fixed

    @property
    def total(self) -> int:
        """The bound of all models."""
        return self._budget.total

    def resize(self, cache: int) -> bool:
        """Use this many bytes for the cache. Returns False, and changes nothing, if they don't fit.

        A smaller size always fits.
        """
        by = cache - self._cache
        if not self._budget._change(by, force=by <= 0):
            return False
        self._cache = cache
        return True

    def close(self) -> None:
        """The model was dropped."""
        self._budget._change(-self._fixed - self._cache, force=True)
        self._fixed = self._cache = 0
