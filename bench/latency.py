"""The latency that router and service add: `python -m bench.latency`.

The upstream answers after 20 ms (bench/provider.py). A load generator in C calls it directly, then
the service, and both router and service. Beside them, in turns in the same run: one Python process
with the official client directly, and one with this system's client through both.
"""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from arena_llm.v1 import generate_pb2
from bench import h2load, harness, openrouter

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
    results: dict[str, Any] = {}
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
            results[str(callers)] = figures
    return results


def main() -> None:
    """Print the tables and write the JSON."""
    if not h2load.is_installed():
        return
    results = run()
    for callers, ways in results.items():
        harness.print_ways(f"{callers} callers, upstream of {1e3 * DELAY:g} ms", ways)
    both = results[str(CALLERS[0])]["C generator, router, service"]
    goals = [
        (f"added p50 in ms, {CALLERS[0]} callers", both["added_p50_ms"], "<=", 2.0),
        (f"added p99 in ms, {CALLERS[0]} callers", both["added_p99_ms"], "<=", 5.0),
    ]
    for callers, ways in results.items():
        ours, theirs = ways["client, router, service"], ways["official client, upstream"]
        ratio = ours["p99_ms"] / theirs["p99_ms"]
        goals.append((f"p99 of the official client, {callers} callers", ratio, "<=", 1.0))
    harness.print_goals(goals)
    harness.write_results("latency", results)


if __name__ == "__main__":
    main()
