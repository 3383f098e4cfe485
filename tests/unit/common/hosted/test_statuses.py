"""HTTP statuses as errors, Retry-After, and what is taken out of messages."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from services.common import errors
from services.common.hosted.redaction import MAX_LENGTH, Redactor
from services.common.hosted.statuses import error_of, is_transient, parse_retry_after

TABLE = [
    (400, "", errors.InvalidRequest),
    (400, "context_length_exceeded", errors.ContextTooLong),
    (401, "", errors.ApiKeyRejected),
    (402, "", errors.InsufficientCredits),
    (403, "", errors.RefusedByProvider),
    (404, "", errors.ModelNotFound),
    (408, "", errors.UpstreamUnavailable),
    (409, "", errors.UpstreamUnavailable),
    (413, "", errors.InvalidRequest),
    (422, "", errors.InvalidRequest),
    (429, "", errors.RateLimited),
    (500, "", errors.UpstreamUnavailable),
    (503, "", errors.UpstreamUnavailable),
    (529, "", errors.UpstreamUnavailable),
    (302, "", errors.UpstreamUnavailable),
]


@pytest.mark.parametrize(("status", "kind", "expected"), TABLE)
def test_statuses(status: int, kind: str, expected: type[errors.BackendError]) -> None:
    error = error_of(status, "said", error_type=kind)
    assert type(error) is expected
    assert (error.message, error.retry_after) == ("said", None)


def test_a_402_that_passes() -> None:
    error = error_of(402, "said", retry_after=3)
    assert (type(error), error.retry_after) == (errors.BudgetInFlight, 3)


def test_no_wait_is_told_where_waiting_does_not_help() -> None:
    assert error_of(400, "said", retry_after=3).retry_after is None


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("", None),
        ("7", 7),
        ("0.25", 0.25),
        ("-3", 0),
        ("nan", None),
        ("inf", None),
        ("soon", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("Thu, 31 Dec 2099 23:59:59 GMT", 86400),
        ("Fri, 31 Dec 9999 23:59:59 -2359", 86400),
        ("Mon, 01 Jan 0001 00:00:00 +2359", 0),
        ("Thu, 99 Foo 2099 99:99:99 GMT", None),
        ("1e20", 86400),
        ("1" * 30, 86400),
        ("1" * 5000, None),
        ("-inf", None),
        ("7, 9", None),
    ],
)
def test_retry_after(value: str | None, seconds: float | None) -> None:
    assert parse_retry_after(value) == seconds


def test_retry_after_as_a_date() -> None:
    seconds = parse_retry_after(format_datetime(datetime.now(UTC) + timedelta(seconds=60)))
    assert seconds is not None
    assert 50 < seconds <= 60


@pytest.mark.parametrize("seconds", [1e20, 1e300, 4e9])
def test_any_wait_fits_into_the_status(seconds: float) -> None:
    error = errors.RateLimited("said", retry_after=seconds)
    assert errors.build_status(error).code == 8


def test_an_answer_that_was_paid_for_is_not_asked_for_again() -> None:
    assert is_transient(errors.UpstreamUnavailable("x"))
    assert not is_transient(errors.UnreadableAnswer("x"))


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("key abc-123-secret is wrong", "key [key] is wrong"),
        ("abc-123 and abc-123-secret", "[key] and [key]"),
        ("Incorrect key sk-proj-ab**********yz.", "Incorrect key [key]"),
        ("Authorization: Bearer eyJhbGciOi.x", "Authorization: [key]"),
        ("two\nlines\tand  more", "two lines and more"),
        ("a risk-free move, ask-me", "a risk-free move, ask-me"),
        ("x" * (MAX_LENGTH + 1), "x" * (MAX_LENGTH - 3) + "..."),
    ],
)
def test_redaction(said: str, kept: str) -> None:
    redact = Redactor(["abc-123", "abc-123-secret", "", None])
    assert redact(said) == kept


def test_a_key_is_found_across_the_cut() -> None:
    assert "secret" not in Redactor(["secret-key"])("x" * (MAX_LENGTH - 8) + " secret-key")


def test_without_a_key_nothing_is_replaced() -> None:
    assert Redactor([None, ""])("all well") == "all well"
