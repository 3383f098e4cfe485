"""Each row of the table of errors, unary and streamed, over three wire formats."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from arena_llm import ArenaError
from services.litellm.errors import TYPES
from tests.support.scripted import eventually, reaching
from tests.support.upstreams.cases import STALLS
from tests.support.upstreams.server import Fault, Reply
from tests.unit.litellm.conftest import PROVIDERS, Provider, Start, call, failed

LATER = {"Retry-After": "7"}
DOWN = ("UNAVAILABLE", "UPSTREAM_UNAVAILABLE")
PAGE: dict[str, Any] = {"body": b"<html>Welcome", "content_type": "text/html"}

#: What every provider may do, and the code and reason that come of it.
ROWS: dict[str, tuple[Fault, str, str]] = {
    "400": (Fault(400), "INVALID_ARGUMENT", "INVALID_REQUEST"),
    "401": (Fault(401), "FAILED_PRECONDITION", "API_KEY_REJECTED"),
    "402": (Fault(402), "FAILED_PRECONDITION", "INSUFFICIENT_CREDITS"),
    "402 later": (Fault(402, headers=LATER), "RESOURCE_EXHAUSTED", "INSUFFICIENT_CREDITS"),
    "403": (Fault(403), "PERMISSION_DENIED", "REFUSED_BY_PROVIDER"),
    "404": (Fault(404), "NOT_FOUND", "MODEL_NOT_FOUND"),
    "408": (Fault(408), *DOWN),
    "409": (Fault(409), *DOWN),
    "413": (Fault(413), "INVALID_ARGUMENT", "INVALID_REQUEST"),
    "422": (Fault(422), "INVALID_ARGUMENT", "INVALID_REQUEST"),
    "429": (Fault(429), "RESOURCE_EXHAUSTED", "RATE_LIMITED"),
    "429 later": (Fault(429, headers=LATER), "RESOURCE_EXHAUSTED", "RATE_LIMITED"),
    "500": (Fault(500), *DOWN),
    "502": (Fault(502), *DOWN),
    "503 later": (Fault(503, headers=LATER), *DOWN),
    "504": (Fault(504), *DOWN),
    "529": (Fault(529), *DOWN),
    "502 page": (Fault(502, **PAGE), *DOWN),
    "page": (Fault(200, **PAGE), *DOWN),
    "truncated": (Fault(truncate=True), *DOWN),
    "cut": (Fault(truncate=True, reset=True), *DOWN),
    "nothing": (Fault(body=b""), *DOWN),
    "reset": (Fault(reset=True), *DOWN),
}

#: What OpenAI's format says in its own words.
WORDS: dict[str, tuple[Fault, str, str]] = {
    "context": (
        Fault(400, "maximum context length", error={"code": "context_length_exceeded"}),
        "INVALID_ARGUMENT",
        "CONTEXT_TOO_LONG",
    ),
    "context, in words alone": (
        Fault(400, "This model's maximum context length is 8 tokens"),
        "INVALID_ARGUMENT",
        "CONTEXT_TOO_LONG",
    ),
    "moderation": (
        Fault(400, "rejected", error={"code": "content_policy_violation"}),
        "PERMISSION_DENIED",
        "REFUSED_BY_PROVIDER",
    ),
    "quota": (
        Fault(429, "You exceeded your quota", error={"code": "insufficient_quota"}),
        "FAILED_PRECONDITION",
        "INSUFFICIENT_CREDITS",
    ),
    "no choices": (Fault(empty=True), *DOWN),
}

#: What may go wrong after a stream has begun.
LATE: dict[str, Fault] = {
    "error event": Fault(500, after="ab"),
    "reset": Fault(reset=True, after="ab"),
    "ends early": Fault(truncate=True, after="ab"),
}


async def check(
    start: Start, upstream: Any, model: str, row: tuple[Fault, str, str], streamed: bool
) -> None:
    fault, code, reason = row
    upstream.default = fault
    async with start(max_attempts=2, max_retry_after_seconds=1) as llm:
        error = await failed(llm, streamed, model=model)
    assert (error.code, error.reason) == (code, reason), error
    transient = code in ("UNAVAILABLE", "RESOURCE_EXHAUSTED")
    again = transient and "Retry-After" not in fault.headers  # 7 s are over the bound
    assert error.metadata["attempts"] == str(len(upstream.history)) == ("2" if again else "1")
    assert (error.retry_after is not None) == transient
    if fault.headers:
        assert error.retry_after == 7
    upstream.default = Reply()
    async with start() as llm:
        assert await call(llm, streamed, model=model) == "ok"


@pytest.mark.parametrize("streamed", [False, True], ids=["unary", "streamed"])
@pytest.mark.parametrize("provider", PROVIDERS, indirect=True)
@pytest.mark.parametrize("row", ROWS)
async def test_the_table(
    start: Start, upstream: Any, provider: Provider, row: str, streamed: bool
) -> None:
    await check(start, upstream, provider.model, ROWS[row], streamed)


@pytest.mark.parametrize("streamed", [False, True], ids=["unary", "streamed"])
@pytest.mark.parametrize("row", WORDS)
async def test_the_words_of_openai(
    start: Start, upstream: Any, provider: Provider, row: str, streamed: bool
) -> None:
    await check(start, upstream, provider.model, WORDS[row], streamed)


@pytest.mark.parametrize("row", LATE)
@pytest.mark.parametrize("provider", PROVIDERS, indirect=True)
async def test_after_the_first_delta_nothing_is_tried_again(
    start: Start, upstream: Any, provider: Provider, row: str
) -> None:
    upstream.enqueue(LATE[row])
    async with start() as llm:
        stream = llm.stream(provider.model, "hi")
        with pytest.raises(Exception, match="UPSTREAM_UNAVAILABLE") as caught:
            async for _ in stream:
                pass
    assert caught.value.code == "UNAVAILABLE"  # type: ignore[attr-defined]
    assert len(upstream.history) == 1


async def test_an_error_of_many_wrappings(start: Start, upstream: Any) -> None:
    said = "This model's maximum context length is 8 tokens"
    upstream.enqueue(Fault(400, said))
    async with start() as llm:
        assert (await failed(llm)).message == f"openai: {said}"


@pytest.mark.parametrize("provider", PROVIDERS, indirect=True)
async def test_what_the_provider_says_is_told_without_its_wrapping(
    start: Start, upstream: Any, provider: Provider
) -> None:
    async with start(max_attempts=1) as llm:
        for status in (400, 401, 404, 500, 503, 529):
            for streamed in (False, True):
                upstream.enqueue(Fault(status, "no such luck"))
                error = await failed(llm, streamed, model=provider.model)
                assert error.message.endswith("no such luck"), error.message
                assert "litellm" not in error.message


@pytest.mark.parametrize("streamed", [False, True], ids=["unary", "streamed"])
@pytest.mark.parametrize("fault", ["429", "500", "reset"])
@pytest.mark.parametrize("name", ["baseten", "ai21_chat", "openai"])
async def test_one_attempt_is_one_request(
    start: Start, upstream: Any, name: str, fault: str, streamed: bool
) -> None:
    """OpenAI's SDK would try again by itself where litellm keeps our max_retries from it."""
    upstream.default = Fault(reset=True) if fault == "reset" else Fault(int(fault))
    entry = {"name": f"litellm_{name}/some-model", "key_variable": "OPENAI_API_KEY"}
    async with start(entry, max_attempts=1) as llm:
        error = await failed(llm, streamed, model=entry["name"])
    assert error.code in ("RESOURCE_EXHAUSTED", "UNAVAILABLE")
    assert len(upstream.history) == 1


async def test_a_provider_that_is_not_there(start: Start) -> None:
    async with start({"api_base": "http://127.0.0.1:1"}, max_attempts=2) as llm:
        error = await failed(llm)
    assert (error.code, error.reason) == DOWN
    assert error.metadata["attempts"] == "2"


@pytest.mark.parametrize("provider", PROVIDERS, indirect=True)
@pytest.mark.parametrize("case", STALLS)
async def test_a_provider_that_stalls(
    start: Start, upstream: Any, provider: Provider, case: str
) -> None:
    streamed, upstream.default = STALLS[case]

    async def attempt(seconds: float) -> ArenaError:
        async with start({"timeout_seconds": seconds}, max_attempts=1) as llm:
            error = await failed(llm, streamed, model=provider.model)
            await eventually(lambda: all(one.dropped.is_set() for one in upstream.history))
            return error

    error = await reaching(lambda: upstream.history, attempt)
    assert (error.code, error.reason) == DOWN
    assert "did not answer in time" in error.message


@pytest.mark.parametrize("streamed", [False, True], ids=["unary", "streamed"])
async def test_a_model_that_answers_429_rests(start: Start, upstream: Any, streamed: bool) -> None:
    upstream.enqueue(Fault(429, headers={"Retry-After": "30"}))
    async with start() as llm:
        await failed(llm, streamed, timeout=20)
        error = await failed(llm, streamed, timeout=20)
        assert (error.reason, len(upstream.history)) == ("RATE_LIMITED", 1)
        assert 0 < (error.retry_after or 0) <= 30
        other = {"model": "litellm_openai/gpt-4o"}
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("OPENAI_API_BASE", upstream.url)
            assert await call(llm, streamed, **other) == "ok"


@pytest.mark.parametrize("streamed", [False, True], ids=["unary", "streamed"])
async def test_a_full_queue(start: Start, upstream: Any, streamed: bool) -> None:
    upstream.default = Reply(hold=asyncio.Event())
    async with start({"max_concurrency": 1}, max_queue=1) as llm:
        calls = [asyncio.create_task(call(llm, streamed)) for _ in range(3)]
        done, others = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        (error,) = (task.exception() for task in done)
        for task in others:
            task.cancel()
        await asyncio.wait(others)
    assert isinstance(error, ArenaError)
    assert (error.code, error.reason) == ("RESOURCE_EXHAUSTED", "OVERLOADED")
    assert error.retry_after is not None


async def test_a_transient_fault_is_tried_again(start: Start, upstream: Any) -> None:
    async with start() as llm:
        for streamed in (False, True):
            upstream.enqueue(Fault(429), Fault(500), Fault(reset=True))
            assert await call(llm, streamed) == "ok"
        upstream.enqueue(Fault(503))
        assert (await llm.generate("litellm_openai/gpt-4o-mini", "hi")).attempts == 2
    assert len(upstream.history) == 10


@pytest.mark.parametrize("streamed", [False, True], ids=["unary", "streamed"])
async def test_the_callers_deadline_ends_the_call(
    start: Start, upstream: Any, streamed: bool
) -> None:
    upstream.default = Fault(hang=True)
    async with start() as llm:
        error = await reaching(
            lambda: upstream.history, lambda seconds: failed(llm, streamed, timeout=seconds)
        )
        assert error.code == "DEADLINE_EXCEEDED"
        await eventually(lambda: all(one.dropped.is_set() for one in upstream.history))


def test_every_class_of_the_table_is_one_of_litellms() -> None:
    from services.litellm.quiet import import_litellm

    import_litellm()
    import litellm

    classes = {name for name in TYPES if name[0].isupper()}
    assert not [name for name in classes if not hasattr(litellm.exceptions, name)]
