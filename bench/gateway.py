"""The cost of the gateway: `python -m bench.gateway`.

1. The official client with ten calls in flight, directly to an upstream that answers immediately,
   and through gateway, router and openrouter service to the same upstream, in turns.
2. The time to the first token of a stream: by HTTP from the gateway, and by gRPC from the router.
3. Open streams at the same time: none may be lost, and the memory must stay flat.

`python -m bench.gateway serve LISTEN` is the backend of 2 and 3: it answers "drip" with a piece
every PAUSE seconds, and any other prompt immediately.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp

from arena_llm import AsyncClient
from arena_llm.types import (
    Availability,
    Completion,
    Delta,
    FinishReason,
    GenerationRequest,
    Message,
    Model,
    ModelState,
    Progress,
    Usage,
)
from bench import harness, openrouter
from bench.goals import Goal
from services.common.backend import BaseLLMBackend
from services.common.config import ServiceConfig
from services.common.fields import ALWAYS_HONOURED, PATHS
from services.common.log import configure_logging
from services.common.server import run as run_server
from services.common.servicer import LlmServicer

STREAMS = 1000
PIECES, PAUSE = 20, 0.5
#: First tokens that are timed, of each way in each round.
FIRSTS, FIRST_ROUNDS = 100, 5

MODEL = "hf_drip"

GOALS = (
    Goal("calls/s of the official client directly", ("calls", "openai, gateway", "x_openai"),
         ">=", 0.85, "x"),
    Goal("first token, later than by gRPC", ("first_token", "HTTP", "later_ms"), "<=", 3, "ms"),
    Goal("streams lost of 2 x 1,000", ("lost",), "<=", 0),
    Goal("memory that 1,000 open streams add while they are open",
         ("again", "growth_mb_while_open"), "<=", 5, "MB"),
)  # fmt: skip


class DrippingBackend(BaseLLMBackend[ServiceConfig]):
    """Streams pieces with pauses, or one piece immediately."""

    name = "hf"
    config_type = ServiceConfig
    fields = PATHS - ALWAYS_HONOURED

    async def generate_response(self, request: GenerationRequest) -> Completion:
        return _complete("5")

    async def stream_response(
        self, request: GenerationRequest
    ) -> AsyncGenerator[Delta | Progress | Completion, None]:
        drips = request.messages[-1].text == "drip"
        for _ in range(PIECES if drips else 1):
            yield Delta(text="x")
            if drips:
                await asyncio.sleep(PAUSE)
        yield _complete("x" * (PIECES if drips else 1))

    async def is_model_available(self, model: str) -> Availability:
        return Availability(True, ModelState.READY)

    async def get_available_models(self) -> Sequence[Model]:
        return [Model(MODEL)]


def _complete(text: str) -> Completion:
    return Completion(Message("assistant", text), FinishReason.STOP, Usage(60, len(text)))


class Door(NamedTuple):
    """A running gateway."""

    url: str
    pid: int


@contextmanager
def open_door(router: str) -> Iterator[Door]:
    """Start a gateway for a router."""
    address = harness.free_address()
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "gateway.yaml"
        limits = {"max_connections": 4 * STREAMS}
        config.write_text(json.dumps({"listen": address, "router": router, **limits}))
        with harness.process("gateway", "--config", str(config)) as running:
            harness.wait_listening(address, running)
            yield Door(f"http://{address}/v1", running.pid)


def _measure_calls() -> dict[str, Any]:
    with openrouter.fleet() as (system, url), open_door(system.target) as door:
        games = {
            "openai, direct": partial(openrouter.play_game, "openai", url),
            "openai, gateway": partial(openrouter.play_game, "openai_door", door.url),
            "client, router": partial(openrouter.play_game, "arena", system.target),
        }
        pids = {**system.pids, "gateway": door.pid}
        runs = harness.take_turns(games, openrouter.ROUNDS, pids)
        base = harness.rates(runs["openai, direct"])
        return {
            way: harness.figures(rounds) | {"x_openai": harness.ratio(harness.rates(rounds), base)}
            for way, rounds in runs.items()
        }


@contextmanager
def _dripping() -> Iterator[tuple[str, Door]]:
    """Yield the address of a router in front of the dripping backend, and a gateway."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        backend, target = harness.free_address(), harness.free_address()
        running = stack.enter_context(harness.process("bench.gateway", "serve", backend))
        harness.wait_serving(backend, running)
        routes = {"hf_": {"targets": [backend], "connections": 4}}
        config = folder / "router.yaml"
        config.write_text(json.dumps({"listen": target, "routes": routes}))
        router = stack.enter_context(harness.process("router", "--config", str(config)))
        harness.wait_serving(target, router)
        yield target, stack.enter_context(open_door(target))


async def _time_firsts(target: str, url: str) -> dict[str, dict[str, float]]:
    """Each way has one caller. The ways take turns."""
    ways: dict[str, list[float]] = {"gRPC": [], "HTTP": []}
    body = {"model": MODEL, "messages": [{"role": "user", "content": "now"}], "stream": True}
    async with AsyncClient(target) as llm, aiohttp.ClientSession() as session:

        async def by_grpc() -> float:
            begun = time.perf_counter()
            async with llm.stream(MODEL, "now") as stream:
                await anext(stream)
                first = time.perf_counter() - begun
                async for _ in stream:
                    pass
            return first

        async def by_http() -> float:
            begun = time.perf_counter()
            async with session.post(f"{url}/chat/completions", json=body) as answer:
                while b'"content":"x"' not in await answer.content.readline():
                    pass
                first = time.perf_counter() - begun
                await answer.read()
            return first

        for _ in range(FIRST_ROUNDS):
            for way, call in (("gRPC", by_grpc), ("HTTP", by_http)):
                await call()
                ways[way] += [await call() for _ in range(FIRSTS)]
    base = statistics.median(ways["gRPC"])
    return {
        way: {
            "p50_ms": 1e3 * statistics.median(times),
            "p99_ms": 1e3 * harness.percentile(times, 0.99),
            "later_ms": 1e3 * (statistics.median(times) - base),
        }
        for way, times in ways.items()
    }


async def _hold_streams(door: Door) -> dict[str, float]:
    """Read all streams at the same time; look at the memory of the gateway meanwhile."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": "drip"}], "stream": True}
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=300)
    opened = 0
    everybody = asyncio.Event()
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:

        async def read() -> bool:
            nonlocal opened
            async with session.post(f"{door.url}/chat/completions", json=body) as answer:
                data = await answer.content.readline()
                opened += 1
                if opened == STREAMS:
                    everybody.set()
                data += await answer.read()
            return data.count(b'"content":"x"') == PIECES and data.endswith(b"data: [DONE]\n\n")

        before = harness.rss_mb(door.pid)
        begun = time.perf_counter()
        reading = [asyncio.create_task(read()) for _ in range(STREAMS)]
        await asyncio.wait_for(everybody.wait(), 120)
        open_mb = [harness.rss_mb(door.pid)]
        while not all(task.done() for task in reading):
            await asyncio.sleep(1)
            open_mb.append(harness.rss_mb(door.pid))
        whole = [await task for task in reading]
    return {
        "streams": STREAMS,
        "lost": whole.count(False),
        "seconds": time.perf_counter() - begun,
        "rss_mb_before": before,
        "rss_mb_all_open": open_mb[0],
        "rss_mb_most": max(open_mb),
        "growth_mb_while_open": max(open_mb) - open_mb[0],
    }


def run() -> dict[str, Any]:
    """Measure everything; returns what `main` prints and writes."""
    results: dict[str, Any] = {"calls": _measure_calls()}
    with _dripping() as (target, door):
        results["first_token"] = asyncio.run(_time_firsts(target, door.url))
        results["streams"] = asyncio.run(_hold_streams(door))
        results["again"] = asyncio.run(_hold_streams(door))
        results["lost"] = results["streams"]["lost"] + results["again"]["lost"]
    return results


def main() -> None:
    """Print the tables and write the JSON."""
    results = run()
    harness.print_ways("ten calls in flight from one process", results["calls"])
    harness.print_ways("time to the first token, one caller", results["first_token"])
    for name in ("streams", "again"):
        harness.print_table(name, ["figure", "value"], list(results[name].items()))
    harness.write_results("gateway", GOALS, results)


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        configure_logging()
        listen = sys.argv[2]
        run_server(LlmServicer(DrippingBackend(ServiceConfig(listen=listen))), listen)
    else:
        main()
