"""Runs a module as a program with short pings: `python -m tests.support.quick_pings MODULE ...`.

Both ends of a connection need them: a server closes a connection that is pinged more often
than it expects.
"""

from __future__ import annotations

import runpy
import sys

import router  # noqa: F401 - sets the variables that gRPC reads when it is imported
from arena_llm import connection

#: A hanging process is noticed after 5 s instead of 28.
PING_MS = 1_000
PING_TIMEOUT_MS = 4_000

if __name__ == "__main__":
    connection.PING_MS = PING_MS
    connection.PING_TIMEOUT_MS = PING_TIMEOUT_MS
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
