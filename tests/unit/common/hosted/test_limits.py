"""Queues, order, deadlines and configured bounds of calls to providers."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

import pytest

from services.common import errors
from services.common.hosted.config import HostedConfig, HostedModel
from services.common.hosted.limits import CallLimits
from tests.support.waiting import eventually, settle
from tests.unit.common.hosted.test_retry import config


class Crowd:
    """Callers that hold a place until they are released."""

    def __init__(self, limits: CallLimits) -> None:
        self._limits = limits
        self.inside: list[str] = []
        self.release: dict[str, asyncio.Event] = {}

    def enter(self, name: str, model: str, again: bool = False) -> asyncio.Task[None]:
        self.release[name] = asyncio.Event()

        async def stay() -> None:
            place = await self._limits.enter(model, again=again)
            self.inside.append(name)
            await self.release[name].wait()
            place.leave()

        return asyncio.create_task(stay())

    def release_all(self) -> None:
        for event in self.release.values():
            event.set()


async def test_places_are_given_in_order_per_model_and_for_the_service() -> None:
    crowd = Crowd(CallLimits(config({"name": "h_a", "max_concurrency": 1}, max_concurrency=2)))
    tasks = [
        crowd.enter(name, model)
        for name, model in [("a1", "h_a"), ("a2", "h_a"), ("b1", "h_b"), ("b2", "h_b")]
    ]
    await settle()
    assert crowd.inside == ["a1", "b1"]
    crowd.release["b1"].set()
    await settle()
    assert crowd.inside == ["a1", "b1", "b2"], "a2 waits for its model only, so b2 passes it"
    crowd.release["a1"].set()
    await settle()
    assert crowd.inside[-1] == "a2"
    crowd.release_all()
    await asyncio.gather(*tasks)


async def test_a_cancelled_waiter_lets_the_next_one_in() -> None:
    crowd = Crowd(CallLimits(config(max_concurrency=1)))
    first, second, third = (crowd.enter(name, "h_a") for name in "123")
    await settle()
    second.cancel()
    crowd.release["1"].set()
    await eventually(lambda: crowd.inside == ["1", "3"])
    crowd.release["3"].set()
    await asyncio.gather(first, third)
    assert second.cancelled()


async def test_a_full_queue_refuses_new_calls_but_not_retries() -> None:
    limits = CallLimits(config(max_concurrency=1, max_queue=1))
    crowd = Crowd(limits)
    tasks = [crowd.enter(name, "h_a") for name in "12"]
    await settle()
    with pytest.raises(errors.Overloaded) as caught:
        await limits.enter("h_a")
    assert caught.value.retry_after is not None
    tasks.append(crowd.enter("3", "h_a", again=True))
    await settle()
    crowd.release_all()
    await asyncio.gather(*tasks)
    assert crowd.inside == ["1", "3", "2"], "a retry comes first"


async def refuse(limits: CallLimits, model: str, retry_after: float | None = None) -> None:
    """Make a call that the provider answers with 429."""
    place = await limits.enter(model)
    place.leave(errors.RateLimited("slow down", retry_after=retry_after))


async def test_a_call_that_waits_for_a_paused_model_holds_no_place_of_the_service() -> None:
    limits = CallLimits(config(max_concurrency=1))
    await refuse(limits, "h_a")
    crowd = Crowd(limits)
    waiting = crowd.enter("a", "h_a")
    await settle()
    (await limits.enter("h_b")).leave()
    assert not crowd.inside
    waiting.cancel()
    await asyncio.wait([waiting])


async def test_a_paused_model_sends_one_probe_and_then_the_others() -> None:
    limits = CallLimits(config())
    await refuse(limits, "h_a")
    crowd = Crowd(limits)
    tasks = [crowd.enter(name, "h_a") for name in "123"]
    await settle()
    assert not crowd.inside
    await eventually(lambda: crowd.inside == ["1"])
    crowd.release_all()
    await asyncio.gather(*tasks)
    assert crowd.inside == ["1", "2", "3"]


async def test_a_refused_call_comes_first() -> None:
    limits = CallLimits(config())
    await refuse(limits, "h_a")
    crowd = Crowd(limits)
    tasks = [crowd.enter("new", "h_a")]
    await settle()
    tasks.append(crowd.enter("refused", "h_a", again=True))
    await eventually(lambda: crowd.inside == ["refused"])
    crowd.release_all()
    await asyncio.gather(*tasks)


@pytest.mark.parametrize("limited", [True, False], ids=["by the provider", "by our own bound"])
async def test_a_call_leaves_the_queue_before_its_deadline(limited: bool) -> None:
    limits = CallLimits(config(max_concurrency=1))
    if limited:
        await refuse(limits, "h_a", 30)
        probe = await limits.enter("h_a")
        probe.leave(errors.RateLimited("slow down"))
    else:
        await limits.enter("h_a")
    with pytest.raises(errors.RateLimited if limited else errors.Overloaded) as caught:
        await limits.enter("h_a", time.monotonic() + 0.02)
    assert caught.value.retry_after is not None


async def test_after_a_long_pause_calls_are_refused_with_the_provider_s_words() -> None:
    limits = CallLimits(config(max_retry_after_seconds=0.01))
    await refuse(limits, "h_a", 86400)
    crowd = Crowd(limits)
    first, *others = [asyncio.create_task(limits.enter("h_a")) for _ in range(4)]
    probe = await first
    probe.leave(errors.RateLimited("slow down", retry_after=86400))
    for task in (*others, asyncio.create_task(limits.enter("h_a"))):
        with pytest.raises(errors.RateLimited, match="slow down") as caught:
            await task
        assert 0 < (caught.value.retry_after or 0) <= 61
    # Later one call is let through, and opens the model for all.
    while True:
        try:
            (await limits.enter("h_a")).leave()
            break
        except errors.RateLimited:
            await asyncio.sleep(0.01)
    tasks = [crowd.enter(name, "h_a") for name in "12"]
    crowd.release_all()
    await asyncio.gather(*tasks)


async def test_a_queue_that_is_too_slow_for_a_deadline_refuses_at_once() -> None:
    """After a minute of waiting calls it is known how fast the queue moves."""
    now = 0.0
    limits = CallLimits(config({"name": "h_a", "max_concurrency": 1}), clock=lambda: now)
    crowd = Crowd(limits)
    tasks = [crowd.enter(str(n), "h_a") for n in range(30)]
    for n in range(10):
        await settle()
        now += 7.0
        crowd.release[str(n)].set()
    await settle()
    with pytest.raises(errors.RateLimited) as caught:
        await limits.enter("h_a", now + 60)
    assert 60 < (caught.value.retry_after or 0) < 150
    patient = asyncio.create_task(limits.enter("h_a", now + 200))
    await settle()
    assert not patient.done()
    crowd.release_all()
    (await patient).leave()
    await asyncio.gather(*tasks)


async def test_tenants_take_turns() -> None:
    limits = CallLimits(config(max_concurrency=1))
    held = await limits.enter("h_a")
    order: list[str] = []

    async def enter(tenant: str) -> None:
        place = await limits.enter("h_a", tenant=tenant)
        order.append(tenant)
        place.leave()

    tasks = [asyncio.create_task(enter(tenant)) for tenant in "aaaaaabbc"]
    await settle()
    held.leave()
    await asyncio.gather(*tasks)
    assert order[:3] == ["a", "b", "c"]
    assert Counter(order) == {"a": 6, "b": 2, "c": 1}


def limited(of_model: bool, **rates: float) -> HostedConfig[HostedModel]:
    """A configuration with these rates for the model h_a, or for all models h_* together."""
    if of_model:
        return config({"name": "h_a", **rates})
    return config(limits=[{"models": "h_*", **rates}])


@pytest.mark.parametrize("of_model", [True, False], ids=["model", "key"])
async def test_calls_per_minute_are_never_exceeded(of_model: bool) -> None:
    now = 0.0
    limits = CallLimits(limited(of_model, rpm=60), clock=lambda: now)
    (await limits.enter("h_a")).leave()
    second = asyncio.create_task(limits.enter("h_a"))
    other = asyncio.create_task(limits.enter("h_b"))
    await settle()
    assert not second.done()
    assert other.done() is of_model, "a key's limit holds for all its models"
    now = 1.1
    tick(limits)
    await settle()
    assert second.done()
    other.cancel()
    await asyncio.wait([other])


@pytest.mark.parametrize("of_model", [True, False], ids=["model", "key"])
async def test_tokens_per_minute_are_estimated_and_settled(of_model: bool) -> None:
    now = 0.0
    limits = CallLimits(limited(of_model, tpm=6000), clock=lambda: now)  # 100 a second
    place = await limits.enter("h_a", tokens=200)
    second = asyncio.create_task(limits.enter("h_a", tokens=200))
    await settle()
    assert not second.done(), "the estimate counts for two seconds"
    now = 0.6
    place.leave(tokens=50)
    tick(limits)
    await settle()
    assert second.done(), "it used only what half a second allows"


async def test_each_provider_has_limits_of_its_own() -> None:
    """Of models that several patterns match, all limits hold."""
    rates = [{"models": "h_a/*", "rpm": 60}, {"models": "h_b/*", "rpm": 60}]
    limits = CallLimits(config(limits=[*rates, {"models": "*", "rpm": 6000}]), clock=lambda: 0.0)
    (await limits.enter("h_a/1")).leave()
    calls = {name: asyncio.create_task(limits.enter(name)) for name in ("h_a/2", "h_b/1", "h_c/1")}
    await settle()
    assert not any(call.done() for call in calls.values()), "the limit of all models"
    limits.rates[2].calls.next = 0.0
    tick(limits)
    await settle()
    assert [name for name, call in calls.items() if call.done()] == ["h_b/1"]
    limits.rates[2].calls.next = 0.0
    tick(limits)
    await settle()
    assert [name for name, call in calls.items() if call.done()] == ["h_b/1", "h_c/1"]
    calls["h_a/2"].cancel()
    await asyncio.wait(calls.values())


@pytest.mark.parametrize(
    ("limit", "reason"),
    [
        ({"models": "h_a"}, "needs rpm, tpm, or both"),
        ({"models": "groq/*", "rpm": 1}, "matches no model: its names begin with h_"),
    ],
)
def test_a_limit_without_effect_is_refused(limit: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        config(limits=[limit])


def tick(limits: CallLimits) -> None:
    """Let the timers of all queues fire now."""
    for queue in limits._queues.values():
        queue.pump()
