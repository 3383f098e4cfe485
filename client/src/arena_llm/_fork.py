"""Forked children: they make no calls, and they leave the parent's connections alone."""

from __future__ import annotations

import ctypes
import os
from typing import Any
from weakref import WeakSet

from arena_llm.errors import FailedPreconditionError

# The process that made the first call. grpc's threads, which every call needs,
# are in no child that is forked from it, and the child shares the sockets.
_calling_process: int | None = None
# Channels and calls of grpc that exist in this process.
_grpc_objects: WeakSet[Any] = WeakSet()


def forked() -> bool:
    """Whether this process was forked from one that had made calls."""
    return _calling_process not in (None, os.getpid())


def check_fork() -> None:
    """Refuse calls in a forked child, before grpc is touched; else note the process."""
    global _calling_process
    if forked():
        raise FailedPreconditionError(
            "this process was forked from one that had made calls: start it with spawn, "
            "or fork before the first call",
            reason="FORK_UNSUPPORTED",
        )
    _calling_process = os.getpid()


def leave_to_parent(grpc_object: Any) -> None:
    """Make sure that no forked child ever destroys this channel or call."""
    _grpc_objects.add(grpc_object)


def _keep_all() -> None:
    # Destroying them enters grpc, without its threads: a child that had started a thread
    # crashed. A reference that nobody owns keeps them past the interpreter's own end.
    for grpc_object in list(_grpc_objects):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(grpc_object))


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_keep_all)
