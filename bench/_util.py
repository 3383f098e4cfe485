"""What the benchmarks share: processes, what they cost, tables, results."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

RESULTS = Path(__file__).parent / "results"

Running = subprocess.Popen[bytes]


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
    return port


@contextlib.contextmanager
def process(
    *arguments: str, env: dict[str, str] | None = None, python: Path = Path(sys.executable)
) -> Iterator[Running]:
    """`python *arguments`, its log in a file as in real life, stopped at the end.

    python: another environment's.
    """
    with tempfile.NamedTemporaryFile(suffix=".log") as log:
        running = subprocess.Popen(
            [str(python), *arguments], stdout=log, stderr=log, env={**os.environ, **(env or {})}
        )
        try:
            yield running
        finally:
            running.terminate()
            running.wait(timeout=30)


def wait_serving(address: str, seconds: float = 60, running: Running | None = None) -> None:
    """Return once health says SERVING; raises TimeoutError, and RuntimeError where the
    process has ended."""
    end = time.perf_counter() + seconds
    request = health_pb2.HealthCheckRequest()
    while time.perf_counter() < end:
        with grpc.insecure_channel(address) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            try:
                if stub.Check(request, timeout=1).status == health_pb2.HealthCheckResponse.SERVING:
                    return
            except grpc.RpcError:
                pass  # not listening yet
        _check(running)
        time.sleep(0.01)
    raise TimeoutError(f"{address} is not serving after {seconds} s")


def wait_listening(port: int, seconds: float = 60, running: Running | None = None) -> None:
    """Return once something accepts connections there; raises as wait_serving does."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        _check(running)
        time.sleep(0.01)
    raise TimeoutError(f"nothing listens on port {port} after {seconds} s")


def _check(running: Running | None) -> None:
    if running is not None and running.poll() is not None:
        raise RuntimeError(f"{running.args!r} ended with {running.returncode}")


def cpu_seconds(pid: int) -> float:
    """CPU time that a process has used, user and system (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_mb(pid: int) -> float:
    """Resident memory of a process in MB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of the values does not pass (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table for people: names to the left, figures to the right."""
    cells = [list(header)] + [
        [f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows
    ]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    print(f"\n{title}")
    for first, *rest in cells:
        figures = (cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))
        print("  ".join([first.ljust(widths[0]), *figures]))


def machine() -> dict[str, Any]:
    """Where the figures come from."""
    return {
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "grpcio": grpc.__version__,
    }


def write_results(name: str, results: dict[str, Any]) -> None:
    """Write bench/results/<name>.json."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"machine": machine(), **results}, indent=2) + "\n")
    print(f"\nwritten to bench/results/{name}.json")
