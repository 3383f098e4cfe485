"""Other gateways beside this system: `python -m bench.gateways [--setup]`.

The LiteLLM proxy (one worker, as it comes, and two) and Portkey's gateway stand before
the upstream that answers at once, and the official client calls through them from a
game process with ten calls in flight. In turns with them, in the same run: the official
client without any gateway, and this system's client through router and service.

Each gateway has an environment of its own, made when it is missing (`--setup` does only
that). One that cannot be made or started is reported as not measured, with the reason.

ready_s: from the start of a gateway to its first answer; of this system, until router,
service and upstream serve. Gateways that are not called stay up, and idle.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from typing import Any

from bench import _util
from bench._gateways import PINS, NotMeasured, Way, set_up, start
from bench.openrouter import Fleet

ROUNDS, SECONDS, CALLERS = 5, 2.0, 10
WORKERS = {"litellm": (1, 2), "portkey": (1,)}  # Portkey's server is one process


def _round(way: Way) -> dict[str, Any]:
    """What a game process measured, with the CPU that the gateway used meanwhile."""
    headers = "\n".join(f"{name}: {value}" for name, value in way.headers.items())
    command = [sys.executable, "-m", "bench._callers", way.kind, way.target]
    env = {**os.environ, "OPENAI_CUSTOM_HEADERS": headers, "NO_PROXY": "127.0.0.1"}
    before = way.cpu()
    measured: dict[str, Any] = json.loads(
        subprocess.check_output([*command, str(CALLERS), str(SECONDS)], env=env, timeout=120)
    )
    return {**measured, "gateway_cpu": way.cpu() - before}


def _rate(measured: dict[str, Any]) -> float:
    return float(measured["calls"] / measured["seconds"])


def _figures(
    way: Way, rounds: list[dict[str, Any]], base: list[dict[str, Any]]
) -> dict[str, float]:
    calls = sum(each["calls"] for each in rounds)
    latencies = [latency for each in rounds for latency in each["latencies"]]
    return {
        "calls_per_s": statistics.median(map(_rate, rounds)),
        "x_no_gateway": statistics.median(
            _rate(a) / _rate(b) for a, b in zip(rounds, base, strict=True)
        ),
        "p50_ms": 1e3 * _util.percentile(latencies, 0.5),
        "p99_ms": 1e3 * _util.percentile(latencies, 0.99),
        "game_cpu_ms": 1e3 * sum(each["cpu_seconds"] for each in rounds) / calls,
        "gateway_cpu_ms": 1e3 * sum(each["gateway_cpu"] for each in rounds) / calls,
        **way.start,
        **({"rss_mb_after_load": way.rss_mb()} if way.pids else {}),
    }


def run() -> dict[str, Any]:
    """Measure everything; returns what `main` prints and writes."""
    missing: dict[str, str] = {}
    with ExitStack() as stack:
        begun = time.perf_counter()
        fleet = Fleet(stack)
        ready = time.perf_counter() - begun  # both processes and the upstream
        ours = Way("arena", fleet.target, [fleet.pids["service"], fleet.pids["router"]])
        ours.start = {"ready_s": ready, "rss_mb": ours.rss_mb()}
        ways = {"no gateway": Way("openai", fleet.url), "arena_llm": ours}
        for name, counts in WORKERS.items():
            try:
                set_up(name)
            except NotMeasured as error:
                missing[name] = str(error)
                continue
            for workers in counts:
                row = f"{name}, {workers} workers" if workers > 1 else name
                try:
                    ways[row] = start(stack, name, workers, fleet.url)
                except NotMeasured as error:
                    missing[row] = str(error)
        rounds: dict[str, list[dict[str, Any]]] = {row: [] for row in ways}
        for _ in range(ROUNDS):
            for row, way in ways.items():
                rounds[row].append(_round(way))
        base = rounds["no gateway"]
        figures = {row: _figures(way, rounds[row], base) for row, way in ways.items()}
    return {"pins": PINS, "callers": CALLERS, "ways": figures, "not_measured": missing}


def main() -> None:
    """Print the table and write the JSON."""
    # Ended from outside, too, this ends the processes that it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if "--setup" in sys.argv[1:]:
        for name in PINS:
            try:
                print(set_up(name))
            except NotMeasured as error:
                print(f"{name}: NOT MEASURED: {error}")
        return
    results = run()
    header = list(results["ways"]["arena_llm"])
    rows = [
        [row, *(figures.get(name, "-") for name in header)]
        for row, figures in results["ways"].items()
    ]
    _util.print_table(f"{CALLERS} at once from one process", ["through", *header], rows)
    for row, reason in results["not_measured"].items():
        print(f"{row}: NOT MEASURED: {reason}")
    _util.write_results("gateways", results)


if __name__ == "__main__":
    main()
