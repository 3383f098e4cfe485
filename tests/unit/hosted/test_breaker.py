"""A provider that is down: its model is refused without a request until a probe is answered."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from arena.agents.calls import ModelCall
from arena.experiment.model_calls import ModelCaller
from arena.results.rows import CallKey
from arena_llm import ArenaError, ModelState
from tests.support.upstreams.cases import DOWN
from tests.support.upstreams.server import Fault, Reply
from tests.unit.hosted.conftest import STREAMED, Provider, Start, call, fail

#: Opens at the third failure. The probe is due long after the test, or soon.
AWAY = {"failures": 3, "seconds": 0, "probe_seconds": 3600, "max_probe_seconds": 3600}
SHORT = {**AWAY, "probe_seconds": 0.05}

BOTH = pytest.mark.parametrize("provider", ["openrouter", "openai"], indirect=True)


@BOTH
@STREAMED
async def test_calls_are_refused_while_it_is_open(
    start: Start, upstream: Any, provider: Provider, streamed: bool
) -> None:
    upstream.default = Fault(503)
    async with start(breaker=AWAY, max_attempts=9) as llm:
        first = await fail(llm, streamed, provider.model)
        assert len(upstream.history) == 3  # no attempt after it has opened
        refused = await fail(llm, streamed, provider.model)
        assert len(upstream.history) == 3
        for error in (first, refused):
            assert (error.code, error.reason) == DOWN
            assert error.retry_after is not None
            assert 3500 < error.retry_after <= 3600
        assert "3 attempts" in str(refused)
        assert (refused.metadata["breaker"], refused.report) == ("UPSTREAM_UNAVAILABLE", None)

        state = await llm.is_available(provider.model)
        assert (state.available, state.state, state.reason) == (False, ModelState.UNKNOWN, DOWN[1])
        assert "failed 3 times in a row" in state.detail
        ((replica,),) = [found.replicas for found in (await llm.service_info()).backends]
        assert state.detail[:60] in replica.detail


@BOTH
async def test_calls_that_wait_for_a_place_are_refused_when_it_opens(
    start: Start, upstream: Any, provider: Provider
) -> None:
    """Without a request for each, and later calls find a free place."""
    upstream.default = Fault(503)
    async with start({"max_concurrency": 1}, breaker=SHORT, max_attempts=1) as llm:
        calls = (fail(llm, False, provider.model) for _ in range(20))
        assert {error.reason for error in await asyncio.gather(*calls)} == {DOWN[1]}
        assert 3 <= len(upstream.history) < 20  # on a busy machine, probes follow
        upstream.default = Reply()
        while not (await llm.is_available(provider.model)).available:
            with suppress(ArenaError):
                assert await call(llm, False, provider.model) == "ok"


@BOTH
async def test_an_experiment_waits_for_the_probe(
    start: Start, upstream: Any, provider: Provider
) -> None:
    upstream.enqueue(*[Fault(503)] * 5)  # the last two are probes
    async with start(breaker=SHORT, max_attempts=3) as llm:
        caller = ModelCaller(llm, "e", patience=60)
        reply = await caller(
            CallKey("g/0/a,b", 0, 0, 0), ModelCall(provider.model, (("user", "hi"),)), "id"
        )
    assert reply.text == "ok"
    assert len(upstream.history) == 6


@pytest.mark.parametrize("provider", ["openrouter"], indirect=True)
async def test_callers_faults_and_limits_open_nothing(
    start: Start, upstream: Any, provider: Provider
) -> None:
    async with start(breaker=AWAY, max_attempts=1, max_retry_after_seconds=0.001) as llm:
        for status in (400, 401, 402, 403, 404, 429):
            upstream.default = Fault(status, headers={"Retry-After": "0"})
            for _ in range(4):
                await fail(llm, False, provider.model)
        ((replica,),) = [found.replicas for found in (await llm.service_info()).backends]
        assert not replica.detail
