"""Each row of the table of errors, unary and streamed; tries; faults at random."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from arena_llm import ArenaError, AsyncClient
from tests.support.scripted import eventually, reaching
from tests.support.upstreams.cases import STALLS
from tests.support.upstreams.openrouter import OpenRouterUpstream
from tests.support.upstreams.server import Call, Fault, Reply, Step
from tests.unit.openrouter.conftest import MODEL, Start, call, failed

LATER = {"Retry-After": "7"}


def typed(error_type: str) -> dict[str, Any]:
    return {"metadata": {"error_type": error_type}}


#: What the provider does: the code, the reason and the seconds to wait that come of it.
ROWS: dict[str, tuple[Fault, str, str, float | None]] = {
    "400": (Fault(400), "INVALID_ARGUMENT", "INVALID_REQUEST", None),
    "400 context": (
        Fault(400, error=typed("context_length_exceeded")),
        "INVALID_ARGUMENT",
        "CONTEXT_TOO_LONG",
        None,
    ),
    "401": (Fault(401), "FAILED_PRECONDITION", "API_KEY_REJECTED", None),
    "402": (Fault(402), "FAILED_PRECONDITION", "INSUFFICIENT_CREDITS", None),
    "402 later": (Fault(402, headers=LATER), "RESOURCE_EXHAUSTED", "INSUFFICIENT_CREDITS", 7),
    "403": (Fault(403), "PERMISSION_DENIED", "REFUSED_BY_PROVIDER", None),
    "404": (Fault(404), "NOT_FOUND", "MODEL_NOT_FOUND", None),
    "408": (Fault(408), "UNAVAILABLE", "UPSTREAM_UNAVAILABLE", None),
    "409": (Fault(409), "UNAVAILABLE", "UPSTREAM_UNAVAILABLE", None),
    "413": (Fault(413), "INVALID_ARGUMENT", "INVALID_REQUEST", None),
    "422": (Fault(422), "INVALID_ARGUMENT", "INVALID_REQUEST", None),
    "429": (Fault(429, headers=LATER), "RESOURCE_EXHAUSTED", "RATE_LIMITED", 7),
    "500": (Fault(500), "UNAVAILABLE", "UPSTREAM_UNAVAILABLE", None),
    "502": (Fault(502), "UNAVAILABLE", "UPSTREAM_UNAVAILABLE", None),
    "503 later": (Fault(503, headers=LATER), "UNAVAILABLE", "UPSTREAM_UNAVAILABLE", 7),
    "504": (Fault(504), "UNAVAILABLE", "UPSTREAM_UNAVAILABLE", None),
    "529": (Fault(529), "UNAVAILABLE", "UPSTREAM_UNAVAILABLE", None),
    "502 page": (
        Fault(502, body=b"<html>Bad gateway", content_type="text/html"),
        "UNAVAILABLE",
        "UPSTREAM_UNAVAILABLE",
        None,
    ),
    "redirect": (
        Fault(302, headers={"Location": "http://elsewhere.invalid/"}),
        "UNAVAILABLE",
        "UPSTREAM_UNAVAILABLE",
        None,
    ),
    "200 with error": (
        Fault(200, error={"code": 403}),
        "PERMISSION_DENIED",
        "REFUSED_BY_PROVIDER",
        None,
    ),
    "200 with 429": (
        Fault(200, error={"code": 429}),
        "RESOURCE_EXHAUSTED",
        "RATE_LIMITED",
        -1,  # our own backoff
    ),
    "200 without code": (
        Fault(200, error={"code": None}),
        "UNAVAILABLE",
        "UPSTREAM_UNAVAILABLE",
        None,
    ),
    "200 page": (
        Fault(200, body=b"<html>Welcome", content_type="text/html"),
        "UNAVAILABLE",
        "UPSTREAM_UNAVAILABLE",
        None,
    ),
    "truncated": (Fault(truncate=True), "UNAVAILABLE", "UPSTREAM_UNAVAILABLE", None),
    "cut": (Fault(truncate=True, reset=True), "UNAVAILABLE", "UPSTREAM_UNAVAILABLE", None),
    "not an object": (Fault(200, body=b"[]"), "UNAVAILABLE", "UPSTREAM_UNAVAILABLE", None),
    "no choices": (Fault(empty=True), "UNAVAILABLE", "UPSTREAM_UNAVAILABLE", None),
    "reset": (Fault(reset=True), "UNAVAILABLE", "UPSTREAM_UNAVAILABLE", None),
}

#: What may go wrong after a stream has begun.
LATE: dict[str, tuple[Fault, str, str]] = {
    "error chunk": (
        Fault(error={"code": 429}, after="ab"),
        "RESOURCE_EXHAUSTED",
        "RATE_LIMITED",
    ),
    "moderation": (
        Fault(error={"code": 403}, after="a"),
        "PERMISSION_DENIED",
        "REFUSED_BY_PROVIDER",
    ),
    "cut": (Fault(truncate=True, after="ab"), "UNAVAILABLE", "UPSTREAM_UNAVAILABLE"),
    "reset": (Fault(reset=True, after="ab"), "UNAVAILABLE", "UPSTREAM_UNAVAILABLE"),
}


@pytest.mark.parametrize("streamed", [False, True], ids=["unary", "streamed"])
@pytest.mark.parametrize("row", ROWS)
async def test_the_table(
    start: Start, upstream: OpenRouterUpstream, row: str, streamed: bool
) -> None:
    fault, code, reason, wait = ROWS[row]
    upstream.default = fault
    async with start(max_attempts=2, max_retry_after_seconds=1) as llm:
        error = await failed(llm, streamed)
    assert (error.code, error.reason) == (code, reason)
    transient = code in ("UNAVAILABLE", "RESOURCE_EXHAUSTED")
    again = transient and "Retry-After" not in fault.headers  # 7 s are over the bound
    assert error.metadata["attempts"] == str(len(upstream.history)) == ("2" if again else "1")
    if wait is not None and wait > 0:
        assert error.retry_after == wait
    assert (error.retry_after is not None) == transient
    upstream.default = Reply()
    async with start() as llm:
        assert await call(llm, streamed) == "ok"


@pytest.mark.parametrize("row", LATE)
async def test_a_stream_that_fails_late_is_not_tried_again(
    llm: AsyncClient, upstream: OpenRouterUpstream, row: str
) -> None:
    fault, code, reason = LATE[row]
    upstream.enqueue(fault)
    seen: list[str] = []

    async def collect() -> None:
        async for delta in llm.stream(MODEL, "hi"):
            seen.append(delta)

    with pytest.raises(ArenaError) as caught:
        await collect()
    assert (caught.value.code, caught.value.reason) == (code, reason)
    assert "".join(seen) == "".join(fault.after or ())
    assert len(upstream.history) == 1
    assert await call(llm, True, model="openrouter_a/schema") == "ok"


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


async def test_a_provider_that_nobody_reaches(start: Start) -> None:
    async with start(base_url="http://127.0.0.1:1/api/v1", max_attempts=1) as llm:
        error = await failed(llm, False)
    assert (error.code, error.reason) == ("UNAVAILABLE", "UPSTREAM_UNAVAILABLE")


async def test_what_the_models_provider_said_comes_along(
    llm: AsyncClient, upstream: OpenRouterUpstream
) -> None:
    metadata = {"provider_name": "One", "raw": {"detail": "x" * 10_000}, "reasons": ["violence"]}
    upstream.enqueue(Fault(403, message="Provider\nreturned error", error={"metadata": metadata}))
    error = await failed(llm, False)
    assert error.metadata["provider"] == "One"
    assert error.message.startswith('openrouter: Provider returned error: {"detail": "xxx')
    assert len(error.message) <= 500


@pytest.mark.parametrize("key", ["", "bad key", "schlüssel"])
async def test_a_key_that_cannot_be_used(
    start: Start, upstream: OpenRouterUpstream, key: str
) -> None:
    async with start(key=key) as llm:
        for streamed in (False, True):
            error = await failed(llm, streamed)
            assert error.code == "FAILED_PRECONDITION"
            assert error.reason == ("API_KEY_REJECTED" if key else "API_KEY_MISSING")
            assert error.metadata["variable"] == "OPENROUTER_API_KEY"
    assert not upstream.history


async def test_parameters_that_no_provider_honours_are_named(
    llm: AsyncClient, upstream: OpenRouterUpstream
) -> None:
    upstream.default = Fault(404, message="No endpoints found that can handle the parameters")
    error = await failed(llm, False, top_k=3, seed=1)
    assert (error.code, error.reason, error.field) == (
        "UNIMPLEMENTED",
        "UNSUPPORTED",
        "config.top_k",
    )
    for model, options in {
        "openrouter_a/none": {"top_k": 3},  # there is no such model
        MODEL: {"seed": 1},  # honoured: the 404 has another cause
    }.items():
        error = await failed(llm, False, model=model, **options)
        assert error.reason == "MODEL_NOT_FOUND"


@pytest.mark.parametrize("streamed", [False, True], ids=["unary", "streamed"])
async def test_log_probabilities_that_do_not_come(llm: AsyncClient, streamed: bool) -> None:
    error = await failed(llm, streamed, logprobs=1)
    assert (error.reason, error.field) == ("UNSUPPORTED", "config.logprobs")


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
