"""What each part of operation costs the router: `python -m bench.overheads`.

The routers are in front of one backend that answers immediately. Two are plain. The others have
metrics, TLS on both hops, tokens, or traces of which one in a hundred is kept. They take turns. The
figure is the CPU that a router takes for a call: the lower quartile of many short rounds, because
other work on the machine only adds to it. The second plain router shows how large the noise is.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from itertools import cycle
from pathlib import Path
from typing import Any

import grpc
import uvloop

from arena_llm.tls import Tls, open_channel
from bench import harness
from bench.goals import Goal
from bench.router import METHOD, REQUEST
from deploy.certificates import make_certificates

CALLERS = 10
ROUNDS = 40
SECONDS = 0.4  # of each round and way

#: The most that each may cost, as a share of the plain router's CPU.
GOALS = tuple(
    Goal(f"the router's CPU, more with {what}", (way, "overhead"), "<=", share, "%")
    for way, what, share in (
        ("metrics", "metrics", 0.05),
        ("tls", "TLS", 0.15),
        ("tokens", "tokens", 0.05),
        ("traces", "traces at 1 %", 0.03),
        ("traced callers", "traces at 1 % that callers begin", 0.03),
    )
)

_TOKEN = secrets.token_urlsafe(32)
_SAMPLED = 0.01
_EXPORT = "opentelemetry.proto.collector.trace.v1.TraceService"


@dataclass(frozen=True)
class Variant:
    """A router. settings: of its configuration. trace: the name of the header with the trace.

    All callers send the same bytes. Otherwise a slower caller would make the router slower, because
    it would wake up more often.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    tls: Tls | None = None
    trace: str = "bench-trace"

    def headers(self) -> Iterator[tuple[tuple[str, str], ...]]:
        """Yield the headers of one call after the other. One trace in a hundred is kept."""
        token = ("authorization", f"Bearer {_TOKEN}")
        period = round(1 / _SAMPLED)
        place = f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-0"
        return cycle([(token, (self.trace, f"{place}{n == 0:d}")) for n in range(period)])


def _list_ways(folder: Path, receiver: str, certificates: Path) -> dict[str, Variant]:
    tokens = folder / "callers.yaml"
    entry = {"sha256": sha256(_TOKEN.encode()).hexdigest()}
    tokens.write_text(json.dumps({"tokens": {"bench": entry}}))
    server = {"certificate": f"{certificates}/server.crt", "key": f"{certificates}/server.key"}
    traces = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{receiver}",
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": f"{_SAMPLED}",
    }
    return {
        "plain": Variant(),
        "plain again": Variant(),
        "metrics": Variant({"metrics": harness.free_address()}),
        "tls": Variant({"tls": server}, tls=Tls(f"{certificates}/ca.crt")),
        "tokens": Variant({"tokens": str(tokens), "usage": str(folder / "usage.sqlite")}),
        "traces": Variant(environment=traces),
        "traced callers": Variant(environment=traces, trace="traceparent"),
    }


async def _load(address: str, way: Variant) -> harness.Run:
    async with open_channel(grpc.aio, address, way.tls, ()) as channel:
        call, headers = channel.unary_unary(METHOD), way.headers()
        return await harness.drive(lambda: call(REQUEST, metadata=next(headers)), CALLERS, SECONDS)


def _run(address: str, way: Variant) -> harness.Run:
    return uvloop.run(_load(address, way))


async def receive_traces(listen: str) -> None:
    """Run a receiver of traces that drops them."""

    async def export(_: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        return b""

    server = grpc.aio.server()
    handlers = {"Export": grpc.unary_unary_rpc_method_handler(export)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_EXPORT, handlers),))
    server.add_insecure_port(listen)
    await server.start()
    await asyncio.Event().wait()


def run() -> dict[str, Any]:
    """Measure everything; returns what `main` prints and writes."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        certificates = folder / "certs"
        make_certificates(certificates, [])
        backend, encrypted, receiver = (harness.free_address() for _ in range(3))
        starts = {
            backend: ("bench.router", "backend", backend),
            encrypted: ("bench.router", "backend", encrypted, str(certificates)),
            receiver: ("bench.overheads", "receiver", receiver),
        }
        for address, command in starts.items():
            harness.wait_listening(address, stack.enter_context(harness.process(*command)))
        pids, calls = {}, {}
        for name, way in _list_ways(folder, receiver, certificates).items():
            listen = harness.free_address()
            route: dict[str, Any] = {"targets": [backend]}
            if way.tls is not None:
                route = {"targets": [encrypted], "tls": {"ca": way.tls.ca}}
            config = folder / f"{name}.yaml"
            config.write_text(
                json.dumps({"listen": listen, "routes": {"hf_": route}, **way.settings})
            )
            # The order of a set changes how fast a process is, by several percent.
            environment = {"PYTHONHASHSEED": "0", **way.environment}
            process = stack.enter_context(
                harness.process("router", "--config", str(config), env=environment)
            )
            harness.wait_listening(listen, process)
            pids[name], calls[name] = process.pid, partial(_run, listen, way)
        for measure in calls.values():  # each router has read all its code
            measure()
        return summarize(harness.take_turns(calls, ROUNDS, pids))


def summarize(runs: Mapping[str, Sequence[harness.Run]]) -> dict[str, Any]:
    """Return the CPU of a call for each way, and how much more that is than the plain one's."""
    costs = {
        name: harness.percentile([1e6 * run.cpu[name] / len(run.latencies) for run in found], 0.25)
        for name, found in runs.items()
    }
    plain = (costs["plain"] + costs["plain again"]) / 2
    return {
        name: {"cpu_us": cost, "added_us": cost - plain, "overhead": cost / plain - 1}
        for name, cost in costs.items()
    }


def main() -> None:
    """Print the table and the goals, and write the JSON."""
    results = run()
    harness.print_ways(f"the router's CPU for a call, {CALLERS} callers", results)
    harness.write_results("overheads", GOALS, results)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["receiver", listen]:
            uvloop.run(receive_traces(listen))
        case _:
            main()
