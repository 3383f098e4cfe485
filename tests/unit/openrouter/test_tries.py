"""Tries, and the limits of a call: in time, in number, in a queue; faults at random."""

from __future__ import annotations

import asyncio
import random

import pytest

from arena_llm import ArenaError, AsyncClient
from tests.support.scripted import eventually, reaching
from tests.support.upstreams.cases import STALLS
from tests.support.upstreams.openrouter import OpenRouterUpstream
from tests.support.upstreams.server import Call, Fault, Reply, Step
from tests.unit.openrouter.conftest import MODEL, Start, call, failed


@pytest.mark.parametrize("streamed", [False, True], ids=["unary", "streamed"])
async def test_transient_failures_are_tried_again_and_counted(
    llm: AsyncClient, upstream: OpenRouterUpstream, streamed: bool
) -> None:
    soon = {"Retry-After": "0.01"}
    upstream.enqueue(Fault(429, headers=soon), Fault(reset=True), Fault(402, headers=soon), Reply())
    if streamed:
        stream = llm.stream(MODEL, "hi")
        assert [delta async for delta in stream] == ["o", "k"]
        assert stream.completion is not None
        assert stream.completion.attempts == 4
    else:
        assert (await llm.generate(MODEL, "hi")).attempts == 4


@pytest.mark.parametrize("streamed", [False, True], ids=["unary", "streamed"])
async def test_a_retry_after_past_the_deadline_is_not_waited_for(
    llm: AsyncClient, upstream: OpenRouterUpstream, streamed: bool
) -> None:
    upstream.default = Fault(429, headers={"Retry-After": "30"})
    error = await failed(llm, streamed, timeout=20)
    assert (error.reason, error.retry_after) == ("RATE_LIMITED", 30)
    assert len(upstream.history) == 1


async def test_a_model_that_answers_429_rests_and_the_others_do_not(
    llm: AsyncClient, upstream: OpenRouterUpstream
) -> None:
    upstream.enqueue(Fault(429, headers={"Retry-After": "30"}))
    await failed(llm, False, timeout=20)
    error = await failed(llm, False, timeout=20)
    assert error.reason == "RATE_LIMITED"
    assert 0 < (error.retry_after or 0) <= 30
    assert len(upstream.history) == 1, "the second call was not made"
    assert await call(llm, False, model="openrouter_a/schema") == "ok"


async def test_one_attempt_has_a_bound_of_its_own(
    start: Start, upstream: OpenRouterUpstream
) -> None:
    upstream.enqueue(Fault(hang=True))
    async with start(timeout_seconds=0.2, max_attempts=20) as llm:
        # A busy machine may let the time of a further one pass.
        assert (await llm.generate(MODEL, "hi")).attempts >= 2


@pytest.mark.parametrize("case", STALLS)
async def test_a_provider_that_stalls(
    start: Start, upstream: OpenRouterUpstream, case: str
) -> None:
    streamed, upstream.default = STALLS[case]

    async def attempt(seconds: float) -> ArenaError:
        async with start(timeout_seconds=seconds, max_attempts=1) as llm:
            error = await failed(llm, streamed)
            await eventually(lambda: all(one.dropped.is_set() for one in upstream.history))
            return error

    error = await reaching(lambda: upstream.history, attempt)
    assert (error.code, error.reason) == ("UNAVAILABLE", "UPSTREAM_UNAVAILABLE")
    assert "did not answer in time" in error.message


@pytest.mark.parametrize("streamed", [False, True], ids=["unary", "streamed"])
async def test_a_full_queue(start: Start, upstream: OpenRouterUpstream, streamed: bool) -> None:
    gate = asyncio.Event()
    upstream.default = Reply(hold=gate)
    entry = {"name": MODEL, "max_concurrency": 1}
    async with start(models=[entry], max_queue=2) as llm:
        calls = [asyncio.create_task(call(llm, streamed)) for _ in range(6)]
        done, waiting = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        while len(done) < 3:
            more, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            done |= more
        for task in done:
            error = task.exception()
            assert isinstance(error, ArenaError)
            assert (error.code, error.reason) == ("RESOURCE_EXHAUSTED", "OVERLOADED")
            assert error.retry_after is not None
        assert upstream.most_running == 1
        gate.set()
        assert set(await asyncio.gather(*waiting)) == {"ok"}
    assert upstream.most_running == 1


async def test_random_faults_end_every_call_rightly(
    start: Start, upstream: OpenRouterUpstream
) -> None:
    """`bench/openrouter.py` has the long version, which watches memory as well."""
    dice = random.Random(7)  # noqa: S311 - the same faults each time
    faults = [
        Fault(429, headers={"Retry-After": "0"}),
        Fault(500),
        Fault(529),
        Fault(reset=True),
        Fault(truncate=True),
        Fault(truncate=True, reset=True),
        Fault(empty=True),
        Fault(200, error={"code": 502}),
    ]

    def step(received: Call) -> Step:
        if dice.random() < 0.1:
            return dice.choice(faults)
        return Reply(received.body["messages"][0]["content"])

    upstream.default = step
    count = 2000

    async with start(max_attempts=3) as llm:
        free = asyncio.Semaphore(50)

        async def one(n: int) -> str | ArenaError:
            async with free:
                try:
                    if n % 2:
                        return (await llm.generate(MODEL, f"move {n}")).text
                    return "".join([delta async for delta in llm.stream(MODEL, f"move {n}")])
                except ArenaError as error:
                    return error

        ends = await asyncio.gather(*(one(n) for n in range(count)))
    errors = [end for end in ends if isinstance(end, ArenaError)]
    assert {error.reason for error in errors} <= {"RATE_LIMITED", "UPSTREAM_UNAVAILABLE"}
    assert {error.metadata["attempts"] for error in errors} <= {"3"}
    good = sum(end == f"move {n}" for n, end in enumerate(ends))
    assert good + len(errors) == count
    assert good > 0.98 * count
    assert upstream.running == 0
