"""What the openrouter service costs and holds: `python -m bench.openrouter`.

The upstream is a local server that answers at once (bench/_provider.py). A game process
with ten calls in flight reaches it through client, router and service, and, in turns
within the same run, directly with the official client; ratios are medians over the
rounds. Then: 500 calls at once against an upstream that takes 2 s, and 10,000 calls of
which a tenth of the tries fail.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from arena_llm import ArenaError, AsyncClient
from bench import _util

ROUNDS = 5
SECONDS = 2.0  # of each round and way
CALLERS = 10
HELD, DELAY = 500, 2.0
FAULTY, SHARE = 10_000, 0.1


class Fleet:
    """Upstream, service and router as processes."""

    def __init__(self, stack: ExitStack, delay: float = 0, faults: float = 0, **settings: Any):
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        upstream, serve, route = (_util.free_port() for _ in range(3))
        self.url = f"http://127.0.0.1:{upstream}/api/v1"
        self.service = f"127.0.0.1:{serve}"
        self.target = f"127.0.0.1:{route}"
        service = {"listen": self.service, "base_url": self.url, "models": [], **settings}
        router = {"listen": self.target, "routes": {"openrouter_": {"targets": [self.service]}}}
        for name, config in (("service", service), ("router", router)):
            (folder / name).write_text(json.dumps(config))  # JSON is YAML
        start = time.perf_counter()
        commands = {
            "service": ("services.openrouter", "--config", str(folder / "service")),
            "router": ("router", "--config", str(folder / "router")),
            "upstream": ("bench._provider", str(upstream), str(delay), str(faults)),
        }
        self.pids = {}
        for name, command in commands.items():
            env = {"OPENROUTER_API_KEY": "sk-none"} if name == "service" else None
            self.pids[name] = stack.enter_context(_util.process("-m", *command, env=env)).pid
            if name == "service":
                _util.wait_serving(self.service)
                self.ready_seconds = time.perf_counter() - start
                self.rss_mb = _util.rss_mb(self.pids[name])
        _util.wait_serving(self.target)
        _util.wait_listening(upstream)


@contextmanager
def _fleet(**options: Any) -> Iterator[Fleet]:
    with ExitStack() as stack:
        yield Fleet(stack, **options)


def _game(way: str, target: str, seconds: float = SECONDS) -> dict[str, Any]:
    """Run a game process to its end."""
    command = [sys.executable, "-m", "bench._callers", way, target, str(CALLERS), str(seconds)]
    measured: dict[str, Any] = json.loads(subprocess.check_output(command))
    return measured


def _ways(fleet: Fleet) -> dict[str, Any]:
    """Calls per second and CPU per call, all ways in turn."""
    targets = {
        "openai, direct": ("openai", fleet.url),
        "openai over aiohttp, direct": ("openai_aiohttp", fleet.url),
        "httpx, direct": ("httpx", fleet.url),
        "the service's HTTP client": ("aiohttp", fleet.url),
        "client, service": ("arena", fleet.service),
        "client, router, service": ("arena", fleet.target),
    }
    runs: dict[str, list[dict[str, Any]]] = {way: [] for way in targets}
    cpu: dict[str, Counter[str]] = {way: Counter() for way in targets}
    for _ in range(ROUNDS):
        for way, (kind, target) in targets.items():
            before = {name: _util.cpu_seconds(pid) for name, pid in fleet.pids.items()}
            runs[way].append(_game(kind, target))
            for name, pid in fleet.pids.items():
                cpu[way][name] += _util.cpu_seconds(pid) - before[name]  # type: ignore[assignment]
    base = runs["openai, direct"]
    results = {}
    for way, rounds in runs.items():
        calls = sum(run["calls"] for run in rounds)
        latencies = [latency for run in rounds for latency in run["latencies"]]
        results[way] = {
            "calls_per_s": statistics.median(map(_rate, rounds)),
            "p50_ms": 1e3 * _util.percentile(latencies, 0.5),
            "p99_ms": 1e3 * _util.percentile(latencies, 0.99),
            "game_cpu_ms": 1e3 * sum(run["cpu_seconds"] for run in rounds) / calls,
            "router_cpu_ms": 1e3 * cpu[way]["router"] / calls,
            "service_cpu_ms": 1e3 * cpu[way]["service"] / calls,
            "x_openai": statistics.median(
                _rate(a) / _rate(b) for a, b in zip(rounds, base, strict=True)
            ),
            "of_openai_cpu": statistics.median(
                _cpu(a) / _cpu(b) for a, b in zip(rounds, base, strict=True)
            ),
        }
    return results


def _rate(run: dict[str, Any]) -> float:
    return float(run["calls"] / run["seconds"])


def _cpu(run: dict[str, Any]) -> float:
    return float(run["cpu_seconds"] / run["calls"])


async def _hold(target: str) -> dict[str, float]:
    """All calls at once; each takes the upstream DELAY seconds."""
    async with AsyncClient(target, timeout=60) as llm:

        async def one() -> float:
            begun = time.perf_counter()
            await llm.generate("openrouter_a/b", "Your move?")
            return time.perf_counter() - begun

        await asyncio.gather(*(one() for _ in range(10)))
        start = time.perf_counter()
        ends = await asyncio.gather(*(one() for _ in range(HELD)), return_exceptions=True)
        times = [end for end in ends if isinstance(end, float)]
        return {
            "calls": HELD,
            "lost": HELD - len(times),
            "p50_s": _util.percentile(times, 0.5),
            "p99_s": _util.percentile(times, 0.99),
            "all_s": time.perf_counter() - start,
        }


async def _faults(target: str, pid: int) -> dict[str, Any]:
    """Every call ends in its own text or in a typed error; the memory stays flat."""
    memory = []
    errors: Counter[str] = Counter()
    wrong = 0
    started = time.perf_counter()
    async with AsyncClient(target, timeout=60) as llm:
        for batch in range(10):
            size = FAULTY // 10
            prompts = [f"move {batch * size + n}" for n in range(size)]
            replies = await llm.generate_many("openrouter_a/b", prompts, concurrency=50)
            for prompt, reply in zip(prompts, replies, strict=True):
                if isinstance(reply, ArenaError):
                    errors[reply.reason] += 1
                else:
                    wrong += reply.text != prompt
            memory.append(round(_util.rss_mb(pid), 1))
    return {
        "calls": FAULTY,
        "wrong": wrong,
        "errors": dict(errors),
        "seconds": time.perf_counter() - started,
        "rss_mb": memory,
        "open_files": len(os.listdir(f"/proc/{pid}/fd")),
    }


def run() -> dict[str, Any]:
    """Measure everything; returns what `main` prints and writes."""
    results: dict[str, Any] = {}
    with _fleet() as fleet:
        results["service"] = {"ready_s": fleet.ready_seconds, "rss_mb": fleet.rss_mb}
        results["ways"] = _ways(fleet)
        results["service"]["rss_mb_after_load"] = _util.rss_mb(fleet.pids["service"])
    with _fleet(delay=DELAY) as fleet:
        results["held"] = asyncio.run(_hold(fleet.target))
    with _fleet(faults=SHARE, backoff_seconds=0.01, max_backoff_seconds=0.1) as fleet:
        results["faults"] = asyncio.run(_faults(fleet.target, fleet.pids["service"]))
    return results


def main() -> None:
    """Print the tables and write the JSON."""
    results = run()
    first = next(iter(results["ways"].values()))
    rows = [[way, *figures.values()] for way, figures in results["ways"].items()]
    _util.print_table(f"{CALLERS} at once from one process", ["way", *first], rows)
    for name in ("service", "held", "faults"):
        _util.print_table(name, ["figure", "value"], list(results[name].items()))
    _util.write_results("openrouter", results)


if __name__ == "__main__":
    main()
