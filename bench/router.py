"""The cost of the router: `python -m bench.router`.

One process makes the same unary call to a backend that answers immediately: directly (direct),
through a proxy that only passes on bytes (yardstick), and through the router.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import uvloop

from arena_llm.types import (
    Availability,
    Completion,
    FinishReason,
    GenerationRequest,
    Message,
    Model,
    ModelState,
    Usage,
)
from arena_llm.v1 import generate_pb2
from bench import harness
from bench.goals import Goal
from services.common.backend import BaseLLMBackend
from services.common.config import ServerTls, ServiceConfig
from services.common.log import configure_logging
from services.common.server import run as run_server
from services.common.servicer import LlmServicer

CALLERS = (1, 10, 100)
ROUNDS = 5
SECONDS = 1.0  # of each round and way

METHOD = "/arena_llm.v1.LlmService/Generate"
REQUEST = generate_pb2.GenerateRequest(
    model="hf_instant", prompt=harness.PROMPT, session="game-1", labels={"player": "x"}
).SerializeToString()


#: That of 10 callers.
GOALS = (
    Goal("calls/s of the smallest proxy in Python", ("unary", "10", "router", "x_yardstick"),
         ">=", 0.8, "x"),
    Goal("calls/s of the backend without a router", ("unary", "10", "router", "x_direct"),
         ">=", 0.4, "x"),
    Goal("memory of the router after the calls", ("start", "rss_mb_after_load"), "<=", 80, "MB"),
    Goal("until the router serves", ("start", "ready_s"), "<=", 1.5, "s"),
    Goal("import arena_llm", ("start", "import_arena_llm_s"), "<=", 0.3, "s"),
)  # fmt: skip


class InstantBackend(BaseLLMBackend[ServiceConfig]):
    """Answers every prompt with the same move."""

    name = "hf"
    config_type = ServiceConfig

    async def generate_response(self, request: GenerationRequest) -> Completion:
        return Completion(Message("assistant", "5"), FinishReason.STOP, Usage(60, 1))

    async def is_model_available(self, model: str) -> Availability:
        return Availability(True, ModelState.READY)

    async def get_available_models(self) -> Sequence[Model]:
        return [Model("hf_instant")]


def serve_backend(listen: str, certificates: str = "") -> None:
    """Run the backend. certificates: the folder of those of an encrypted listener."""
    configure_logging()
    tls = None
    if certificates:
        folder = Path(certificates)
        tls = ServerTls(certificate=folder / "server.crt", key=folder / "server.key")
    config = ServiceConfig(listen=listen, tls=tls)
    run_server(LlmServicer(InstantBackend(config)), listen, config=config)


async def serve_yardstick(listen: str, target: str) -> None:
    """Run the smallest possible gRPC proxy in Python."""
    forward = grpc.aio.insecure_channel(target).unary_unary(METHOD)

    async def generate(data: bytes, context: grpc.aio.ServicerContext) -> bytes:
        return await forward(data)

    handler = grpc.unary_unary_rpc_method_handler(generate)
    server = grpc.aio.server()
    service, method = METHOD[1:].split("/")
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(service, {method: handler}),)
    )
    server.add_insecure_port(listen)
    await server.start()
    await asyncio.Event().wait()


async def _load(target: str, callers: int) -> harness.Run:
    async with grpc.aio.insecure_channel(target) as channel:
        call = channel.unary_unary(METHOD)
        return await harness.drive(lambda: call(REQUEST), callers, SECONDS)


def _measure(ways: dict[str, str], pids: dict[str, int], callers: int) -> dict[str, Any]:
    calls = {way: partial(_run, target, callers) for way, target in ways.items()}
    runs = harness.take_turns(calls, ROUNDS, pids)
    return {
        way: harness.figures(runs[way])
        | {
            f"x_{base}": harness.ratio(harness.rates(runs[way]), harness.rates(runs[base]))
            for base in ("direct", "yardstick")
        }
        for way in ways
    }


def _run(target: str, callers: int) -> harness.Run:
    return uvloop.run(_load(target, callers))


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
        with harness.process("router", "--config", config) as router:
            harness.wait_serving(listen, router)
            seconds.append(time.perf_counter() - start)
            memory.append(harness.rss_mb(router.pid))
    return {"ready_s": statistics.median(seconds), "rss_mb": statistics.median(memory)}


def run() -> dict[str, Any]:
    """Measure everything; returns what `main` prints and writes."""
    backend, yardstick, router = (harness.free_address() for _ in range(3))
    with ExitStack() as stack:
        config = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "router.yaml"
        config.write_text(json.dumps({"listen": router, "routes": {"hf_": {"targets": [backend]}}}))
        results: dict[str, Any] = {"start": _cold_start(str(config), router)}
        results["start"]["import_arena_llm_s"] = _import_seconds("arena_llm")
        commands = {
            "backend": ("bench.router", "backend", backend),
            "yardstick": ("bench.router", "yardstick", yardstick, backend),
            "router": ("router", "--config", str(config)),
        }
        running = {
            name: stack.enter_context(harness.process(*command))
            for name, command in commands.items()
        }
        harness.wait_serving(backend, running["backend"])
        harness.wait_serving(router, running["router"])
        harness.wait_listening(yardstick, running["yardstick"])
        pids = {name: process.pid for name, process in running.items()}
        ways = {"direct": backend, "yardstick": yardstick, "router": router}
        results["unary"] = {str(n): _measure(ways, pids, n) for n in CALLERS}
        results["start"]["rss_mb_after_load"] = harness.rss_mb(pids["router"])
    return results


def main() -> None:
    """Print the tables and write the JSON."""
    results = run()
    for callers, ways in results["unary"].items():
        harness.print_ways(f"unary, {callers} callers", ways)
    harness.print_table("router", ["figure", "value"], list(results["start"].items()))
    harness.write_results("router", GOALS, results)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["backend", listen, *certificates]:
            serve_backend(listen, *certificates)
        case ["yardstick", listen, target]:
            uvloop.run(serve_yardstick(listen, target))
        case _:
            main()
