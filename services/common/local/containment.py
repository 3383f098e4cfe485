"""Run third-party Python code safely, such as chat templates and a model's own code."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

#: Seconds between two checks of the deadlines.
_INTERVAL = 0.5

_lock = threading.Lock()
#: By thread id, the time (time.monotonic) at which the thread's block has to end.
_deadlines: dict[int, float] = {}


def contained(call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a function and raise its BaseExceptions as RuntimeError.

    A model's own code may raise SystemExit, which would end the service. A Rust library that
    panics also raises a BaseException, and the caller would never get an answer.
    """
    try:
        return call(*args, **kwargs)
    except Exception:
        raise
    except BaseException as error:
        raise RuntimeError(f"{type(error).__name__}: {error}") from error


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in a block that runs longer than `seconds`. Do not nest such blocks.

    The error is raised between two Python instructions: it cannot interrupt a call into C. A
    watching thread raises it, because a trace function would make the block ten times slower.
    """
    _start_watching()
    thread = threading.get_ident()
    _deadlines[thread] = time.monotonic() + seconds
    try:
        yield
    finally:
        # The lock ensures that the error cannot be raised after the block.
        with _lock:
            _deadlines.pop(thread, None)


@cache
def _start_watching() -> None:
    threading.Thread(target=_watch, name="time limit", daemon=True).start()


def _watch() -> None:
    while True:
        time.sleep(_INTERVAL)
        with _lock:
            now = time.monotonic()
            for thread, deadline in list(_deadlines.items()):
                if deadline < now:
                    del _deadlines[thread]
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(
                        ctypes.c_ulong(thread), ctypes.py_object(TimeoutError)
                    )
