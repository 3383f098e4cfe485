"""What all benchmarks share: processes, closed-loop load, rounds in turn, figures, tables.

The ways that are compared take turns in short rounds, so that noise of the machine affects
all of them. Ratios are medians over the rounds; only ratios within one run can be compared.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import psutil
from grpc_health.v1 import health_pb2, health_pb2_grpc

from bench.goals import Goal, find_figures, format_goal, format_value, is_reached

RESULTS = Path(__file__).parent / "results"

PROMPT = "Your move? " * 25

Running = subprocess.Popen[bytes]


# Load and figures


@dataclass
class Run:
    """One way in one round. cpu: seconds of each process, and of "caller"."""

    seconds: float
    latencies: list[float]
    cpu: dict[str, float] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Calls per second."""
        return len(self.latencies) / self.seconds

    @property
    def caller_cpu(self) -> float:
        """Seconds of the caller's CPU for each call."""
        return self.cpu["caller"] / len(self.latencies)


async def drive(call: Callable[[], Awaitable[Any]], callers: int, seconds: float) -> Run:
    """Let `callers` callers make one call after another, for `seconds` seconds."""
    latencies: list[float] = []
    await asyncio.gather(*(call() for _ in range(2 * callers)))
    cpu, start = time.process_time(), time.perf_counter()

    async def caller() -> None:
        while (begun := time.perf_counter()) < start + seconds:
            await call()
            latencies.append(time.perf_counter() - begun)

    await asyncio.gather(*(caller() for _ in range(callers)))
    elapsed = time.perf_counter() - start
    return Run(elapsed, latencies, {"caller": time.process_time() - cpu})


def take_turns(
    ways: Mapping[str, Callable[[], Run]], rounds: int, pids: Mapping[str, int]
) -> dict[str, list[Run]]:
    """Run all ways in each round, and add the CPU that these processes used.

    Each round begins with another way, because one that follows a heavy one is slower.
    """
    runs: dict[str, list[Run]] = {way: [] for way in ways}
    order = list(ways.items())
    for number in range(rounds):
        first = number % len(order)
        for way, measure in (*order[first:], *order[:first]):
            before = {name: cpu_seconds(pid) for name, pid in pids.items()}
            run = measure()
            run.cpu |= {name: cpu_seconds(pid) - before[name] for name, pid in pids.items()}
            runs[way].append(run)
    return runs


def figures(runs: Sequence[Run]) -> dict[str, float]:
    """Rate, latencies and CPU of one way."""
    latencies = [latency for run in runs for latency in run.latencies]
    return {
        "calls_per_s": statistics.median(run.rate for run in runs),
        "p50_ms": 1e3 * percentile(latencies, 0.5),
        "p99_ms": 1e3 * percentile(latencies, 0.99),
        **{
            f"{name}_cpu_ms": 1e3 * sum(run.cpu[name] for run in runs) / len(latencies)
            for name in runs[0].cpu
        },
    }


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median ratio over the rounds."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def rates(runs: Sequence[Run]) -> list[float]:
    """Calls per second of each round."""
    return [run.rate for run in runs]


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of the values does not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


# Processes


def free_address() -> str:
    """host:port on which nothing listens now."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return f"127.0.0.1:{sock.getsockname()[1]}"


@contextlib.contextmanager
def process(
    *arguments: str, env: dict[str, str] | None = None, python: Path = Path(sys.executable)
) -> Iterator[Running]:
    """`python -m *arguments` with its log in a file, stopped at the end."""
    with tempfile.NamedTemporaryFile(suffix=".log") as log:
        running = subprocess.Popen(
            [str(python), "-m", *arguments],
            stdout=log, stderr=log, env={**os.environ, **(env or {})},
        )  # fmt: skip
        try:
            yield running
        finally:
            running.terminate()
            running.wait(timeout=30)


def wait_serving(address: str, running: Running, seconds: float = 60) -> None:
    """Wait until health is SERVING. Raises TimeoutError, or RuntimeError if the process ends."""

    def serves() -> bool:
        with grpc.insecure_channel(address) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            reply = stub.Check(health_pb2.HealthCheckRequest(), timeout=1)
            return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)

    _wait(serves, address, running, seconds)


def wait_listening(address: str, running: Running, seconds: float = 60) -> None:
    """Wait until something accepts connections; raises as wait_serving does."""
    host, _, port = address.rpartition(":")

    def accepts() -> bool:
        socket.create_connection((host, int(port))).close()
        return True

    _wait(accepts, address, running, seconds)


def _wait(ready: Callable[[], bool], address: str, running: Running, seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        with contextlib.suppress(OSError, grpc.RpcError):  # not listening yet
            if ready():
                return
        if running.poll() is not None:
            raise RuntimeError(f"{running.args!r} ended with {running.returncode}")
        time.sleep(0.01)
    raise TimeoutError(f"{address} is not ready after {seconds} s")


def _family(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def cpu_seconds(pid: int) -> float:
    """CPU time, user and system, that a process and its children have used."""
    # The clock of each process, in nanoseconds (clock_getcpuclockid(3)): psutil's figures have
    # steps of 10 ms, which are 2 % of a short round.
    return sum(time.clock_gettime(~process.pid << 3 | 2) for process in _family(pid))


def rss_mb(pid: int) -> float:
    """Resident memory of a process and its children in MB; what they share counts for each."""
    return sum(process.memory_info().rss for process in _family(pid)) / 1e6


class System:
    """One backend's service, and a router in front of it.

    service, target: the addresses of service and router. ready_seconds, rss_mb: of the
    service at its start. workers: of service and router, each.
    """

    def __init__(
        self,
        stack: ExitStack,
        backend: str,
        config: dict[str, Any],
        env: dict[str, str] | None = None,
        python: Path = Path(sys.executable),
        workers: int = 1,
    ) -> None:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        self.service, self.target = free_address(), free_address()
        configs: dict[str, Any] = {
            f"{backend}_models": {"listen": self.service, **config},
            "router": {
                "listen": self.target,
                "routes": {f"{backend}_": {"targets": [self.service]}},
            },
        }
        if workers > 1:
            for content in configs.values():
                content["workers"] = workers
            configs["router"]["routes"][f"{backend}_"]["connections"] = 4 * workers
        for name, content in configs.items():
            (folder / f"{name}.yaml").write_text(json.dumps(content))  # JSON is YAML
        environ = {"ARENA_CONFIG_DIR": str(folder)}
        begun = time.perf_counter()
        service = stack.enter_context(
            process(f"services.{backend}", env={**environ, **(env or {})}, python=python)
        )
        wait_serving(self.service, service, 300)
        self.ready_seconds = time.perf_counter() - begun
        self.rss_mb = rss_mb(service.pid)
        begun = time.perf_counter()
        router = stack.enter_context(process("router", env=environ))
        wait_serving(self.target, router)
        self.router_ready_seconds = time.perf_counter() - begun
        self.pids = {"router": router.pid, "service": service.pid}


# Results


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table for people: names on the left, figures on the right."""
    cells = [list(header)] + [
        [f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows
    ]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    print(f"\n{title}")
    for first, *rest in cells:
        aligned = (cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))
        print("  ".join([first.ljust(widths[0]), *aligned]))


def print_ways(title: str, ways: Mapping[str, Mapping[str, object]]) -> None:
    """A table with a row for each way and a column for each figure."""
    header = list(next(iter(ways.values())))
    print_table(title, ["way", *header], [[way, *values.values()] for way, values in ways.items()])


def print_goals(figures: Sequence[Mapping[str, Any]]) -> None:
    """A table of figures (`find_figures`) beside their goals."""
    rows = []
    for figure in figures:
        value, sign, bound, unit = (figure[key] for key in ("value", "sign", "goal", "unit"))
        shown = ("not measured", "")
        if value is not None:
            reached = is_reached(value, sign, bound)
            shown = (format_value(value, unit), "yes" if reached else "no")
        rows.append((figure["figure"], shown[0], format_goal(sign, bound, unit), shown[1]))
    print_table("goals", ["figure", "value", "goal", "reached"], rows)


def write_results(name: str, goals: Sequence[Goal], results: Mapping[str, Any]) -> None:
    """Print the goals, and write bench/results/<name>.json: the results, and what was reached."""
    figures = find_figures(goals, results)
    if figures:
        print_goals(figures)
    RESULTS.mkdir(exist_ok=True)
    begun = psutil.Process().create_time()
    content = {
        "machine": describe_machine(),
        "commit": _find_commit(),
        "date": time.strftime("%Y-%m-%d %H:%M", time.gmtime(begun)),
        "seconds": round(time.time() - begun),
        "goals": figures,
        "results": results,
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n")
    print(f"\nwritten to bench/results/{name}.json")


def describe_machine() -> dict[str, Any]:
    """What decides how fast this machine is."""
    options = sysconfig.get_config_var("CONFIG_ARGS") or ""
    return {
        "processor": _find_processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        "python": platform.python_version(),
        # Python built with profiles of its use (PGO) is a fifth to a third faster.
        "python_optimized": "--enable-optimizations" in options,
        "grpcio": grpc.__version__,
    }


def _find_processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _find_commit() -> str:
    """The commit of this tree, with a plus if files differ from it."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(RESULTS.parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short", "HEAD") + "+" * bool(git("status", "--porcelain"))
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
