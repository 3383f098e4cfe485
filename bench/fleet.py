"""A model of a fleet, and where it breaks first: `python -m bench.fleet`.

The parameters of the model (bench/fleet_model.py) are measured here with real services, and its
predictions are compared with 1, 2 and 3 real replicas. Then it runs to 1,000 GPUs and 100,000
games. `--docs` also draws docs/images/fleet.png for docs/fleet.md.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from arena_llm import AsyncClient
from bench import harness
from bench.fleet_model import Fleet, simulate, simulate_start
from bench.goals import Goal

ROOT = Path(__file__).parents[1]
MODEL = "openrouter_a/b"

# In the real runs, replicas of the openrouter service have few places and a slow provider, so that
# places are the limit, not the cores of this machine.
PLACES, DELAY, GAMES_PER_REPLICA = 8, 0.4, 10
ROUNDS, SECONDS = 4, 5.0

GOALS = (
    Goal("largest difference of the model from 1, 2 and 3 replicas", ("worst",), "<=", 0.15, "%"),
)


# Real services


@dataclass
class RealRun:
    """What real services did: the times of the calls, and how many games each replica had."""

    latencies: list[float] = field(default_factory=list)
    rate: float = 0.0
    load: tuple[int, ...] = ()


class RealFleet:
    """Replicas of the openrouter service, a router, and a provider that answers after DELAY."""

    def __init__(self, stack: ExitStack, replicas: int) -> None:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        provider = harness.free_address()
        running = stack.enter_context(harness.process("bench.provider", provider, str(DELAY), "0"))
        harness.wait_listening(provider, running)
        self.targets = [harness.free_address() for _ in range(replicas)]
        self.start_seconds = []
        for number, address in enumerate(self.targets):
            file = folder / f"{number}.yaml"
            config = {"listen": address, "base_url": f"http://{provider}", "models": []}
            file.write_text(json.dumps({**config, "max_concurrency": PLACES}))
            begun = time.perf_counter()
            command = ("services.openrouter", "--config", str(file))
            service = stack.enter_context(
                harness.process(*command, env={"OPENROUTER_API_KEY": "sk-or-v1-none"})
            )
            harness.wait_serving(address, service)
            self.start_seconds.append(time.perf_counter() - begun)
        self.target = harness.free_address()
        file = folder / "router.yaml"
        routes = {"openrouter_": {"targets": self.targets}}
        file.write_text(json.dumps({"listen": self.target, "routes": routes}))
        self.router = stack.enter_context(harness.process("router", "--config", str(file)))
        harness.wait_serving(self.target, self.router)

    async def play(self, games: int, seconds: float, name: str) -> RealRun:
        """Let games call one after another."""
        run = RealRun()
        async with AsyncClient(self.target) as llm:
            start = time.perf_counter() + 2 * DELAY
            homes: dict[int, str] = {}

            async def game(number: int) -> None:
                while (begun := time.perf_counter()) < start + seconds:
                    reply = await llm.generate(MODEL, "Your move?", session=f"{name} {number}")
                    homes[number] = reply.served_by.replica
                    if start <= time.perf_counter() < start + seconds:
                        run.latencies.append(time.perf_counter() - begun)

            await asyncio.gather(*(game(number) for number in range(games)))
        run.rate = len(run.latencies) / seconds
        run.load = tuple(Counter(homes.values()).values())
        return run


def measure() -> dict[str, Any]:
    """Measure the parameters with one replica, and the rates of 1, 2 and 3."""
    runs, starts, service, cpu = {}, [], 0.0, 0.0
    for replicas in (1, 2, 3):
        with ExitStack() as stack:
            real = RealFleet(stack, replicas)
            starts += real.start_seconds
            if replicas == 1:  # fewer games than places: no call waits
                alone = asyncio.run(real.play(PLACES // 2, SECONDS, "alone"))
                service = statistics.mean(alone.latencies)
            before = harness.cpu_seconds(real.router.pid)
            games = GAMES_PER_REPLICA * replicas
            runs[replicas] = [
                asyncio.run(real.play(games, SECONDS, f"round {number}"))
                for number in range(ROUNDS)
            ]
            calls = sum(len(run.latencies) for run in runs[replicas])
            cpu = (harness.cpu_seconds(real.router.pid) - before) / calls
    return {"service_s": service, "router_cpu_s": cpu, "start_s": max(starts), "runs": runs}


def validate(measured: dict[str, Any]) -> list[dict[str, float]]:
    """Compare the model with the real rates. Each replica of the model has the real one's games."""
    rows = []
    for replicas, runs in measured["runs"].items():
        fleet = Fleet(
            games=GAMES_PER_REPLICA * replicas,
            replicas=replicas,
            places=PLACES,
            service=measured["service_s"],
        )
        real = statistics.mean(run.rate for run in runs)
        predicted = statistics.mean(
            simulate(replace(fleet, replicas=len(run.load), load=run.load), 20, 2).calls_per_s
            for run in runs
        )
        rows.append({"replicas": replicas, "real": real, "model": predicted,
                     "difference": predicted / real - 1})  # fmt: skip
    return rows


# The large fleet

#: One GPU with a small model: an assumption, because none was measured here.
GPU = Fleet(games=0, replicas=0, places=64, service=1.5, spread=0.5, think=1.0)
GAMES_PER_GPU = 100
#: CPU seconds of a busy router for each call, measured by bench.router.
ROUTER_CPU = 0.0003
VNODES = 128


def sweep(sizes: Sequence[int]) -> list[dict[str, Any]]:
    """Run fleets of these sizes in four ways."""
    rows = []
    for gpus in sizes:
        base = replace(GPU, games=GAMES_PER_GPU * gpus, replicas=gpus)
        enough = max(1, -(-gpus * GAMES_PER_GPU * 6 // 10 * 3 // 5000))
        seconds = 8.0 if gpus < 300 else 2.0  # 40,000 calls in a second take minutes
        ways = {
            "no bound": replace(base, vnodes=-1),
            "one router": replace(base, router=ROUTER_CPU, vnodes=VNODES),
            "gRPC's ring": replace(base, router=ROUTER_CPU, routers=enough),
            f"{VNODES} entries": replace(base, router=ROUTER_CPU, routers=enough, vnodes=VNODES),
        }
        row: dict[str, Any] = {"gpus": gpus, "routers": enough}
        for way, fleet in ways.items():
            found = simulate(fleet, seconds, 3.0)
            row[way] = {"calls_per_s": found.calls_per_s, "p50_s": found.p50, "p99_s": found.p99,
                        "imbalance": max(found.load) / statistics.mean(found.load)}  # fmt: skip
        rows.append(row)
        print(json.dumps(row), flush=True)
    return rows


def draw(sizes: list[dict[str, Any]], starts: dict[float, Any], limits: list[Any]) -> None:
    """Write docs/images/fleet.png."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 2, figsize=(10, 7), layout="constrained")
    gpus = [row["gpus"] for row in sizes]
    ways = [way for way in sizes[0] if isinstance(sizes[0][way], dict)]
    for way in ways:
        axes[0][0].loglog(gpus, [row[way]["calls_per_s"] for row in sizes], "o-", label=way)
    for way in ways[2:]:
        axes[0][1].semilogx(gpus, [row[way]["imbalance"] for row in sizes], "o-", label=way)
    for cold, seen in starts.items():
        line = [(second, waiting) for second, waiting, _ in seen]
        axes[1][0].plot(*zip(*line, strict=True), label=f"cold start {cold:g} s")
    axes[1][1].loglog(*zip(*limits, strict=True), "o-")
    titles = (
        ("calls per second", "GPUs"),
        ("games of the busiest replica over the mean", "GPUs"),
        ("calls that wait, 1,000 games from no replica", "seconds"),
        ("seconds of a call, provider with 10,000 calls a minute", "games"),
    )
    for axis, (title, below) in zip(axes.flat, titles, strict=True):
        axis.set_title(title, fontsize=10)
        axis.set_xlabel(below)
        axis.grid(alpha=0.3)
        if axis.get_legend_handles_labels()[0]:
            axis.legend(fontsize=8)
    figure.savefig(ROOT / "docs/images/fleet.png", dpi=90)


def limit(games: int) -> tuple[int, float]:
    """Return the time of a call where a provider allows 10,000 a minute."""
    period = 60 / 10_000
    fleet = Fleet(games=games, replicas=1, places=10**6, service=1.5, think=1.0, router=period)
    found = simulate(fleet, 20, 2 * games * period + 5)
    return games, found.p50


def main() -> None:
    """Print the tables, and write the JSON and, with --docs, the plots."""
    parser = argparse.ArgumentParser(prog="python -m bench.fleet")
    parser.add_argument("--docs", action="store_true", help="also draw docs/images/fleet.png")
    arguments = parser.parse_args()
    measured = measure()
    rows = validate(measured)
    harness.print_table(
        f"calls per second; a call takes {measured['service_s']:.3f} s, a router "
        f"{1e3 * measured['router_cpu_s']:.2f} ms of CPU, a start {measured['start_s']:.1f} s",
        list(rows[0]),
        [list(row.values()) for row in rows],
    )
    worst = max(abs(row["difference"]) for row in rows)
    sizes = sweep((10, 30, 100, 300, 1000))
    starts = {
        cold: simulate_start(1000, 20, GPU, cold, 900.0)
        for cold in (measured["start_s"], 60.0, 300.0)
    }
    limits = [limit(games) for games in (100, 300, 1000, 3000, 10_000)]
    for cold, seen in starts.items():
        waits = [second for second, waiting, _ in seen if waiting > 64]
        print(f"cold start {cold:.0f} s: calls wait until second {waits[-1]:.0f}")
    print(limits)
    results = {"validation": rows, "worst": worst, "sizes": sizes, "limits": limits}
    harness.write_results("fleet", GOALS, results)
    if arguments.docs:
        draw(sizes, starts, limits)


if __name__ == "__main__":
    main()
