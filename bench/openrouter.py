"""The cost and capacity of the openrouter service: `python -m bench.openrouter`.

The upstream is a local server that answers immediately (bench/provider.py). A game process
with ten calls in flight reaches it through client, router and service, and, in turns within
the same run, directly with the official client. Then: 500 calls at the same time against an
upstream that takes 2 s, and 10,000 calls of which a tenth of the attempts fail.

`python -m bench.openrouter WAY TARGET CALLERS` is the game process: it prints its run as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import asdict
from functools import partial
from typing import Any

from arena_llm import ArenaError, AsyncClient
from bench import harness
from bench.goals import Goal

ROUNDS = 5
SECONDS = 2.0  # of each round and way
CALLERS = 10
HELD, DELAY = 500, 2.0
GAMES = 4  # at the same time, to load two workers
FAULTY, SHARE = 10_000, 0.1

BODY = {
    "model": "a/b",
    "messages": [{"role": "user", "content": harness.PROMPT}],
    "max_tokens": 8,
}

_OURS = ("ways", "client, router, service")
GOALS = (
    Goal("calls/s of the official client directly", (*_OURS, "x_openai"), ">=", 2.75, "x"),
    Goal("CPU of a caller, of the official client's", (*_OURS, "of_openai_cpu"), "<=", 1 / 6, "x"),
    Goal("CPU of the router for a call", (*_OURS, "router_cpu_ms"), "<=", 0.30, "ms"),
    Goal("CPU of the service for a call", (*_OURS, "service_cpu_ms"), "<=", 0.40, "ms"),
    Goal("memory of router and service after 10,000 calls", ("footprint", "rss_mb_after_load"),
         "<=", 140, "MB"),
    Goal("until the service serves", ("footprint", "ready_s"), "<=", 1.0, "s"),
    Goal("until the router serves", ("footprint", "router_ready_s"), "<=", 1.0, "s"),
    Goal("calls/s of two workers, of one", ("workers", "ratio"), ">=", 1.6, "x"),
    Goal("calls lost of 500 at the same time", ("held", "lost"), "<=", 0),
    Goal("wrong answers of 10,000 calls with 10 % faults", ("faults", "wrong"), "<=", 0),
    Goal("memory that the second half of them adds", ("faults", "growth_mb"), "<=", 2, "MB"),
)  # fmt: skip

Call = Callable[[], Awaitable[Any]]


@contextmanager
def fleet(
    delay: float = 0, faults: float = 0, workers: int = 1, **settings: Any
) -> Iterator[tuple[Any, str]]:
    """Upstream, service and router as processes; yields the System and the upstream's URL."""
    with ExitStack() as stack:
        upstream = harness.free_address()
        command = ("bench.provider", upstream, str(delay), str(faults))
        running = stack.enter_context(harness.process(*command))
        url = f"http://{upstream}/api/v1"
        config = {"base_url": url, "models": [], **settings}
        env = {"OPENROUTER_API_KEY": "sk-none"}
        system = harness.System(stack, "openrouter", config, env, workers=workers)
        harness.wait_listening(upstream, running)
        yield system, url


# The ways, in the game process


@asynccontextmanager
async def arena(target: str) -> AsyncIterator[Call]:
    """This system's client; target: router or service."""
    async with AsyncClient(target) as llm:
        yield lambda: llm.generate("openrouter_a/b", harness.PROMPT, max_tokens=8)


@asynccontextmanager
async def openai(target: str, model: str = "a/b", **options: Any) -> AsyncIterator[Call]:
    """The official client; target: the base URL."""
    from openai import AsyncOpenAI

    body = {**BODY, "model": model}
    async with AsyncOpenAI(base_url=target, api_key="none", **options) as client:
        yield lambda: client.chat.completions.create(**body)  # type: ignore[call-overload]


@asynccontextmanager
async def openai_door(target: str) -> AsyncIterator[Call]:
    """The official client through our own gateway."""
    async with openai(target, "openrouter_a/b") as call:
        yield call


@asynccontextmanager
async def openai_aiohttp(target: str) -> AsyncIterator[Call]:
    """The official client over its aiohttp transport."""
    from openai import DefaultAioHttpClient

    async with openai(target, http_client=DefaultAioHttpClient()) as call:
        yield call


@asynccontextmanager
async def httpx(target: str) -> AsyncIterator[Call]:
    """Bare httpx."""
    import httpx

    async with httpx.AsyncClient() as client:

        async def call() -> Any:
            return (await client.post(f"{target}/chat/completions", json=BODY)).json()

        yield call


@asynccontextmanager
async def aiohttp(target: str) -> AsyncIterator[Call]:
    """The service's HTTP client, without limits, retries and the gRPC around it."""
    from services.common.hosted.config import Timeouts
    from services.common.hosted.keys import Keys, Redactor
    from services.openrouter.config import OpenRouterConfig
    from services.openrouter.upstream import OpenRouterUpstream

    config = OpenRouterConfig(listen="127.0.0.1:0", base_url=target, dialect="openai", models=[])
    upstream = OpenRouterUpstream(config, Keys(frozenset(), {}), Redactor([]))
    try:
        yield lambda: upstream.complete(BODY, Timeouts(60, 60))
    finally:
        await upstream.aclose()


WAYS = {way.__name__: way for way in (arena, openai, openai_door, openai_aiohttp, httpx, aiohttp)}


async def play(way: str, target: str, callers: str) -> harness.Run:
    """One round of the game process. Plain asyncio, as in a game."""
    async with WAYS[way](target) as call:
        return await harness.drive(call, int(callers), SECONDS)


# What is measured


def play_game(
    way: str, target: str, callers: int = CALLERS, env: Mapping[str, str] | None = None
) -> harness.Run:
    """Run a game process to its end. env: more variables of its environment."""
    command = [sys.executable, "-m", "bench.openrouter", way, target, str(callers)]
    output = subprocess.check_output(command, env={**os.environ, **(env or {})})
    return harness.Run(**json.loads(output))


def _ways(system: harness.System, url: str) -> dict[str, Any]:
    targets = {
        "openai, direct": ("openai", url),
        "openai over aiohttp, direct": ("openai_aiohttp", url),
        "httpx, direct": ("httpx", url),
        "the service's HTTP client": ("aiohttp", url),
        "client, service": ("arena", system.service),
        "client, router, service": ("arena", system.target),
    }
    games = {way: partial(play_game, kind, target) for way, (kind, target) in targets.items()}
    runs = harness.take_turns(games, ROUNDS, system.pids)
    base = runs["openai, direct"]
    return {
        way: harness.figures(rounds)
        | {
            "x_openai": harness.ratio(harness.rates(rounds), harness.rates(base)),
            "of_openai_cpu": harness.ratio(
                [run.caller_cpu for run in rounds], [run.caller_cpu for run in base]
            ),
        }
        for way, rounds in runs.items()
    }


async def _hold(target: str) -> dict[str, float]:
    """All calls at the same time; each takes the upstream DELAY seconds."""
    async with AsyncClient(target, timeout=60) as llm:

        async def call() -> float:
            begun = time.perf_counter()
            await llm.generate("openrouter_a/b", "Your move?")
            return time.perf_counter() - begun

        await asyncio.gather(*(call() for _ in range(10)))
        start = time.perf_counter()
        ends = await asyncio.gather(*(call() for _ in range(HELD)), return_exceptions=True)
        times = [end for end in ends if isinstance(end, float)]
        return {
            "calls": HELD,
            "lost": HELD - len(times),
            "p50_s": harness.percentile(times, 0.5),
            "p99_s": harness.percentile(times, 0.99),
            "all_s": time.perf_counter() - start,
        }


async def _fail(target: str, pid: int) -> dict[str, Any]:
    """Every call ends with its own text or a typed error, and the memory stays flat."""
    memory = []
    errors: Counter[str] = Counter()
    wrong = 0
    started = time.perf_counter()
    async with AsyncClient(target, timeout=60) as llm:
        for batch in range(10):
            size = FAULTY // 10
            prompts = [f"move {batch * size + n}" for n in range(size)]
            replies = llm.generate_many("openrouter_a/b", prompts, concurrency=50)
            async for index, reply in replies:
                if isinstance(reply, ArenaError):
                    errors[reply.reason] += 1
                else:
                    wrong += reply.text != prompts[index]
            memory.append(round(harness.rss_mb(pid), 1))
    return {
        "calls": FAULTY,
        "wrong": wrong,
        "errors": dict(errors),
        "seconds": time.perf_counter() - started,
        "rss_mb": memory,
        "growth_mb": memory[-1] - memory[len(memory) // 2],
        "open_files": len(os.listdir(f"/proc/{pid}/fd")),
    }


async def _weigh(system: harness.System) -> dict[str, float]:
    """Memory at the start, and after FAULTY calls of which some have a megabyte."""
    figures = {"ready_s": system.ready_seconds, "router_ready_s": system.router_ready_seconds}
    figures["rss_mb"] = sum(map(harness.rss_mb, system.pids.values()))
    prompts = ["x" * 1_000_000 if n % 500 == 0 else f"move {n}" for n in range(FAULTY)]
    async with AsyncClient(system.target, timeout=60) as llm:
        async for _, reply in llm.generate_many("openrouter_a/b", prompts, concurrency=10):
            if isinstance(reply, ArenaError):
                raise reply
    figures["rss_mb_after_load"] = sum(map(harness.rss_mb, system.pids.values()))
    return figures


def _scale() -> dict[str, float]:
    """Calls per second of several games together, with one and with two workers."""
    rates = {}
    for workers in (1, 2):
        with fleet(workers=workers) as (system, _), ThreadPoolExecutor(GAMES) as pool:
            runs = pool.map(lambda _: play_game("arena", system.target), range(GAMES))
            rates[f"{workers}_workers_calls_per_s"] = sum(run.rate for run in runs)
    return {**rates, "ratio": rates["2_workers_calls_per_s"] / rates["1_workers_calls_per_s"]}


def run() -> dict[str, Any]:
    """Measure everything; returns what `main` prints and writes."""
    results: dict[str, Any] = {}
    with fleet() as (system, url):
        results["ways"] = _ways(system, url)
    with fleet() as (system, _):
        results["footprint"] = asyncio.run(_weigh(system))
    if (os.cpu_count() or 1) >= 6:  # for two workers of each, the upstream and the callers
        results["workers"] = _scale()
    with fleet(delay=DELAY) as (system, _):
        results["held"] = asyncio.run(_hold(system.target))
    with fleet(faults=SHARE, backoff_seconds=0.01, max_backoff_seconds=0.1) as (system, _):
        results["faults"] = asyncio.run(_fail(system.target, system.pids["service"]))
    return results


def main() -> None:
    """Print the tables and write the JSON."""
    results = run()
    harness.print_ways(f"{CALLERS} calls in flight from one process", results["ways"])
    for name in ("footprint", "held", "faults", "workers"):
        if name in results:
            harness.print_table(name, ["figure", "value"], list(results[name].items()))
    harness.write_results("openrouter", GOALS, results)


if __name__ == "__main__":
    if sys.argv[1:]:
        print(json.dumps(asdict(asyncio.run(play(*sys.argv[1:])))))
    else:
        main()
