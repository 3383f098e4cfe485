"""Errors of providers: their code and reason, retries, timeouts, and what the message says."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from arena_llm import ArenaError, AsyncClient
from tests.support.upstreams.cases import BROKEN_OFF, DOWN, INVALID, STALLS
from tests.support.upstreams.server import Fault, Reply
from tests.support.waiting import eventually, reaching
from tests.unit.hosted.conftest import OPENAI_FORMAT, STREAMED, Provider, Start, call, fail

LATER = {"Retry-After": "7"}
PAGE: dict[str, Any] = {"body": b"<html>Welcome", "content_type": "text/html"}
CONTEXT = ("INVALID_ARGUMENT", "CONTEXT_TOO_LONG")
CREDITS = ("FAILED_PRECONDITION", "INSUFFICIENT_CREDITS")
LIMITED = ("RESOURCE_EXHAUSTED", "RATE_LIMITED")
REFUSED = ("PERMISSION_DENIED", "REFUSED_BY_PROVIDER")

Row = tuple[Fault, tuple[str, str]]

#: What any provider may do, and the code and reason of the error.
ROWS: dict[str, Row] = {
    "400": (Fault(400), INVALID),
    "401": (Fault(401), ("FAILED_PRECONDITION", "API_KEY_REJECTED")),
    "402": (Fault(402), CREDITS),
    "402 later": (Fault(402, headers=LATER), ("RESOURCE_EXHAUSTED", "CREDITS_HELD")),
    "403": (Fault(403), REFUSED),
    "404": (Fault(404), ("NOT_FOUND", "MODEL_NOT_FOUND")),
    "408": (Fault(408), DOWN),
    "409": (Fault(409), DOWN),
    "413": (Fault(413), INVALID),
    "422": (Fault(422), INVALID),
    "429": (Fault(429), LIMITED),
    "429 later": (Fault(429, headers=LATER), LIMITED),
    "500": (Fault(500), DOWN),
    "502": (Fault(502), DOWN),
    "503 later": (Fault(503, headers=LATER), DOWN),
    "504": (Fault(504), DOWN),
    "529": (Fault(529), DOWN),
    "a page with 502": (Fault(502, **PAGE), DOWN),
    "a page with 200": (Fault(200, **PAGE), DOWN),
    "a redirect": (Fault(302, headers={"Location": "http://elsewhere.invalid/"}), DOWN),
    "a truncated body": (Fault(truncate=True), DOWN),
    "a connection lost within the body": (Fault(truncate=True, reset=True), DOWN),
    "an empty body": (Fault(body=b""), DOWN),
    "a reset connection": (Fault(reset=True), DOWN),
}

#: Rows that are also tested with streams. The others differ from these only in the status.
STREAMED_ROWS = (
    *("400", "402 later", "404", "429 later", "503 later", "a page with 502", "a page with 200"),
    *("a redirect", "a truncated body", "a connection lost within the body", "an empty body"),
    "a reset connection",
)

#: Errors of single formats, by the provider's variable.
OWN_ROWS: dict[str, dict[str, Row]] = {
    "OPENROUTER_API_KEY": {
        "context": (
            Fault(400, error={"metadata": {"error_type": "context_length_exceeded"}}),
            CONTEXT,
        ),
        "403 inside 200": (Fault(200, error={"code": 403}), REFUSED),
        "429 inside 200": (Fault(200, error={"code": 429}), LIMITED),
        "an error without code": (Fault(200, error={"code": None}), DOWN),
        "a list": (Fault(200, body=b"[]"), DOWN),
        "no choices": (Fault(empty=True), DOWN),
    },
    "OPENAI_API_KEY": {
        "context": (
            Fault(400, "maximum context length", error={"code": "context_length_exceeded"}),
            CONTEXT,
        ),
        "context, in words": (
            Fault(400, "This model's maximum context length is 8 tokens"),
            CONTEXT,
        ),
        "moderation": (
            Fault(400, "rejected", error={"code": "content_policy_violation"}),
            REFUSED,
        ),
        "quota": (
            Fault(429, "You exceeded your quota", error={"code": "insufficient_quota"}),
            CREDITS,
        ),
        "no choices": (Fault(empty=True), DOWN),
    },
}


@STREAMED
async def test_the_table(start: Start, upstream: Any, provider: Provider, streamed: bool) -> None:
    """A transient error is retried, unless Retry-After is over the limit. The next call works."""
    rows = {name: ROWS[name] for name in STREAMED_ROWS} if streamed else ROWS
    rows = rows | OWN_ROWS.get(provider.variable, {})
    async with start(max_attempts=2, max_retry_after_seconds=0.005) as llm:
        for name, (fault, expected) in rows.items():
            if expected == LIMITED:
                continue  # the model pauses; see test_a_429...
            upstream.history.clear()
            upstream.default = fault
            error = await fail(llm, streamed, provider.model)
            assert (error.code, error.reason) == expected, (name, error)
            transient = error.code in ("UNAVAILABLE", "RESOURCE_EXHAUSTED")
            retried = transient and "Retry-After" not in fault.headers
            assert len(upstream.history) == (2 if retried else 1), name
            check_attempts(error, len(upstream.history))
            assert (error.retry_after is not None) == transient, name
            if "Retry-After" in fault.headers:
                assert error.retry_after == 7, name
            upstream.default = Reply()
            assert await call(llm, streamed, provider.model) == "ok", name


#: The kinds of a 429.
LIMITS = [name for name, (_, expected) in ROWS.items() if expected == LIMITED]


@STREAMED
@pytest.mark.parametrize("name", LIMITS)
async def test_a_429_is_no_failure(
    start: Start, upstream: Any, provider: Provider, streamed: bool, name: str
) -> None:
    """It uses up no attempt. What the provider says can only make the next probe sooner."""
    fault, _ = ROWS[name]
    soon = Fault(429, headers={"Retry-After": "0"})
    upstream.enqueue(fault, soon, soon, soon)
    async with start(max_attempts=1) as llm:
        assert await call(llm, streamed, provider.model) == "ok"
    assert len(upstream.history) == 5


@STREAMED
@pytest.mark.parametrize("name", LIMITS)
async def test_a_model_that_refuses_everything(
    start: Start, upstream: Any, provider: Provider, streamed: bool, name: str
) -> None:
    """Calls wait for it no longer than is configured, then get the provider's words immediately."""
    upstream.default, _ = ROWS[name]
    async with start(max_retry_after_seconds=0.02) as llm:
        error = await fail(llm, streamed, provider.model)
        assert (error.code, error.reason) == LIMITED
        assert "all calls" in str(error)
        check_attempts(error, len(upstream.history))
        assert error.retry_after is not None
        assert 0 < error.retry_after <= 60
        upstream.default = Reply()

        outcome: str | ArenaError | None = None
        while outcome != "ok":
            if isinstance(outcome, ArenaError):
                assert outcome.reason == "RATE_LIMITED"
                await asyncio.sleep(min(outcome.retry_after or 0, 0.05))
            (outcome,) = await asyncio.gather(
                call(llm, streamed, provider.model), return_exceptions=True
            )


def check_attempts(error: ArenaError, count: int) -> None:
    """The error reports each request and why it failed."""
    report = error.report
    assert report is not None
    assert [attempt.reason for attempt in report.attempts] == [error.reason] * count
    assert report.request_id
    assert (report.served_by.backend, report.served_by.model) == (
        error.model.partition("_")[0],
        error.model,
    )


#: What may go wrong after a stream has begun.
LATE: dict[str, Fault] = {
    "an error event": Fault(500, after="ab"),
    "a reset connection": Fault(reset=True, after="ab"),
    "an early end": Fault(truncate=True, after="ab"),
}


@pytest.mark.parametrize("row", LATE)
async def test_nothing_is_retried_after_the_first_delta(
    llm: AsyncClient, upstream: Any, provider: Provider, row: str
) -> None:
    upstream.enqueue(LATE[row])
    deltas: list[str] = []

    async def collect() -> None:
        async for delta in llm.stream(provider.model, "hi"):
            deltas.append(delta)

    with pytest.raises(ArenaError) as caught:
        await collect()
    error = caught.value
    assert (error.code, error.reason) == BROKEN_OFF
    assert "".join(deltas) == "ab"
    assert error.partial is not None
    assert (error.partial.text, error.partial.finish_reason) == ("ab", "interrupted")
    check_attempts(error, 1)
    assert error.report is not None
    assert error.report.served_by.provider == error.report.attempts[0].provider != ""
    assert len(upstream.history) == 1


async def test_the_message_is_the_providers(
    start: Start, upstream: Any, provider: Provider
) -> None:
    async with start(max_attempts=1) as llm:
        for status in (400, 401, 404, 500, 503, 529):
            for streamed in (False, True):
                upstream.enqueue(Fault(status, "no such luck"))
                error = await fail(llm, streamed, provider.model)
                # A rejected key is followed by what to do about it.
                advice = f": put a valid {provider.variable} into .env" if status == 401 else ""
                assert f": no such luck{advice}" in error.message
                assert "litellm" not in error.message


async def test_a_provider_that_cannot_be_reached(start: Start, provider: Provider) -> None:
    async with start(url="http://127.0.0.1:1", max_attempts=2) as llm:
        error = await fail(llm, False, provider.model)
    assert (error.code, error.reason) == DOWN
    check_attempts(error, 2)
    assert error.report is not None
    assert {attempt.http_status for attempt in error.report.attempts} == {0}


@pytest.mark.parametrize("case", STALLS)
async def test_a_provider_that_stalls(
    start: Start, upstream: Any, provider: Provider, case: str
) -> None:
    streamed, upstream.default = STALLS[case]

    async def attempt(seconds: float) -> ArenaError:
        async with start({"timeout_seconds": seconds}, max_attempts=1) as llm:
            error = await fail(llm, streamed, provider.model)
            await eventually(lambda: all(request.dropped.is_set() for request in upstream.history))
            return error

    error = await reaching(lambda: upstream.history, attempt)
    assert (error.code, error.reason) == (BROKEN_OFF if case == "within a stream" else DOWN)
    assert "did not answer in time" in error.message


@pytest.mark.parametrize("case", STALLS)
async def test_a_provider_that_falls_silent_is_asked_again(
    start: Start, upstream: Any, provider: Provider, case: str
) -> None:
    """Long before the attempt's own bound, unless a part of the answer has already arrived."""
    streamed, silent = STALLS[case]
    late = case == "within a stream"

    async def attempt(seconds: float) -> str | ArenaError:
        upstream.history.clear()
        upstream.enqueue(silent)
        async with start({"first_byte_seconds": seconds}, max_attempts=2) as llm:
            try:
                return await call(llm, streamed, provider.model)
            except ArenaError as error:
                return error

    answers: list[str | ArenaError] = []
    await reaching(
        lambda: (answers[-1] == "ok") != late and len(upstream.history) == (1 if late else 2),
        lambda seconds: _append(answers, attempt(seconds)),
    )
    if late:
        assert isinstance(answers[-1], ArenaError)
        assert (answers[-1].code, answers[-1].reason) == BROKEN_OFF
        assert "first_byte_seconds" in answers[-1].message


async def _append(answers: list[Any], answer: Any) -> None:
    answers.append(await answer)


@STREAMED
async def test_the_callers_deadline_ends_the_providers_request(
    llm: AsyncClient, upstream: Any, provider: Provider, streamed: bool
) -> None:
    upstream.default = Fault(hang=True)
    error = await reaching(
        lambda: upstream.history,
        lambda seconds: fail(llm, streamed, provider.model, timeout=seconds),
    )
    assert error.code == "DEADLINE_EXCEEDED"
    await eventually(lambda: all(request.dropped.is_set() for request in upstream.history))


@STREAMED
async def test_transient_errors_are_retried_and_counted(
    llm: AsyncClient, upstream: Any, provider: Provider, streamed: bool
) -> None:
    upstream.enqueue(Fault(429), Fault(503, headers={"Retry-After": "0.01"}), Fault(reset=True))
    if streamed:
        stream = llm.stream(provider.model, "hi")
        assert "".join([delta async for delta in stream]) == "ok"
        assert stream.completion is not None
        attempts = stream.completion.attempts
    else:
        attempts = (await llm.generate(provider.model, "hi")).attempts
    reasons = ["RATE_LIMITED", "UPSTREAM_UNAVAILABLE", "UPSTREAM_UNAVAILABLE", ""]
    assert [attempt.reason for attempt in attempts] == reasons
    assert [attempt.http_status for attempt in attempts] == [429, 503, 0, 200]
    assert all(attempt.seconds > 0 for attempt in attempts)
    assert attempts[-1].upstream_id == provider.answer_id
    assert "planted failure" in attempts[0].detail


@OPENAI_FORMAT
async def test_a_model_that_waits_does_not_delay_another(
    start: Start, upstream: Any, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_BASE", upstream.url)
    others = {"openrouter": "openrouter_a/schema", "litellm": "litellm_openai/gpt-4o"}
    other = others[provider.service]
    mine = provider.model.removeprefix(f"{provider.service}_").removeprefix("openai/")
    upstream.default = lambda call: Fault(429) if call.body["model"].endswith(mine) else Reply()
    async with start(max_concurrency=1) as llm:
        waiting = asyncio.create_task(fail(llm, False, provider.model, timeout=20))
        await eventually(lambda: upstream.history)
        assert await call(llm, False, other) == "ok"
        assert not waiting.done()
        waiting.cancel()
        await asyncio.wait([waiting])


@STREAMED
async def test_a_full_queue(
    start: Start, upstream: Any, provider: Provider, streamed: bool
) -> None:
    gate = asyncio.Event()
    upstream.default = Reply(hold=gate)
    async with start({"max_concurrency": 1}, max_queue=2) as llm:
        calls = [asyncio.create_task(call(llm, streamed, provider.model)) for _ in range(6)]
        done: set[asyncio.Task[str]] = set()
        waiting = set(calls)
        while len(done) < 3:
            more, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            done |= more
        for task in done:
            error = task.exception()
            assert isinstance(error, ArenaError)
            assert (error.code, error.reason) == ("RESOURCE_EXHAUSTED", "OVERLOADED")
            assert error.retry_after is not None
        gate.set()
        assert set(await asyncio.gather(*waiting)) == {"ok"}
    assert upstream.most_running == 1
