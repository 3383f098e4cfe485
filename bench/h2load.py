"""h2load, a load generator in C, which calls a service with one prepared request.

It comes with Debian's package nghttp2-client. A generator in Python would itself be the bound.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from bench import harness

GRPC = {"content-type": "application/grpc", "te": "trailers"}
JSON = {"content-type": "application/json"}


def is_installed() -> bool:
    """Whether there is h2load. Says how to get it if there is none."""
    if shutil.which("h2load"):
        return True
    print("not measured: h2load is not installed (Debian: apt-get install nghttp2-client)")
    return False


def grpc_frame(message: bytes) -> bytes:
    """The body of a unary gRPC call."""
    return b"\0" + len(message).to_bytes(4, "big") + message


def load(
    url: str,
    body: bytes,
    headers: dict[str, str],
    callers: int,
    seconds: float,
    connections: int | None = None,
) -> harness.Run:
    """Let `callers` send the request again and again, for some seconds.

    headers: GRPC, over HTTP/2, or those of JSON, over HTTP/1.1. connections: that all callers
    share; None: each has its own. Raises RuntimeError if a request fails.
    """
    connections = connections or callers
    with tempfile.TemporaryDirectory() as folder:
        data, log = Path(folder) / "body", Path(folder) / "log"
        data.write_bytes(body)
        command = [
            *("h2load", "--threads=1", f"--clients={connections}"),
            *(f"--max-concurrent-streams={callers // connections}", f"--duration={seconds:g}"),
            *("--warm-up-time=1", f"--data={data}", f"--log-file={log}"),
            *([] if "te" in headers else ["--h1"]),
            *(f"--header={name}: {value}" for name, value in headers.items()),
        ]
        done = subprocess.run([*command, url], capture_output=True, text=True, timeout=120)
        lines = log.read_text().splitlines() if log.exists() else []
    if done.returncode or not lines:
        raise RuntimeError(f"h2load failed: {done.stderr or done.stdout}")
    # Each line: the start in microseconds, the HTTP status (-1 without an answer), microseconds.
    rows = [tuple(map(int, line.split("\t"))) for line in lines]
    if failed := [status for _, status, _ in rows if status != 200]:
        raise RuntimeError(f"{len(failed)} of {len(rows)} requests failed: {failed[:5]}")
    begun = min(start for start, _, _ in rows)
    ended = max(start + took for start, _, took in rows)
    return harness.Run((ended - begun) / 1e6, [took / 1e6 for _, _, took in rows])
