"""What the router costs: `python -m bench.router`.

The same unary call from one process goes to a backend that answers at once
(direct), to it through a bare byte-passthrough proxy (yardstick), and to it
through the router. The three take turns in short rounds, so that a noisy machine
is noisy to all; ratios are medians over the rounds.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import uvloop

from arena_llm.v1 import generate_pb2
from bench import _util

CALLERS = (1, 10, 100)
ROUNDS = 5
SECONDS = 1.0  # of each round and way

REQUEST = generate_pb2.GenerateRequest(
    model="hf_instant", prompt="Your move? " * 25, session="game-1", labels={"player": "x"}
).SerializeToString()


async def _load(target: str, callers: int) -> tuple[list[float], float]:
    """Latencies of all calls in seconds, and how long it took."""
    async with grpc.aio.insecure_channel(target) as channel:
        call = channel.unary_unary("/arena_llm.v1.LlmService/Generate")
        for _ in range(20):
            await call(REQUEST)
        latencies: list[float] = []
        start = time.perf_counter()

        async def caller() -> None:
            while (begun := time.perf_counter()) < start + SECONDS:
                await call(REQUEST)
                latencies.append(time.perf_counter() - begun)

        await asyncio.gather(*(caller() for _ in range(callers)))
        return latencies, time.perf_counter() - start


def _measure(ways: dict[str, str], pids: dict[str, int], callers: int) -> dict[str, Any]:
    rates: dict[str, list[float]] = {way: [] for way in ways}
    latencies: dict[str, list[float]] = {way: [] for way in ways}
    cpu: dict[str, dict[str, float]] = {way: dict.fromkeys(pids, 0.0) for way in ways}
    for _ in range(ROUNDS):
        for way, target in ways.items():
            before = {name: _util.cpu_seconds(pid) for name, pid in pids.items()}
            times, elapsed = uvloop.run(_load(target, callers))
            for name, pid in pids.items():
                cpu[way][name] += _util.cpu_seconds(pid) - before[name]
            rates[way].append(len(times) / elapsed)
            latencies[way] += times
    return {
        way: {
            "calls_per_s": statistics.median(rates[way]),
            "p50_ms": 1e3 * _util.percentile(latencies[way], 0.5),
            "p99_ms": 1e3 * _util.percentile(latencies[way], 0.99),
            "cpu_ms_per_call": {
                name: 1e3 * seconds / len(latencies[way]) for name, seconds in cpu[way].items()
            },
            "of_direct": _ratio(rates[way], rates["direct"]),
            "of_yardstick": _ratio(rates[way], rates["yardstick"]),
        }
        for way in ways
    }


def _ratio(ours: list[float], theirs: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def _router_config(folder: str, listen: str, target: str) -> str:
    path = Path(folder) / "router.yaml"
    path.write_text(f"listen: {listen}\nroutes:\n  hf_: {{targets: ['{target}']}}\n")
    return str(path)


def _import_seconds(module: str, runs: int = 7) -> float:
    """Median time to import a module in a fresh process, without Python's own start."""
    code = f"import time; t = time.perf_counter(); import {module}; print(time.perf_counter() - t)"
    return statistics.median(
        float(subprocess.check_output([sys.executable, "-c", code])) for _ in range(runs)
    )


def _cold_start(config: str, listen: str, runs: int = 3) -> dict[str, float]:
    """Median seconds from spawn to SERVING, and resident MB then."""
    seconds, memory = [], []
    for _ in range(runs):
        start = time.perf_counter()
        with _util.process("-m", "router", "--config", config) as router:
            _util.wait_serving(listen)
            seconds.append(time.perf_counter() - start)
            memory.append(_util.rss_mb(router.pid))
    return {"ready_s": statistics.median(seconds), "rss_mb": statistics.median(memory)}


def run() -> dict[str, Any]:
    """Measure everything; returns what `main` prints and writes."""
    backend, yardstick, router = (f"127.0.0.1:{_util.free_port()}" for _ in range(3))
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        config = _router_config(folder, router, backend)
        results: dict[str, Any] = {"start": _cold_start(config, router)}
        results["start"]["import_arena_llm_s"] = _import_seconds("arena_llm")
        processes = {
            "backend": stack.enter_context(_util.process("-m", "bench._backend", backend)),
            "yardstick": stack.enter_context(
                _util.process("-m", "bench._yardstick", yardstick, backend)
            ),
            "router": stack.enter_context(_util.process("-m", "router", "--config", config)),
        }
        pids = {name: process.pid for name, process in processes.items()}
        _util.wait_serving(backend)
        _util.wait_serving(router)
        _util.wait_listening(int(yardstick.rpartition(":")[2]))
        ways = {"direct": backend, "yardstick": yardstick, "router": router}
        results["unary"] = {str(n): _measure(ways, pids, n) for n in CALLERS}
        results["start"]["rss_mb_after_load"] = _util.rss_mb(pids["router"])
    return results


def main() -> None:
    """Print the tables and write the JSON."""
    results = run()
    for callers, ways in results["unary"].items():
        rows = [
            [
                way,
                round(row["calls_per_s"]),
                row["p50_ms"],
                row["p99_ms"],
                row["of_direct"],
                row["of_yardstick"],
                *(row["cpu_ms_per_call"].values()),
            ]
            for way, row in ways.items()
        ]
        header = ["way", "calls/s", "p50 ms", "p99 ms", "x direct", "x yardstick"]
        cpu = [f"{name} CPU ms" for name in ways["direct"]["cpu_ms_per_call"]]
        _util.print_table(f"unary, {callers} at once", header + cpu, rows)
    _util.print_table("router", ["figure", "value"], list(results["start"].items()))
    _util.write_results("router", results)


if __name__ == "__main__":
    main()
