"""Statuses as errors: class, attributes, and pickling."""

from __future__ import annotations

import pickle

import grpc
import pytest

import arena_llm
from arena_llm import errors
from arena_llm.types import Attempt, FinishReason, Usage
from arena_llm.v1 import call_report_pb2, generate_pb2, reply_pb2
from tests.unit.client.scripted import (
    HOLD,
    MODEL,
    Fail,
    Script,
    collect,
    settle,
    text_event,
    text_reply,
)

CODES = grpc.StatusCode

# code, reason, class: the rows of the contract's error table.
TABLE = [
    (CODES.NOT_FOUND, "UNKNOWN_PREFIX", errors.NotFoundError),
    (CODES.NOT_FOUND, "MODEL_NOT_FOUND", errors.NotFoundError),
    (CODES.INVALID_ARGUMENT, "INVALID_REQUEST", errors.InvalidArgumentError),
    (CODES.INVALID_ARGUMENT, "CONTEXT_TOO_LONG", errors.InvalidArgumentError),
    (CODES.UNIMPLEMENTED, "UNSUPPORTED", errors.UnsupportedError),
    (CODES.FAILED_PRECONDITION, "API_KEY_MISSING", errors.FailedPreconditionError),
    (CODES.FAILED_PRECONDITION, "API_KEY_REJECTED", errors.FailedPreconditionError),
    (CODES.FAILED_PRECONDITION, "INSUFFICIENT_CREDITS", errors.FailedPreconditionError),
    (CODES.FAILED_PRECONDITION, "STATE_MISMATCH", errors.FailedPreconditionError),
    (CODES.ABORTED, "CONSTRAINT_NOT_MET", errors.AbortedError),
    (CODES.ALREADY_EXISTS, "REQUEST_ID_REUSED", errors.AlreadyExistsError),
    (CODES.PERMISSION_DENIED, "REFUSED_BY_PROVIDER", errors.PermissionDeniedError),
    (CODES.RESOURCE_EXHAUSTED, "RATE_LIMITED", errors.ResourceExhaustedError),
    (CODES.RESOURCE_EXHAUSTED, "OVERLOADED", errors.ResourceExhaustedError),
    (CODES.UNAVAILABLE, "UPSTREAM_UNAVAILABLE", errors.UnavailableError),
    (CODES.UNAVAILABLE, "BACKEND_DOWN", errors.UnavailableError),
    (CODES.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", errors.DeadlineExceededError),
    (CODES.CANCELLED, "CANCELLED", errors.CallCancelledError),
    (CODES.INTERNAL, "INTERNAL", errors.InternalError),
    (CODES.UNAUTHENTICATED, "TOKEN_MISSING", errors.UnauthenticatedError),
    (CODES.DATA_LOSS, "", errors.UnknownError),
]
EVERYTHING = {
    "field": "config.top_p",
    "retry_seconds": 2.5,
    "metadata": {"variable": "X_KEY", "backend": "hf"},
}


@pytest.mark.parametrize(("code", "reason", "cls"), TABLE)
async def test_each_row_of_the_table(either, script: Script, code, reason, cls) -> None:
    script.enqueue(Fail(code, "what happened", reason))
    with pytest.raises(errors.ArenaError) as caught:
        await settle(either.generate(MODEL, "hi"))
    error = caught.value
    assert type(error) is cls
    assert not isinstance(error, grpc.RpcError)
    assert (error.code, error.reason, error.model) == (code.name, reason, MODEL)
    assert error.message == "what happened"
    assert error.retry_after is None
    # The client does not retry an error of a server.
    assert len(script.history) == 1


async def test_details_become_attributes(either, script: Script) -> None:
    script.enqueue(Fail(CODES.RESOURCE_EXHAUSTED, "slow down", "RATE_LIMITED", **EVERYTHING))
    with pytest.raises(errors.ResourceExhaustedError) as caught:
        await settle(either.generate(MODEL, "hi"))
    assert caught.value.retry_after == 2.5
    assert caught.value.field == "config.top_p"
    assert caught.value.metadata == {"variable": "X_KEY", "backend": "hf"}
    assert str(caught.value) == (
        f"RATE_LIMITED: slow down (field config.top_p; model {MODEL}; retry after 2.5 s)"
    )


async def test_every_method_raises_errors(either, script: Script) -> None:
    calls = [
        lambda: either.generate(MODEL, "hi"),
        lambda: either.score(MODEL, "hi", ["a"]),
        lambda: either.count_tokens(MODEL, "hi"),
        lambda: either.is_available(MODEL),
        lambda: either.service_info(),
        lambda: either.list_models(),
    ]
    for call in calls:
        script.enqueue(Fail(CODES.NOT_FOUND, "no", "MODEL_NOT_FOUND"))
        with pytest.raises(errors.NotFoundError):
            await settle(call())


async def test_an_error_in_the_middle_of_a_stream(either, script: Script) -> None:
    script.enqueue_stream(text_event("a"), Fail(CODES.UNAVAILABLE, "gone", "UPSTREAM_UNAVAILABLE"))
    stream = either.stream(MODEL, "hi")
    with pytest.raises(errors.UnavailableError) as caught:
        await collect(stream)
    assert caught.value.reason == "UPSTREAM_UNAVAILABLE"
    assert caught.value.partial is None
    assert await collect(stream) == []
    assert len(script.history) == 1


async def test_what_an_interrupted_stream_has_made_and_paid(either, script: Script) -> None:
    usage = reply_pb2.Usage(completion_tokens=5, cost_picousd=7)
    half = text_reply("half", usage=usage)
    half.finish_reason = reply_pb2.FINISH_REASON_INTERRUPTED
    report = call_report_pb2.CallReport(
        usage=usage, attempts=[reply_pb2.Attempt(provider="a", http_status=500)]
    )
    script.enqueue_stream(
        text_event("half"),
        generate_pb2.StreamGenerateResponse(interruption=half),
        Fail(CODES.UNAVAILABLE, "gone", "INTERRUPTED", more=(report,)),
    )
    with pytest.raises(errors.UnavailableError) as caught:
        await collect(either.stream(MODEL, "hi"))
    error = caught.value
    assert error.partial.text == "half"
    assert error.partial.finish_reason is FinishReason.INTERRUPTED
    assert error.partial.usage == error.report.usage == Usage(completion_tokens=5, cost_picousd=7)
    assert error.report.attempts == (Attempt(provider="a", http_status=500),)
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert (copy.partial, copy.report) == (error.partial, error.report)


async def test_details_that_cannot_be_read(either, script: Script) -> None:
    script.enqueue(Fail(CODES.NOT_FOUND, "no such model", garbage=b"\xff\xff"))
    with pytest.raises(errors.NotFoundError, match="no such model"):
        await settle(either.generate(MODEL, "hi"))


async def test_the_error_of_a_deadline_names_its_target(
    either, script: Script, target: str
) -> None:
    script.enqueue(HOLD)
    with pytest.raises(errors.DeadlineExceededError, match=f"{target} within 0.3 s"):
        await settle(either.generate(MODEL, "hi", timeout=0.3))


async def test_a_reply_that_is_too_large(either, script: Script) -> None:
    script.respond = lambda request: text_reply("x" * 65 * 2**20)
    with pytest.raises(errors.ResourceExhaustedError, match="larger than max"):
        await settle(either.generate(MODEL, "hi"))
    script.respond = lambda request: text_reply("x" * 5 * 2**20)
    assert len((await settle(either.generate(MODEL, "hi"))).text) == 5 * 2**20


@pytest.mark.parametrize("cls", errors.BY_CODE.values())
def test_pickle_round_trip(cls: type[errors.ArenaError]) -> None:
    error = cls("why", reason="R", retry_after=1.5, model="m", field="f", metadata={"k": "v"})
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert type(copy) is cls
    assert vars(copy) == vars(error)
    assert str(copy) == str(error)


def test_the_tree_in_the_docstring_is_complete() -> None:
    drawn = {
        (line.split()[1], line.split()[2])
        for line in (errors.__doc__ or "").splitlines()
        if line.startswith(("├", "└"))
    }
    assert drawn == {(cls.__name__, code) for code, cls in errors.BY_CODE.items()}
    defined = {
        cls
        for cls in vars(errors).values()
        if isinstance(cls, type) and issubclass(cls, errors.ArenaError)
    }
    assert defined == {errors.ArenaError, *errors.BY_CODE.values()}
    assert not any(issubclass(cls, grpc.RpcError) for cls in defined)
    assert all(cls.__name__ in arena_llm.__all__ for cls in defined)
