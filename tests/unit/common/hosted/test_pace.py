"""The pacer against limits of many kinds, in virtual time: nothing fails, and little is wasted."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import pytest

from bench.limiters import FixedWindow, InFlight, Limiter, SlidingWindow, TokenBucket
from services.common.hosted.in_flight import InFlightBound
from services.common.hosted.pace import Pacer, Sent
from tests.support.limiters import Simulation

SECONDS = 120


def quick(_: random.Random) -> float:
    return 0.38


def heavy(chance: random.Random) -> float:
    return min(60.0, max(0.3, chance.lognormvariate(1, 1.3)))


def long_ago(_: float) -> float:
    return -1.0


def year_2099(_: float) -> float:
    return 2e9


#: The limit, settings of the simulation, calls that could be granted, and the bounds: the share of
#: them that must be used, and requests for each. A few miss 0.9 and 1.2.
LIMITS: dict[str, tuple[Callable[[], Limiter], dict[str, Any], float, float, float]] = {
    "bucket of 10": (TokenBucket, {}, 6010, 0.95, 1.1),
    "bucket of 100": (lambda: TokenBucket(burst=100), {}, 6100, 0.95, 1.1),
    "window of 1 s": (lambda: FixedWindow(1), {}, 6000, 0.95, 1.15),
    "window of 10 s": (lambda: FixedWindow(10), {}, 6000, 0.9, 1.15),
    "window of 60 s": (lambda: FixedWindow(60), {}, 6000, 0.95, 1.15),
    "sliding 1 s": (lambda: SlidingWindow(1), {}, 6000, 0.9, 1.15),
    "sliding 10 s": (lambda: SlidingWindow(10), {}, 6000, 0.88, 1.15),
    "20 in flight": (lambda: InFlight(20), {"takes": quick}, 5900, 0.95, 1.1),
    "20 in flight, usual": (lambda: InFlight(20), {}, 1446, 0.95, 1.15),
    "3 in flight": (lambda: InFlight(3), {"callers": 60, "seconds": 240}, 434, 0.8, 1.2),
    "heavy tail": (TokenBucket, {"takes": heavy}, 6010, 0.95, 1.1),
    "500/s": (lambda: TokenBucket(500), {"takes": quick, "seconds": 60}, 30_000, 0.88, 1.1),
    "right hint": (TokenBucket, {"hint": lambda hint: hint}, 6010, 0.95, 1.1),
    "past hint": (TokenBucket, {"hint": long_ago}, 6010, 0.95, 1.1),
    "absurd hint": (TokenBucket, {"hint": year_2099}, 6010, 0.95, 1.1),
    "absurd hint, window of 10 s": (lambda: FixedWindow(10), {"hint": year_2099}, 6000, 0.9, 1.15),
    "two workers": (TokenBucket, {"workers": 2}, 6010, 0.95, 1.1),
    "two workers, window of 10 s": (lambda: FixedWindow(10), {"workers": 2}, 6000, 0.9, 1.2),
    "halved": (lambda: TokenBucket(change=(60, 25)), {}, 4510, 0.95, 1.1),
    "doubled": (lambda: TokenBucket(change=(60, 100)), {}, 9010, 0.92, 1.1),
    "configured": (TokenBucket, {"max_rate": 50.0}, 6010, 0.95, 1.01),
    "a busy event loop": (TokenBucket, {"stall": 0.05}, 6010, 0.95, 1.1),
    "a busy event loop, window of 10 s": (
        lambda: FixedWindow(10), {"stall": 0.1}, 6000, 0.87, 1.15),
    "late refusals": (TokenBucket, {"way_back": (0.01, 1.0)}, 6010, 0.4, 1.2),
    "bucket of 1": (lambda: TokenBucket(burst=1), {}, 6000, 0.7, 1.1),
    "20 in flight, heavy tail": (
        lambda: InFlight(20), {"takes": heavy, "callers": 300, "deadline": 600}, 340, 0.95, 1.3),
}  # fmt: skip


@pytest.mark.parametrize("name", LIMITS)
def test_a_limit_is_used_and_nothing_fails(name: str) -> None:
    limiter, settings, could, used, requests = LIMITS[name]
    for seed in (1, 2):
        result = Simulation(limiter(), **{"seconds": SECONDS, **settings}, seed=seed).run()
        assert result.failed == 0
        assert len(result.granted) >= used * could
        assert result.requests_per_grant <= requests


@pytest.mark.parametrize("rate", [25, 100], ids=["halved", "doubled"])
def test_a_changed_limit_is_found_within_five_seconds(rate: float) -> None:
    result = Simulation(TokenBucket(change=(60, rate)), seconds=75).run()
    assert result.count(65, 75) >= 0.85 * 10 * rate


def test_a_bound_in_flight_is_learned_and_forgotten() -> None:
    """Refusals at one number show it; calls that are let in above show that it has risen."""
    bound, now, places = InFlightBound(), 0.0, 20
    for _ in range(20):
        for _ in range(10):
            bound.let_in(places, now)
        bound.refuse(places + 1, now)
    assert bound.bound == places
    before = now
    while not math.isinf(bound.bound):
        now += 1
        bound.let_in(int(bound.bound), now)
    assert now < before + 200


@pytest.mark.parametrize("wrong", ["below", "often"])
def test_a_wrong_bound_in_flight_is_dropped(wrong: str) -> None:
    bound = InFlightBound()
    for _ in range(20):
        for _ in range(10):
            bound.let_in(20, 0.0)
        bound.refuse(21, 0.0)
    if wrong == "below":
        assert not bound.refuse(12, 1.0)
    else:
        while not math.isinf(bound.bound):
            bound.let_in(20, 1.0)
            bound.refuse(21, 1.0)
    assert math.isinf(bound.bound)
    for _ in range(20):
        for _ in range(10):
            bound.let_in(20, 2.0)
        assert not bound.refuse(21, 2.0), "not for half a minute"


def test_a_provider_without_a_limit_costs_nothing() -> None:
    result = Simulation(TokenBucket(1e6, 1e6), callers=20, seconds=20).run()
    assert result.requests_per_grant == 1


def refused_burst(pacer: Pacer, count: int) -> None:
    """Send a burst of which each call is refused after 20 ms."""
    for sent in [pacer.send(0.0) for _ in range(count)]:
        pacer.refuse(sent, 0.02)


def test_a_burst_of_refusals_is_one_pause_with_one_probe() -> None:
    pacer = Pacer(0.0, 512)
    refused_burst(pacer, 512)
    assert pacer.pause is not None
    due = pacer.pause.due
    assert 0.02 < due < 0.1
    assert pacer.next_send(due) <= due
    probe = pacer.send(due)
    assert pacer.next_send(due + 0.001) > due + 0.001, "nobody passes the probe"
    assert pacer.in_flight == 1
    pacer.answer(probe, due + 0.02, waiting=True)
    assert pacer.pause is None


def paused() -> tuple[Pacer, Sent, float]:
    """Return a pacer in a pause, its probe, and when that was sent."""
    pacer = Pacer(0.0, 512)
    refused_burst(pacer, 16)
    assert pacer.pause is not None
    due = pacer.pause.due
    return pacer, pacer.send(due), due


def test_a_cancelled_probe_is_replaced_at_once() -> None:
    pacer, probe, now = paused()
    pacer.drop(probe, now + 0.001)
    assert pacer.next_send(now + 0.001) <= now + 0.001


def test_a_silent_probe_ends_the_pause_and_a_late_refusal_begins_it_again() -> None:
    pacer, probe, now = paused()
    later = pacer.next_send(now)
    assert now < later < now + 1
    pacer.next_send(later)
    assert pacer.pause is None
    pacer.refuse(probe, later + 5)
    assert pacer.pause is not None
    assert pacer.in_flight == 0


def test_probes_become_rare_while_all_are_refused() -> None:
    pacer, probe, now = paused()
    for _ in range(20):
        pacer.refuse(probe, now + 0.02)
        assert pacer.pause is not None
        interval, now = pacer.pause.due - now, pacer.pause.due
        probe = pacer.send(now)
    assert 1 < interval <= 61


def test_a_hint_makes_a_probe_only_sooner() -> None:
    for hint, sooner in ((0.0, True), (1e9, False)):
        pacer, probe, now = paused()
        plain, other, _ = paused()
        plain.refuse(other, now + 0.02)
        pacer.refuse(probe, now + 0.02, hint)
        assert pacer.pause is not None
        assert plain.pause is not None
        assert (pacer.pause.due < plain.pause.due) is sooner


def test_a_configured_rate_is_never_exceeded() -> None:
    pacer, now, times = Pacer(0.0, 512, max_rate=10.0), 0.0, []
    for _ in range(50):
        now = max(now, pacer.next_send(now))
        times.append(now)
        pacer.answer(pacer.send(now), now, waiting=True)
    assert times[-1] >= 49 / 10 - 0.1


def test_what_was_learned_is_forgotten_after_ten_minutes() -> None:
    pacer, probe, now = paused()
    pacer.answer(probe, now + 0.02, waiting=True)
    assert not math.isinf(pacer.rate)
    pacer.send(now + 700)
    assert math.isinf(pacer.rate)
    assert pacer.in_flight == 1


def test_counts_are_right_after_any_order_of_events() -> None:
    for seed in range(200):
        chance = random.Random(seed)  # noqa: S311 - a simulation
        pacer, now = Pacer(0.0, 8), 0.0
        running: list[Sent] = []
        for _ in range(300):
            now += chance.expovariate(20)
            if chance.random() < 0.5 and pacer.next_send(now) <= now:
                running.append(pacer.send(now))
            elif running:
                sent = running.pop(chance.randrange(len(running)))
                match chance.randrange(4):
                    case 0:
                        pacer.refuse(sent, now, chance.choice([None, 0.0, 1e9]))
                    case 1:
                        pacer.drop(sent, now)
                    case _:
                        pacer.answer(sent, now, waiting=chance.random() < 0.5)
            assert pacer.in_flight == len(running) <= 8
        for sent in running:
            pacer.answer(sent, now, waiting=False)
        # A call can always be sent again.
        later = pacer.next_send(now)
        assert not math.isinf(later)
        assert pacer.next_send(later) <= later
