"""A model of a fleet, with simulated time (simpy).

It has games that call one after another, routers whose cores are busy for each call, replicas with
places, and the ring that gives each game its replica.
"""

from __future__ import annotations

import random
from bisect import bisect
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import simpy

from bench import harness


@dataclass(frozen=True)
class Fleet:
    """The parameters of a run. All times are in seconds.

    service: time of a call in a replica, mean; spread: its coefficient of variation. think: the
    game's own time between two calls. router: CPU of a router for each call. vnodes: entries of
    each replica on the ring; 0: as many as gRPC gives by default; -1: games are dealt evenly.
    load: games of each replica, in place of the ring.
    """

    games: int
    replicas: int
    places: int
    service: float
    spread: float = 0.0
    think: float = 0.0
    router: float = 0.0
    routers: int = 1
    vnodes: int = 0
    load: tuple[int, ...] = ()


@dataclass(frozen=True)
class FleetRun:
    """What a run has shown. load: games of each replica."""

    calls_per_s: float
    p50: float
    p99: float
    load: Sequence[int]


def count_vnodes(replicas: int) -> int:
    """Entries of each replica on gRPC's ring, whose size is at least 1,024 by default."""
    return -(-1024 // replicas)


def assign(games: int, replicas: int, vnodes: int, rng: random.Random) -> list[int]:
    """Return the replica of each game: that of the next entry on a ring."""
    if vnodes < 0:
        return [game % replicas for game in range(games)]
    ring = sorted((rng.random(), r) for r in range(replicas) for _ in range(vnodes))
    places = [place for place, _ in ring]
    return [ring[bisect(places, rng.random()) % len(ring)][1] for _ in range(games)]


def simulate(fleet: Fleet, seconds: float, warm: float, seed: int = 1) -> FleetRun:
    """Run the fleet for some seconds after a warm-up."""
    rng = random.Random(seed)  # noqa: S311 - no secret
    env = simpy.Environment()
    routers = [simpy.Resource(env) for _ in range(fleet.routers)]
    replicas = [simpy.Resource(env, fleet.places) for _ in range(fleet.replicas)]
    vnodes = fleet.vnodes or count_vnodes(fleet.replicas)
    homes = [replica for replica, games in enumerate(fleet.load) for _ in range(games)]
    homes = homes or assign(fleet.games, fleet.replicas, vnodes, rng)
    latencies: list[float] = []
    shape = 1 / fleet.spread**2 if fleet.spread else 0.0

    def draw() -> float:
        return rng.gammavariate(shape, fleet.service / shape) if shape else fleet.service

    def play(number: int) -> Iterator[Any]:
        router, replica = routers[number % fleet.routers], replicas[homes[number]]
        yield env.timeout(rng.random() * (fleet.think + fleet.service))
        while True:
            begun = env.now
            if fleet.router:
                with router.request() as turn:
                    yield turn
                    yield env.timeout(fleet.router)
            with replica.request() as place:
                yield place
                yield env.timeout(draw())
            if env.now >= warm:
                latencies.append(env.now - begun)
            if fleet.think:
                yield env.timeout(rng.expovariate(1 / fleet.think))

    for number in range(fleet.games):
        env.process(play(number))
    env.run(warm + seconds)
    rate = len(latencies) / seconds
    counts = Counter(homes)
    load = [counts[replica] for replica in range(fleet.replicas)]
    return FleetRun(
        rate, harness.percentile(latencies, 0.5), harness.percentile(latencies, 0.99), load
    )


def simulate_start(
    games: int, most: int, fleet: Fleet, cold: float, seconds: float
) -> list[tuple[float, int, int]]:
    """Start from no replica; return (second, calls that wait, replicas that serve).

    An autoscaler, like that of Kubernetes, asks for as many replicas as the calls need: first for
    one, then for at most twice as many as before, or four more if that is more. It asks every 15 s,
    up to the second replica every 5 s. A replica serves `cold` seconds later.
    """
    rng = random.Random(1)  # noqa: S311 - no secret
    env = simpy.Environment()
    places = simpy.Container(env, init=0, capacity=most * fleet.places)
    waiting = serving = wanted = 0
    seen = []

    def play() -> Iterator[Any]:
        nonlocal waiting
        while True:
            waiting += 1
            yield places.get(1)
            waiting -= 1
            yield env.timeout(rng.expovariate(1 / fleet.service))
            yield places.put(1)
            yield env.timeout(rng.expovariate(1 / fleet.think))

    def start() -> Iterator[Any]:
        nonlocal serving
        yield env.timeout(cold)
        serving += 1
        yield places.put(fleet.places)

    def scale() -> Iterator[Any]:
        nonlocal wanted
        while True:
            busy = serving * fleet.places - places.level
            need = min(most, -(-(waiting + busy) // fleet.places))
            allowed = max(2 * wanted, wanted + 4) if wanted else 1
            for _ in range(min(need, allowed) - wanted):
                wanted += 1
                env.process(start())
            yield env.timeout(5 if wanted <= 1 else 15)

    def watch() -> Iterator[Any]:
        while True:
            seen.append((env.now, waiting, serving))
            yield env.timeout(5)

    for process in (*(play() for _ in range(games)), scale(), watch()):
        env.process(process)
    env.run(seconds)
    return seen
