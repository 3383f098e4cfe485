"""A time limit for other people's Python code."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

#: Seconds between two checks of the deadlines.
_INTERVAL = 0.5

_lock = threading.Lock()
#: For each thread, the time at which its block has to end.
_deadlines: dict[int, float] = {}


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in a block that runs longer. Such blocks cannot be nested.

    The error comes between two Python instructions: it cannot interrupt a call into C. Another
    thread raises it, because a trace function would make the block ten times as slow.
    """
    _start_watching()
    thread = threading.get_ident()
    _deadlines[thread] = time.monotonic() + seconds
    try:
        yield
    finally:
        # The lock makes sure that the error cannot come after the block.
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
