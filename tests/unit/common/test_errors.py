"""Every error as the caller gets it, from unary and streaming calls."""

from __future__ import annotations

import pytest

from arena_llm.types import Delta
from services.common import errors
from tests.support.scripted import scripted
from tests.support.wire import details, failure, request, stub

# class, code, reason
ROWS = [
    (errors.UnknownPrefix, "NOT_FOUND", "UNKNOWN_PREFIX"),
    (errors.ModelNotFound, "NOT_FOUND", "MODEL_NOT_FOUND"),
    (errors.InvalidRequest, "INVALID_ARGUMENT", "INVALID_REQUEST"),
    (errors.ContextTooLong, "INVALID_ARGUMENT", "CONTEXT_TOO_LONG"),
    (errors.Unsupported, "UNIMPLEMENTED", "UNSUPPORTED"),
    (errors.ApiKeyMissing, "FAILED_PRECONDITION", "API_KEY_MISSING"),
    (errors.ApiKeyRejected, "FAILED_PRECONDITION", "API_KEY_REJECTED"),
    (errors.InsufficientCredits, "FAILED_PRECONDITION", "INSUFFICIENT_CREDITS"),
    (errors.BudgetInFlight, "RESOURCE_EXHAUSTED", "INSUFFICIENT_CREDITS"),
    (errors.ModelMisconfigured, "FAILED_PRECONDITION", "MODEL_MISCONFIGURED"),
    (errors.RefusedByProvider, "PERMISSION_DENIED", "REFUSED_BY_PROVIDER"),
    (errors.RateLimited, "RESOURCE_EXHAUSTED", "RATE_LIMITED"),
    (errors.Overloaded, "RESOURCE_EXHAUSTED", "OVERLOADED"),
    (errors.UpstreamUnavailable, "UNAVAILABLE", "UPSTREAM_UNAVAILABLE"),
    (errors.BackendDown, "UNAVAILABLE", "BACKEND_DOWN"),
    (errors.DeadlineExceeded, "DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED"),
]


def test_the_table_has_every_error() -> None:
    defined = set(errors.BackendError.__subclasses__())
    assert {row[0] for row in ROWS} == defined - {errors.Internal}


@pytest.mark.parametrize("rpc", ["Generate", "StreamGenerate"])
@pytest.mark.parametrize(("error", "code", "reason"), ROWS)
async def test_error_on_the_wire(
    rpc: str, error: type[errors.BackendError], code: str, reason: str
) -> None:
    raised = error("wait, then retry", field="prompt", retry_after=1.5, metadata={"key": "value"})
    async with scripted() as (backend, server), stub(server.address) as llm:
        backend.enqueue(raised)
        got = await failure(getattr(llm, rpc)(request()))
    assert got.code().name == code
    assert got.details() == "wait, then retry"
    sent = details(got)
    assert sent["ErrorInfo"].reason == reason
    assert sent["ErrorInfo"].domain == "arena_llm"
    assert dict(sent["ErrorInfo"].metadata) == {"key": "value"}
    assert sent["BadRequest"].field_violations[0].field == "prompt"
    assert sent["RetryInfo"].retry_delay.ToTimedelta().total_seconds() == 1.5
    assert dict(tuple(got.trailing_metadata()))["grpc-retry-pushback-ms"] == "-1"


async def test_details_without_a_value_are_absent() -> None:
    async with scripted() as (backend, server), stub(server.address) as llm:
        backend.enqueue(errors.Overloaded("full"))
        assert set(details(await failure(llm.Generate(request())))) == {"ErrorInfo"}


async def test_an_error_in_the_middle_of_a_stream() -> None:
    async with scripted() as (backend, server), stub(server.address) as llm:
        backend.enqueue([Delta(text="half"), errors.RateLimited("slow down", retry_after=2)])
        call = llm.StreamGenerate(request())
        assert (await anext(aiter(call))).text_delta == "half"
        got = await failure(call)
    assert got.code().name == "RESOURCE_EXHAUSTED"
    assert details(got)["RetryInfo"].retry_delay.seconds == 2
