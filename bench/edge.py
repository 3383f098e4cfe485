"""Envoy in front of the router (`make up EDGE=envoy`): `python -m bench.edge`.

One game process with ten calls in flight calls the openrouter service directly, through Envoy and
through the router. In turns within the same run, it calls the upstream with the official client.
Then a load generator in C calls a service of two workers, directly and through Envoy, and the
upstream through vllm-router. The upstream answers immediately.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from bench import gateways, h2load, harness, openrouter
from bench.goals import Goal
from bench.latency import METHOD, REQUEST

ROUNDS = 5
SECONDS = 2.0
PEER = "vllm-router"

GOALS = (
    Goal("calls/s of the service straight", ("games", "edge", "of service"), ">=", 0.9, "x"),
    Goal("calls/s of the official client directly", ("games", "edge", "of official client"),
         ">=", 2.75, "x"),
    Goal(f"calls/s of {PEER}, with the same generator in C, two workers",
         ("c_generator", "edge", f"of {PEER}"), ">=", 0.4, "x"),
)  # fmt: skip

#: Envoy chooses the service by it.
HEADERS = h2load.GRPC | {"arena-model": "openrouter_a/b"}


@contextmanager
def envoy(system: harness.System, connections: int = 1) -> Iterator[tuple[str, harness.Running]]:
    """Run Envoy before a system's router; yield its address and its process."""
    address = harness.free_address()
    with tempfile.TemporaryDirectory() as folder:
        route = {"targets": [system.service], "connections": connections}
        config = {"listen": system.target, "edge": address, "routes": {"openrouter_": route}}
        (Path(folder) / "router.yaml").write_text(json.dumps(config))
        environ = {"ARENA_CONFIG_DIR": folder, "ARENA_RUN_DIR": folder}
        with harness.process("deploy.edge", env=environ) as running:
            harness.wait_serving(address, running)
            yield address, running


def _measure_games() -> dict[str, Any]:
    with openrouter.fleet() as (system, url), envoy(system) as (edge, running):
        ways = {
            "official client": partial(openrouter.play_game, "openai", url),
            "service": partial(openrouter.play_game, "arena", system.service),
            "edge": partial(openrouter.play_game, "arena", edge),
            "router": partial(openrouter.play_game, "arena", system.target),
        }
        return _compare(ways, system.pids | {"edge": running.pid})


def _measure_workers() -> dict[str, Any]:
    """Raises gateways.NotMeasured without the peer."""
    callers = openrouter.CALLERS
    with ExitStack() as stack:
        system, url = stack.enter_context(openrouter.fleet(workers=2))
        edge, running = stack.enter_context(envoy(system, connections=8))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        gateways.install(PEER, folder)
        peer = gateways.start(stack, PEER, folder, url)

        def load(address: str) -> Callable[[], harness.Run]:
            target = f"http://{address}/{METHOD}"
            return partial(h2load.load, target, REQUEST, HEADERS, callers, SECONDS)

        ways = {PEER: peer.load, "service": load(system.service), "edge": load(edge)}
        return _compare(ways, system.pids | {"edge": running.pid, PEER: peer.pid})


def _compare(
    ways: Mapping[str, Callable[[], harness.Run]], pids: Mapping[str, int]
) -> dict[str, Any]:
    """Return the figures of each way, as shares of the first one and of the service."""
    runs = harness.take_turns(ways, ROUNDS, pids)
    rates = {way: harness.rates(rounds) for way, rounds in runs.items()}
    first = next(iter(ways))
    return {
        way: harness.figures(rounds)
        | {f"of {base}": harness.ratio(rates[way], rates[base]) for base in (first, "service")}
        for way, rounds in runs.items()
    }


def main() -> None:
    """Print the tables and write the JSON."""
    games = _measure_games()
    harness.print_ways(f"{openrouter.CALLERS} calls in flight from one process", games)
    results = {"games": games}
    if h2load.is_installed():
        try:
            workers = results["c_generator"] = _measure_workers()
        except gateways.NotMeasured as error:
            print(f"{PEER}: NOT MEASURED: {error}")
        else:
            harness.print_ways("two workers, a generator in C", workers)
    harness.write_results("edge", GOALS, results)


if __name__ == "__main__":
    main()
