"""The model of a fleet gives what can be calculated by hand."""

from __future__ import annotations

import pytest

from bench.fleet_model import Fleet, simulate, simulate_start

FLEET = Fleet(games=4, replicas=1, places=8, service=0.5)


@pytest.mark.parametrize(
    ("fleet", "calls_per_s"),
    [
        pytest.param(FLEET, 4 / 0.5, id="as many as the games make"),
        pytest.param(Fleet(games=40, replicas=1, places=8, service=0.5), 8 / 0.5, id="places"),
        pytest.param(
            Fleet(games=40, replicas=4, places=8, service=0.5, load=(40, 0, 0, 0)),
            8 / 0.5,
            id="all games on one replica",
        ),
        pytest.param(
            Fleet(games=100, replicas=1, places=100, service=0.5, router=0.01),
            1 / 0.01,
            id="the core of a router",
        ),
    ],
)
def test_the_narrowest_part_gives_the_rate(fleet: Fleet, calls_per_s: float) -> None:
    assert simulate(fleet, 50, 5).calls_per_s == pytest.approx(calls_per_s, rel=0.03)


def test_calls_wait_for_the_first_replica_and_no_longer() -> None:
    fleet = Fleet(games=0, replicas=0, places=64, service=1.0, think=1.0)
    seen = {second: waiting for second, waiting, _ in simulate_start(32, 8, fleet, 60.0, 120.0)}
    assert seen[50] == 32
    assert seen[90] == 0
