"""Tries and limits, with calls that are events here: nothing is timed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from services.common import errors
from services.common.errors import BackendError
from services.common.hosted.attempts import Attempts
from services.common.hosted.config import HostedConfig, HostedModel
from services.common.hosted.limits import Limits
from tests.support.scripted import eventually


class Config(HostedConfig[HostedModel]):
    prefix = "h_"


def config(*models: dict[str, Any] | str, **settings: Any) -> Config:
    quick = {"backoff_seconds": 0.001, "max_backoff_seconds": 0.002}
    return Config.model_validate(
        {"listen": "127.0.0.1:0", "models": list(models), **quick, **settings}
    )


class Scripted:
    """Fails as told, then answers."""

    def __init__(self, *steps: BackendError | str) -> None:
        self.steps = list(steps)
        self.calls = 0

    async def __call__(self) -> str:
        self.calls += 1
        step = self.steps.pop(0)
        if isinstance(step, BackendError):
            raise step
        return step


TRANSIENT = [
    errors.RateLimited("x"),
    errors.UpstreamUnavailable("x"),
    errors.BudgetInFlight("x", retry_after=0.001),
]
FINAL = [
    errors.InvalidRequest("x"),
    errors.ApiKeyRejected("x"),
    errors.InsufficientCredits("x"),
    errors.RefusedByProvider("x"),
    errors.ModelNotFound("x"),
    errors.Overloaded("x", retry_after=0.001),
]


@pytest.mark.parametrize("error", TRANSIENT, ids=lambda error: type(error).__name__)
async def test_what_may_pass_is_tried_again(error: BackendError) -> None:
    attempt = Scripted(error, error, "ok")
    answered = await Attempts(config()).call("h_a", None, attempt)
    assert (answered.value, answered.attempts, attempt.calls) == ("ok", 3, 3)


@pytest.mark.parametrize("error", FINAL, ids=lambda error: type(error).__name__)
async def test_what_will_not_pass_is_told_at_once(error: BackendError) -> None:
    attempt = Scripted(error)
    with pytest.raises(type(error)) as caught:
        await Attempts(config()).call("h_a", None, attempt)
    assert (caught.value.metadata["attempts"], attempt.calls) == ("1", 1)


async def test_tries_are_bounded_and_the_last_error_says_when() -> None:
    attempt = Scripted(*[errors.UpstreamUnavailable("x") for _ in range(9)])
    with pytest.raises(errors.UpstreamUnavailable) as caught:
        await Attempts(config(max_attempts=3)).call("h_a", None, attempt)
    assert (caught.value.metadata["attempts"], attempt.calls) == ("3", 3)
    assert caught.value.retry_after is not None


@pytest.mark.parametrize(("left", "asked"), [(10, 11), (None, 61)])
async def test_a_wait_that_is_too_long_is_not_begun(left: float | None, asked: float) -> None:
    attempt = Scripted(errors.RateLimited("x", retry_after=asked))
    deadline = None if left is None else time.monotonic() + left
    with pytest.raises(errors.RateLimited) as caught:
        await Attempts(config()).call("h_a", deadline, attempt)
    assert (caught.value.retry_after, attempt.calls) == (asked, 1)


async def test_a_bug_is_not_tried_again() -> None:
    async def attempt() -> str:
        raise KeyError("bug")

    with pytest.raises(KeyError):
        await Attempts(config()).call("h_a", None, attempt)


async def test_a_stream_is_tried_again_until_it_is_open_and_held_until_it_ends() -> None:
    attempts = Attempts(config(max_concurrency=1))
    steps = [errors.UpstreamUnavailable("x"), None]
    ended = []

    @asynccontextmanager
    async def connect() -> AsyncIterator[str]:
        if (error := steps.pop(0)) is not None:
            raise error
        yield "open"
        ended.append(True)

    async with attempts.open("h_a", None, connect) as answered:
        assert (answered.value, answered.attempts) == ("open", 2)
        other = asyncio.create_task(attempts.call("h_b", None, Scripted("ok")))
        await asyncio.sleep(0)
        assert not other.done()
        assert not ended
    assert ended
    assert (await other).value == "ok"


async def test_an_error_after_the_first_delta_is_not_tried_again() -> None:
    attempts = Attempts(config())

    @asynccontextmanager
    async def connect() -> AsyncIterator[str]:
        yield "open"

    async def late() -> None:
        async with attempts.open("h_a", None, connect):
            raise errors.RateLimited("late", retry_after=0.001)

    with pytest.raises(errors.RateLimited) as caught:
        await late()
    assert caught.value.metadata["attempts"] == "1"


# --- limits ---------------------------------------------------------------------------


class Crowd:
    """Callers in places, each until it is let go."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.inside: list[str] = []
        self.gates: dict[str, asyncio.Event] = {}

    def enter(self, name: str, model: str, deadline: float | None = None) -> asyncio.Task[None]:
        self.gates[name] = asyncio.Event()

        async def stay() -> None:
            async with self._limits.place(model, deadline):
                self.inside.append(name)
                await self.gates[name].wait()

        return asyncio.create_task(stay())


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_places_are_given_in_order_per_model_and_for_all() -> None:
    crowd = Crowd(Limits(config({"name": "h_a", "max_concurrency": 1}, max_concurrency=2)))
    tasks = [
        crowd.enter(name, model)
        for name, model in [("a1", "h_a"), ("a2", "h_a"), ("b1", "h_b"), ("b2", "h_b")]
    ]
    await settled()
    assert crowd.inside == ["a1", "b1"]
    crowd.gates["b1"].set()
    await settled()
    assert crowd.inside == ["a1", "b1", "b2"], "a2 waits for its own model, not before b2"
    crowd.gates["a1"].set()
    await settled()
    assert crowd.inside[-1] == "a2"
    for gate in crowd.gates.values():
        gate.set()
    await asyncio.gather(*tasks)


async def test_a_cancelled_waiter_leaves_its_place_to_the_next() -> None:
    crowd = Crowd(Limits(config(max_concurrency=1)))
    first, second, third = (crowd.enter(name, "h_a") for name in "123")
    await settled()
    second.cancel()
    crowd.gates["1"].set()
    await eventually(lambda: crowd.inside == ["1", "3"])
    crowd.gates["3"].set()
    await asyncio.gather(first, third)
    assert second.cancelled()


async def test_a_full_queue_turns_away_and_a_further_try_is_let_in() -> None:
    limits = Limits(config(max_concurrency=1, max_queue=1))
    crowd = Crowd(limits)
    tasks = [crowd.enter(name, "h_a") for name in "12"]
    await settled()
    with pytest.raises(errors.Overloaded) as caught:
        async with limits.place("h_a"):
            pass
    assert caught.value.retry_after is not None

    async def again() -> str:
        async with limits.place("h_a", again=True):
            return "in"

    third = asyncio.create_task(again())
    await settled()
    for gate in crowd.gates.values():
        gate.set()
    assert await third == "in"
    await asyncio.gather(*tasks)


async def rate_limited(limits: Limits, model: str, retry_after: float | None) -> None:
    with pytest.raises(errors.RateLimited):
        async with limits.place(model):
            raise errors.RateLimited("x", retry_after=retry_after)


@pytest.mark.parametrize(
    ("asked", "left"), [(30.0, 20.0), (1000.0, None)], ids=["deadline", "longest wait"]
)
async def test_a_model_at_rest_turns_away_who_cannot_wait(asked: float, left: float | None) -> None:
    limits = Limits(config())
    await rate_limited(limits, "h_a", asked)
    with pytest.raises(errors.RateLimited) as caught:
        async with limits.place("h_a", left and time.monotonic() + left):
            pass
    assert 0 < (caught.value.retry_after or 0) <= asked
    async with limits.place("h_b"):
        pass


async def test_a_model_at_rest_is_waited_for_without_a_place_of_the_service() -> None:
    limits = Limits(config(max_concurrency=1))
    await rate_limited(limits, "h_a", 30)
    crowd = Crowd(limits)
    waiting = crowd.enter("a", "h_a")
    await settled()
    async with limits.place("h_b"):
        assert not crowd.inside
    waiting.cancel()
    await asyncio.wait([waiting])


async def test_who_can_wait_is_let_in_after_the_rest() -> None:
    limits = Limits(config())
    await rate_limited(limits, "h_a", 0.01)
    opens = time.monotonic() + 0.009
    async with limits.place("h_a"):
        assert time.monotonic() >= opens


async def test_a_model_is_tried_again_after_the_bound_whatever_its_provider_asked_for() -> None:
    limits = Limits(config(max_retry_after_seconds=0.05))
    await rate_limited(limits, "h_a", 86400)
    with pytest.raises(errors.RateLimited) as caught:
        async with limits.place("h_a"):
            pass
    assert 0 < (caught.value.retry_after or 0) <= 0.05

    async def again() -> None:
        async with limits.place("h_a"):
            pass

    while True:  # refused at once until then, and let in after it
        try:
            await again()
            break
        except errors.RateLimited as error:
            await asyncio.sleep(error.retry_after or 0)


# --- configuration --------------------------------------------------------------------


async def test_an_unlisted_model_is_refused_where_the_configuration_says_so() -> None:
    assert config("h_a").listed("h_b") is None
    closed = config("h_a-model", allow_unlisted=False)
    assert closed.listed("h_a-model") is not None
    with pytest.raises(errors.ModelNotFound, match="did you mean h_a-model"):
        closed.listed("h_a-mode")


def test_timeouts() -> None:
    made = config({"name": "h_a", "timeout_seconds": 5}, timeout_seconds=9)
    assert (made.timeout("h_a"), made.timeout("h_b")) == (5, 9)
