"""The latency that router and service add: `python -m bench.latency`.

The upstream answers after 20 ms (bench/provider.py). A load generator in C calls it directly,
through the service, and through router and service. In turns in the same run, one Python process
calls it with the official client, and one with this system's client through router and service.
"""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from arena_llm.v1 import generate_pb2
from bench import h2load, harness, openrouter
from bench.goals import Goal

CALLERS = (16, 64)
DELAY = 0.02
ROUNDS = 3
SECONDS = 3.0

METHOD = "arena_llm.v1.LlmService/Generate"
REQUEST = h2load.grpc_frame(
    generate_pb2.GenerateRequest(
        model="openrouter_a/b", prompt=harness.PROMPT, config={"max_tokens": 8}
    ).SerializeToString()
)
BODY = json.dumps(openrouter.BODY).encode()

_BOTH = ("ways", "16", "C generator, router, service")
GOALS = (
    Goal("p50 that router and service add, 16 callers", (*_BOTH, "added_p50_ms"), "<=", 2, "ms"),
    Goal("p99 that router and service add, 16 callers", (*_BOTH, "added_p99_ms"), "<=", 5, "ms"),
    *(
        Goal(f"p99 of the official client directly, {callers} callers",
             ("of_official_p99", str(callers)), "<=", 1, "x")
        for callers in CALLERS
    ),
)  # fmt: skip


def _ways(system: harness.System, url: str, callers: int) -> dict[str, Any]:
    def grpc(address: str) -> Any:
        return partial(
            h2load.load, f"http://{address}/{METHOD}", REQUEST, h2load.GRPC, callers, SECONDS
        )

    return {
        "C generator, upstream": partial(
            h2load.load, f"{url}/chat/completions", BODY, h2load.JSON, callers, SECONDS
        ),
        "C generator, service": grpc(system.service),
        "C generator, router, service": grpc(system.target),
        "official client, upstream": partial(openrouter.play_game, "openai", url, callers),
        "client, router, service": partial(openrouter.play_game, "arena", system.target, callers),
    }


def run() -> dict[str, Any]:
    """Measure everything; returns what `main` prints and writes."""
    results: dict[str, Any] = {"ways": {}, "of_official_p99": {}}
    with openrouter.fleet(delay=DELAY) as (system, url):
        for callers in CALLERS:
            ways = _ways(system, url, callers)
            runs = harness.take_turns(ways, ROUNDS, system.pids)
            figures = {way: harness.figures(rounds) for way, rounds in runs.items()}
            base = figures["C generator, upstream"]
            for way, row in figures.items():
                for name in ("p50_ms", "p99_ms"):
                    row[f"added_{name}"] = row[name] - base[name]
                row.pop("caller_cpu_ms", None)
                figures[way] = row
            ours, theirs = figures["client, router, service"], figures["official client, upstream"]
            results["of_official_p99"][str(callers)] = ours["p99_ms"] / theirs["p99_ms"]
            results["ways"][str(callers)] = figures
    return results


def main() -> None:
    """Print the tables and write the JSON."""
    if not h2load.is_installed():
        return
    results = run()
    for callers, ways in results["ways"].items():
        harness.print_ways(f"{callers} callers, upstream of {1e3 * DELAY:g} ms", ways)
    harness.write_results("latency", GOALS, results)


if __name__ == "__main__":
    main()
