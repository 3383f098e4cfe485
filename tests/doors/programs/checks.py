"""Runs the checks of a file: its functions named check_*, in order.

Each gets the words of the command line. One line says how each ended; the status is 1 if one
failed. It uses the standard library only, because each foreign program has its own environment.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
import time
import traceback
from typing import Any


def run(namespace: dict[str, Any], about: str) -> None:
    """Run the checks of a module's namespace, then exit. about: the program and its version."""
    print(about, flush=True)
    wanted = [(name, check) for name, check in namespace.items() if name.startswith("check_")]
    failed = 0
    for name, check in wanted:
        begun = time.perf_counter()
        try:
            result = check(*sys.argv[1:])
            if inspect.isawaitable(result):
                asyncio.run(_wait(result))
        except BaseException:
            failed += 1
            print(f"not ok - {name}\n{traceback.format_exc()}", flush=True)
        else:
            print(f"ok - {name} ({time.perf_counter() - begun:.2f} s)", flush=True)
    print(f"{len(wanted) - failed} of {len(wanted)} checks passed", flush=True)
    sys.exit(1 if failed or not wanted else 0)


async def _wait(awaitable: Any) -> None:
    await awaitable
