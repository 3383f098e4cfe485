"""Settings of a whole process of a service: garbage collection, scheduling, freed memory."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os

_is_tuned = False


def tune_gc(forwards_calls: bool) -> None:
    """Freeze the objects that exist after startup, so that the garbage collector skips them.

    A process that forwards calls has no large objects in cycles, so rare collections are
    enough: with Python's own threshold, the calls in flight cause a collection at every tenth call,
    which takes 2 % of the CPU.
    """
    global _is_tuned
    _is_tuned = True
    gc.collect()
    gc.freeze()
    if forwards_calls:
        gc.set_threshold(10_000)


def freeze_imports() -> None:
    """Freeze what was imported since `tune_gc`, if this process has called it."""
    if _is_tuned:
        gc.freeze()


def use_batch_scheduling() -> None:
    """Run this process under SCHED_BATCH: a message to it does not preempt another process.

    If callers, router and services share few cores, they otherwise interrupt each other at
    every message, which costs 15 % of a small call's CPU (`python -m bench.openrouter`). An
    idle core is used immediately either way. New threads inherit the policy; see sched(7).
    """
    if hasattr(os, "SCHED_BATCH"):  # Linux
        # A sandbox may forbid it. Only speed depends on it.
        with contextlib.suppress(PermissionError):
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


#: Parameters of mallopt(3).
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8


def return_freed_memory() -> None:
    """Let glibc return the memory of large messages to the system when they are freed.

    By default it keeps up to 64 MB after it has seen large blocks, and has a heap for each thread.
    """
    if (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        mallopt(_MMAP_THRESHOLD, 128 * 1024)
        mallopt(_TRIM_THRESHOLD, 128 * 1024)
        mallopt(_ARENA_MAX, 2)
