"""A time limit for Python code that nobody here has written."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

#: Seconds between two looks at the clock.
_LOOK = 0.5

_lock = threading.Lock()
#: Thread -> when its block has to end.
_deadlines: dict[int, float] = {}


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in a block that runs longer, as soon as it is in Python code.

    Another thread watches the clock: a trace function would be ten times as slow as what it
    traces. One block a thread.
    """
    _start_watching()
    thread = threading.get_ident()
    _deadlines[thread] = time.monotonic() + seconds
    try:
        yield
    finally:
        # With the lock, so that the error is raised in this block or not at all.
        with _lock:
            _deadlines.pop(thread, None)


@cache
def _start_watching() -> None:
    threading.Thread(target=_watch, name="time limit", daemon=True).start()


def _watch() -> None:
    while True:
        time.sleep(_LOOK)
        with _lock:
            now = time.monotonic()
            for thread, deadline in list(_deadlines.items()):
                if deadline < now:
                    del _deadlines[thread]
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(
                        ctypes.c_ulong(thread), ctypes.py_object(TimeoutError)
                    )
