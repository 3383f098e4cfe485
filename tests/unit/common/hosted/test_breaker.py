"""Breakers on a clock of their own: when they open, who probes, and what closes them."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from services.common import errors
from services.common.hosted.breaker import _MAX_MODELS, BreakerOpen, Breakers
from services.common.hosted.config import BreakerConfig

MODEL = "openrouter_a/b"
DOWN = errors.UpstreamUnavailable("it is down", metadata={"provider": "p"})
SLOW = errors.UpstreamTimeout("it is slow")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Bench:
    """Breakers that open at 3 failures over 10 seconds; probes after 4, 8, 16, 20 seconds."""

    def __init__(self) -> None:
        self.clock = Clock()
        config = BreakerConfig(failures=3, seconds=10, probe_seconds=4, max_probe_seconds=20)
        self.breakers = Breakers(config, self.clock)

    def attempt(
        self, error: BaseException | None, *, seconds: float = 0.0, model: str = MODEL
    ) -> None:
        """Make an attempt that ends so after some seconds."""
        trial = self.breakers.begin(model)
        self.clock.now += seconds
        trial.end(error)

    def open(self) -> None:
        for _ in range(3):
            self.attempt(DOWN, seconds=4)

    @property
    def is_open(self) -> bool:
        return bool(self.breakers.list())


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.mark.parametrize("error", [DOWN, SLOW], ids=["unavailable", "timeout"])
def test_it_opens_at_so_many_failures_in_a_row_over_so_long(
    bench: Bench, error: errors.UpstreamUnavailable
) -> None:
    for _ in range(20):
        bench.attempt(error, seconds=0.1)  # a burst: left to the retries
    assert not bench.is_open
    bench.attempt(error, seconds=10)
    ((model, reason, failures, seconds),) = bench.breakers.list()
    assert (model, failures, seconds) == (MODEL, 21, 4)
    assert reason == ("TIMEOUT" if error is SLOW else "UPSTREAM_UNAVAILABLE")
    with pytest.raises(BreakerOpen, match=f"{MODEL}: the last 21 attempts") as caught:
        bench.breakers.begin(MODEL)
    assert (caught.value.reason, caught.value.retry_after) == ("UPSTREAM_UNAVAILABLE", 4)
    assert error.message in caught.value.message
    bench.breakers.check("another model")


def test_two_long_failures_are_too_few(bench: Bench) -> None:
    bench.attempt(DOWN, seconds=50)
    bench.attempt(DOWN, seconds=50)
    assert not bench.is_open
    bench.attempt(DOWN)
    assert bench.is_open


OTHERS: list[BaseException | None] = [
    None,
    *(
        kind("x")
        for kind in (
            *(errors.InvalidRequest, errors.RateLimited, errors.InsufficientCredits),
            *(errors.CreditsHeld, errors.ApiKeyRejected, errors.RefusedByProvider),
            *(errors.UnreadableAnswer, errors.ConstraintNotMet, errors.ModelNotFound),
        )
    ),
]
NAMES = ["answered", *(type(error).__name__ for error in OTHERS[1:])]


@pytest.mark.parametrize("other", OTHERS, ids=NAMES)
def test_no_other_outcome_opens_it_and_each_begins_the_count_again(
    bench: Bench, other: BaseException | None
) -> None:
    for _ in range(9):
        bench.attempt(other, seconds=20)
    for _ in range(5):
        bench.attempt(DOWN, seconds=6)
        bench.attempt(DOWN, seconds=6)
        bench.attempt(other)
    assert not bench.is_open


def test_failures_long_ago_do_not_count(bench: Bench) -> None:
    bench.attempt(DOWN)
    bench.attempt(DOWN)
    bench.clock.now += 3600
    bench.attempt(DOWN)
    bench.attempt(DOWN)
    assert not bench.is_open


def test_each_reason_counts_by_itself(bench: Bench) -> None:
    for error in (DOWN, SLOW, DOWN, SLOW):
        bench.attempt(error, seconds=10)
    assert not bench.is_open
    bench.attempt(SLOW)
    assert [state.reason for state in bench.breakers.list()] == ["TIMEOUT"]


def test_one_probe_at_a_time_and_each_failed_one_doubles_the_pause(bench: Bench) -> None:
    bench.open()
    for pause in (4, 8, 16, 20, 20):
        assert bench.breakers.find_wait(MODEL) == pause
        bench.clock.now += pause - 0.01
        with pytest.raises(BreakerOpen):
            bench.breakers.begin(MODEL)
        bench.clock.now += 0.01
        probe = bench.breakers.begin(MODEL)
        with pytest.raises(BreakerOpen) as caught:
            bench.breakers.begin(MODEL)
        assert caught.value.retry_after == 1  # soon known
        probe.end(DOWN)
    assert bench.breakers.list()[0].failures == 8


@pytest.mark.parametrize("other", OTHERS, ids=NAMES)
def test_a_probe_that_is_answered_closes_it(bench: Bench, other: BaseException | None) -> None:
    bench.open()
    bench.clock.now += 4
    bench.attempt(other)
    assert not bench.is_open
    bench.attempt(DOWN)  # the count begins again
    bench.attempt(None)


def test_a_cancelled_probe_decides_nothing_and_the_next_call_is_the_probe(bench: Bench) -> None:
    bench.open()
    bench.clock.now += 4
    bench.attempt(asyncio.CancelledError())
    assert [state.seconds for state in bench.breakers.list()] == [0]
    bench.attempt(DOWN)
    assert bench.breakers.find_wait(MODEL) == 8


def test_calls_that_were_sent_before_do_not_move_the_probe(bench: Bench) -> None:
    late = [bench.breakers.begin(MODEL) for _ in range(2)]
    bench.open()
    late[0].end(DOWN)
    assert bench.breakers.find_wait(MODEL) == 4
    late[1].end()
    assert not bench.is_open  # the provider answers


def test_the_provider_may_ask_for_a_longer_pause(bench: Bench) -> None:
    bench.attempt(DOWN)
    bench.attempt(DOWN)
    bench.attempt(errors.UpstreamUnavailable("later", retry_after=15), seconds=10)
    assert bench.breakers.find_wait(MODEL) == 15


def test_it_can_be_turned_off_and_remembers_a_bounded_number_of_models(bench: Bench) -> None:
    off = Breakers(None, bench.clock)
    for breakers, model in itertools.product((off, bench.breakers), range(2 * _MAX_MODELS)):
        breakers.begin(f"m{model}").end(DOWN)
    assert (len(off._failing), len(bench.breakers._failing)) == (0, _MAX_MODELS)
