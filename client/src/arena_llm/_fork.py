"""Imports grpc with its fork support switched off. The client imports grpc only from here.

With that support a fork can end the calls that run in the parent, because the child closes
the shared connections; with grpc.aio the parent can crash. Without it, a fork does not affect
the parent, and `check_fork` refuses calls in the child.

grpc reads the switch twice: its Python part at import, and its core at first use, where an
unset variable means on.
"""

from __future__ import annotations

import ctypes
import os
import sys
import warnings
from typing import Any
from weakref import WeakSet

from arena_llm.errors import FailedPreconditionError

__all__ = ["aio", "check_fork", "forked", "grpc", "leave_to_parent"]

_SWITCH = "GRPC_ENABLE_FORK_SUPPORT"


def _switch_off() -> None:
    was_on = os.environ.get(_SWITCH, "").lower() in {"1", "true", "yes", "on"}
    if "grpc" not in sys.modules:
        os.environ[_SWITCH] = "0"
        outcome = "arena_llm has switched it off"
    else:
        os.environ.setdefault(_SWITCH, "0")
        outcome = "grpc was imported before arena_llm and keeps it on: unset the variable"
    if was_on:
        warnings.warn(
            f"{_SWITCH} is on, so a fork can end running calls; {outcome}",
            RuntimeWarning,
            stacklevel=2,
        )


_switch_off()

import grpc  # noqa: E402 - the switch comes first
from grpc import aio  # noqa: E402 - the switch comes first

# The process that made the first call. A child that is forked from it has the sockets,
# but not the threads of grpc, which every call needs.
_calling_process: int | None = None
# The channels and calls of grpc that exist in this process.
_grpc_objects: WeakSet[Any] = WeakSet()


def forked() -> bool:
    """Whether this process was forked from one that had made calls."""
    return _calling_process not in (None, os.getpid())


def check_fork() -> None:
    """Raise FailedPreconditionError in a forked child; else remember that this process calls."""
    global _calling_process
    if forked():
        raise FailedPreconditionError(
            "this process was forked from one that had made calls: start it with spawn, "
            "or fork before the first call",
            reason="FORK_UNSUPPORTED",
        )
    _calling_process = os.getpid()


def leave_to_parent(grpc_object: Any) -> None:
    """Make sure that a forked child never destroys this channel or call."""
    _grpc_objects.add(grpc_object)


def _keep_all() -> None:
    # Destroying them enters grpc without its threads: a child that had started a thread
    # crashed. An extra reference keeps them alive until the process ends.
    for grpc_object in list(_grpc_objects):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(grpc_object))


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_keep_all)
