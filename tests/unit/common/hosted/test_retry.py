"""Retries. Attempts are scripted and no test measures time."""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from services.common import errors
from services.common.errors import BackendError
from services.common.hosted.config import HostedConfig, HostedModel
from services.common.hosted.retry import Outcome, Retrier
from tests.support.waiting import settle


class Config(HostedConfig[HostedModel]):
    prefix = "h_"


def config(*models: dict[str, Any] | str, **settings: Any) -> Config:
    quick = {"backoff_seconds": 0.001, "max_backoff_seconds": 0.002}
    return Config.model_validate(
        {"listen": "127.0.0.1:0", "models": list(models), **quick, **settings}
    )


class Script:
    """An attempt that raises or returns one step per call."""

    def __init__(self, *steps: BackendError | str) -> None:
        self.steps = list(steps)
        self.calls = 0

    async def __call__(self) -> str:
        self.calls += 1
        step = self.steps.pop(0)
        if isinstance(step, BackendError):
            raise step
        return step


def count_attempts(error: BackendError) -> int:
    return len(error.report.attempts) if error.report else 0


async def run(
    retrier: Retrier,
    attempt: Callable[[], Awaitable[str]],
    streamed: bool = False,
    deadline: float | None = None,
) -> Outcome[str]:
    if not streamed:
        return await retrier.call("h_a", deadline, attempt)
    async with retrier.open("h_a", deadline, attempt) as outcome:
        return outcome


STREAMED = pytest.mark.parametrize("streamed", [False, True], ids=["unary", "streamed"])

TRANSIENT = [
    errors.RateLimited("x", retry_after=0.0),
    errors.UpstreamUnavailable("x"),
    errors.CreditsHeld("x", retry_after=0.001),
]
FINAL = [
    errors.InvalidRequest("x"),
    errors.ApiKeyRejected("x"),
    errors.InsufficientCredits("x"),
    errors.RefusedByProvider("x"),
    errors.ModelNotFound("x"),
    errors.Overloaded("x", retry_after=0.001),
    errors.UnreadableAnswer("x"),  # it was paid for
]


@STREAMED
@pytest.mark.parametrize("error", TRANSIENT, ids=lambda error: type(error).__name__)
async def test_a_transient_error_is_retried(error: BackendError, streamed: bool) -> None:
    attempt = Script(error, error, "ok")
    outcome = await run(Retrier(config()), attempt, streamed)
    assert (outcome.value, len(outcome.failures), attempt.calls) == ("ok", 2, 3)


@STREAMED
@pytest.mark.parametrize("error", FINAL, ids=lambda error: type(error).__name__)
async def test_other_errors_are_raised_immediately(error: BackendError, streamed: bool) -> None:
    attempt = Script(copy.copy(error))
    with pytest.raises(type(error)) as caught:
        await run(Retrier(config()), attempt, streamed)
    assert (count_attempts(caught.value), attempt.calls) == (1, 1)


async def test_the_last_error_is_raised_with_a_pause_for_the_caller() -> None:
    attempt = Script(*[errors.UpstreamUnavailable("x") for _ in range(9)])
    with pytest.raises(errors.UpstreamUnavailable) as caught:
        await run(Retrier(config(max_attempts=3)), attempt)
    assert (count_attempts(caught.value), attempt.calls) == (3, 3)
    assert caught.value.retry_after is not None


@pytest.mark.parametrize(
    ("remaining", "retry_after"), [(10, 11), (None, 61)], ids=["deadline", "longest pause"]
)
async def test_a_pause_that_is_too_long_is_not_begun(
    remaining: float | None, retry_after: float
) -> None:
    attempt = Script(errors.UpstreamUnavailable("x", retry_after=retry_after))
    deadline = None if remaining is None else time.monotonic() + remaining
    with pytest.raises(errors.UpstreamUnavailable) as caught:
        await run(Retrier(config(max_retry_after_seconds=60)), attempt, deadline=deadline)
    assert (caught.value.retry_after, attempt.calls) == (retry_after, 1)


async def test_refusals_of_the_limits_use_up_no_attempt() -> None:
    refusal = errors.RateLimited("x", retry_after=0.0)
    attempt = Script(*[refusal] * 5, errors.UpstreamUnavailable("x"), *[refusal] * 5, "ok")
    outcome = await run(Retrier(config(max_attempts=2)), attempt)
    assert (outcome.value, len(outcome.failures), attempt.calls) == ("ok", 11, 12)


async def test_the_pause_is_random_below_a_bound_that_doubles(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bounds: list[float] = []

    def uniform(low: float, high: float) -> float:
        assert low == 0
        bounds.append(high)
        return 0.0

    monkeypatch.setattr("random.uniform", uniform)
    settings = config(backoff_seconds=1, max_backoff_seconds=5, max_attempts=6)
    attempt = Script(*[errors.UpstreamUnavailable("x") for _ in range(5)], "ok")
    await run(Retrier(settings), attempt)
    assert bounds == [1, 2, 4, 5, 5]


async def test_a_bug_is_not_retried() -> None:
    async def attempt() -> str:
        raise KeyError("bug")

    with pytest.raises(KeyError):
        await run(Retrier(config()), attempt)


async def test_a_stream_holds_its_place_until_the_block_ends() -> None:
    retrier = Retrier(config(max_concurrency=1))
    attempt = Script(errors.UpstreamUnavailable("x"), "open")
    async with retrier.open("h_a", None, attempt) as outcome:
        assert (outcome.value, len(outcome.failures)) == ("open", 1)
        other = asyncio.create_task(retrier.call("h_b", None, Script("ok")))
        await settle()
        assert not other.done()
    assert (await other).value == "ok"


async def test_an_error_inside_the_block_is_not_retried_and_frees_the_place() -> None:
    retrier = Retrier(config(max_concurrency=1))

    async def fail_late() -> None:
        async with retrier.open("h_a", None, Script("open")):
            raise errors.UpstreamUnavailable("late")

    with pytest.raises(errors.UpstreamUnavailable) as caught:
        await fail_late()
    assert count_attempts(caught.value) == 1
    assert (await retrier.call("h_b", None, Script("ok"))).value == "ok"


# --- configuration ---------------------------------------------------------------------


async def test_an_unlisted_model_can_be_refused() -> None:
    assert config("h_a").find_entry("h_b") is None
    closed = config("h_a-model", allow_unlisted=False)
    assert closed.find_entry("h_a-model") is not None
    with pytest.raises(errors.ModelNotFound, match="did you mean h_a-model"):
        closed.find_entry("h_a-mode")


def test_timeouts() -> None:
    settings = config({"name": "h_a", "timeout_seconds": 5}, timeout_seconds=9)
    assert (settings.timeouts("h_a").total, settings.timeouts("h_b").total) == (5, 9)
