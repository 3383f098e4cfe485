"""Every error as the caller gets it, from unary and streaming calls, with any text."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import grpc
import pytest

from arena_llm import AsyncClient
from arena_llm.errors import ResourceExhaustedError, UnavailableError
from arena_llm.types import Attempt, CallReport, CostBasis, Delta, FinishReason, ServedBy, Usage
from arena_llm.v1 import call_report_pb2
from services.common import errors
from services.common.errors import RateLimited, UpstreamUnavailable
from services.common.trailers import MAX_DETAILS_BYTES, MAX_MESSAGE_BYTES, build_status, cut_message
from tests.support.scripted import scripted
from tests.support.wire import details, failure, reason, request, stub


def list_classes(kind: type[errors.BackendError]) -> list[type[errors.BackendError]]:
    return [kind, *(inner for sub in kind.__subclasses__() for inner in list_classes(sub))]


@pytest.mark.parametrize("rpc", ["Generate", "StreamGenerate"])
@pytest.mark.parametrize("kind", list_classes(errors.BackendError))
async def test_error_on_the_wire(rpc: str, kind: type[errors.BackendError]) -> None:
    raised = kind("wait, then retry", field="prompt", retry_after=1.5, metadata={"key": "value"})
    async with scripted() as (backend, server), stub(server.address) as llm:
        backend.enqueue(raised)
        got = await failure(getattr(llm, rpc)(request()))
    assert got.code() is kind.code
    assert got.details() == "wait, then retry"
    sent: Any = details(got)
    assert sent["ErrorInfo"].reason == kind.reason
    assert sent["ErrorInfo"].domain == "arena_llm"
    assert dict(sent["ErrorInfo"].metadata) == {"key": "value"}
    assert sent["BadRequest"].field_violations[0].field == "prompt"
    assert sent["RetryInfo"].retry_delay.ToTimedelta().total_seconds() == 1.5
    assert dict(tuple(got.trailing_metadata()))["grpc-retry-pushback-ms"] == "-1"


async def test_details_without_a_value_are_absent() -> None:
    async with scripted() as (backend, server), stub(server.address) as llm:
        backend.enqueue(errors.Overloaded("full"))
        assert set(details(await failure(llm.Generate(request())))) == {"ErrorInfo"}


PAID = Usage(prompt_tokens=9, completion_tokens=2, cost_picousd=7, cost_basis=CostBasis.BILLED)
REPORT = CallReport(
    attempts=(Attempt("a", "gen-1", 500, "UPSTREAM_UNAVAILABLE", 0.5, 7, "it broke"),),
    usage=PAID,
    served_by=ServedBy("hf", "hf_model", "a"),
)


async def test_an_error_in_the_middle_of_a_stream_says_what_was_made_and_paid() -> None:
    async with scripted() as (backend, server), AsyncClient(server.address) as llm:
        failed = UpstreamUnavailable("gone", report=REPORT)
        backend.enqueue([Delta(reasoning="hm"), Delta(text="ha"), Delta(text="lf"), failed])
        texts: list[str] = []

        async def read() -> None:
            async for text in llm.stream("hf_model", "hello"):
                texts.append(text)

        with pytest.raises(UnavailableError) as caught:
            await read()
    error = caught.value
    assert texts == ["ha", "lf"]
    assert error.report == REPORT
    assert error.partial is not None
    assert (error.partial.text, error.partial.reasoning) == ("half", "hm")
    assert error.partial.finish_reason is FinishReason.INTERRUPTED
    assert (error.partial.usage, error.partial.attempts) == (PAID, REPORT.attempts)
    assert error.partial.usage.cost_usd == Decimal("7e-12")
    assert error.partial.request_id


async def test_a_stream_that_fails_before_its_first_delta_has_no_interruption() -> None:
    async with scripted() as (backend, server), stub(server.address) as llm:
        backend.enqueue([RateLimited("slow down", retry_after=2)])
        call = llm.StreamGenerate(request())
        assert (await anext(aiter(call))).WhichOneof("event") == "start"
        got = await failure(call)
    assert details(got)["RetryInfo"].retry_delay.seconds == 2  # type: ignore[attr-defined]


#: Texts that take much more on the wire than in Python, or that HTTP/2 cannot carry unchanged.
HOSTILE = {
    "ascii": "x" * 5_000,
    "emoji": "\U0001f600" * 5_000,
    "a few emoji": "\U0001f600" * 600,
    "control characters": "\x00\x1b\r\n\x7f" * 1_000,
    "percent": "%" * 5_000,
    "surrogates": "\ud83d" * 5_000,
    "accents": "é" * 5_000,
    "mixed": "a\U0001f600\n" * 2_000,
}


def percent_encoded(text: str) -> int:
    """The bytes of a status message, as gRPC encodes it."""
    plain = sum(" " <= c <= "~" and c != "%" for c in text)
    return plain + 3 * len("".join(c for c in text if not (" " <= c <= "~") or c == "%").encode())


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_the_bytes_of_an_error_are_bounded(text: str) -> None:
    attempt = Attempt(text, text, 500, "RATE_LIMITED", 1.0, 1, text)
    served_by = ServedBy(*[text] * 10)
    error = RateLimited(
        text,
        field=text,
        retry_after=1e300,
        metadata={text[:100]: text, **{f"{number}": text for number in range(500)}},
        report=CallReport(text, (attempt,) * 1_000, PAID, served_by),
    )
    assert percent_encoded(cut_message(error.message)) <= MAX_MESSAGE_BYTES
    status = build_status(error)
    assert status.ByteSize() <= MAX_DETAILS_BYTES
    # What programs need is still there.
    types = [packed.TypeName().rpartition(".")[2] for packed in status.details]
    assert types == ["ErrorInfo", "BadRequest", "RetryInfo", "CallReport"]


def test_many_small_entries_of_metadata_are_bounded() -> None:
    error = RateLimited("x", metadata={str(number): "" for number in range(5_000)})
    assert build_status(error).ByteSize() <= MAX_DETAILS_BYTES


def test_a_report_keeps_the_newest_attempts() -> None:
    attempts = tuple(Attempt(f"p{number}", detail="x" * 190) for number in range(100))
    status = build_status(RateLimited("x", report=CallReport("r", attempts, PAID)))
    report: Any = call_report_pb2.CallReport()
    assert status.details[-1].Unpack(report)
    names = [attempt.provider for attempt in report.attempts]
    assert names == [f"p{number}" for number in range(100 - len(names), 100)]
    assert len(names) >= 5
    assert report.usage.cost_picousd == 7


def test_a_message_that_fits_is_not_cut() -> None:
    for text in ("x" * MAX_MESSAGE_BYTES, "é" * 300, "short"):
        assert percent_encoded(text) <= MAX_MESSAGE_BYTES
        if percent_encoded(text) <= MAX_MESSAGE_BYTES - 9:
            assert cut_message(text) == text


@pytest.mark.parametrize("rpc", ["Generate", "StreamGenerate"])
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
async def test_a_long_error_keeps_its_code_and_reason(rpc: str, text: str) -> None:
    """gRPC replaces the status of trailers of 8 to 16 KiB at random."""
    report = CallReport(attempts=(Attempt(detail=text),) * 100)
    raised = RateLimited(text, metadata={"scope": text}, report=report)
    async with scripted() as (backend, server), stub(server.address) as llm:
        backend.enqueue(*[raised] * 4)
        for _ in range(4):
            got = await failure(getattr(llm, rpc)(request()))
            assert (got.code(), reason(got)) == (
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                "RATE_LIMITED",
            )


async def test_the_client_reads_a_long_error() -> None:
    async with scripted() as (backend, server), AsyncClient(server.address) as llm:
        backend.enqueue(RateLimited("wait " + "x" * 5_000, retry_after=3))
        with pytest.raises(ResourceExhaustedError) as caught:
            await llm.generate("hf_model", "hello")
    assert caught.value.reason == "RATE_LIMITED"
    assert caught.value.retry_after == 3
    assert caught.value.message.startswith("wait xxx")
