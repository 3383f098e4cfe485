"""Runs commands of `arena` in one process: `python -m tests.torture.arena_worker FOLDER`.

Each line of its input is a JSON object: `arguments` of the command, and `bytes`, the largest size
of a file, which simulates a full disk. Each line of its output is one with `code`, `out`, `err`,
and `bug` for an exception that the command did not handle.
"""

from __future__ import annotations

import io
import json
import os
import resource
import signal
import sys
import traceback
from typing import Any

from arena.cli import main


def run(arguments: list[str]) -> dict[str, Any]:
    """Run one command with an output of its own."""
    kept = sys.stdout, sys.stderr
    streams = [io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2)]
    sys.stdout, sys.stderr = streams
    code, bug = -1, ""
    try:
        code = main(arguments)
    except SystemExit as usage:
        code = int(usage.code or 0) if isinstance(usage.code, int | None) else 1
    except BaseException:
        bug = traceback.format_exc()
    finally:
        sys.stdout, sys.stderr = kept
    out, err = (stream.buffer.getvalue().decode("utf-8", "replace") for stream in streams)  # type: ignore[attr-defined]
    return {"code": code, "out": out, "err": err, "bug": bug}


def limit(size: int | None) -> None:
    """Bound the size of the files that this process writes."""
    most = resource.RLIM_INFINITY if size is None else size
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))


if __name__ == "__main__":
    # Python would write compiled modules that are cut at the bound, and read them later.
    sys.dont_write_bytecode = True
    os.chdir(sys.argv[1])
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    for line in sys.stdin:
        asked = json.loads(line)
        limit(asked.get("bytes"))
        done = run(asked["arguments"])
        limit(None)
        print(json.dumps(done), flush=True)
