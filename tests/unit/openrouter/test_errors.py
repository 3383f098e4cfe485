"""Each row of the table of errors, unary and streamed, and what the errors say."""

from __future__ import annotations

from typing import Any

import pytest

from arena_llm import ArenaError, AsyncClient
from tests.support.upstreams.openrouter import OpenRouterUpstream
from tests.support.upstreams.server import Fault, Reply
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
