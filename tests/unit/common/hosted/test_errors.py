"""Errors by HTTP status, Retry-After, and redaction."""

from __future__ import annotations

import pytest

from services.common import errors
from services.common.hosted.errors import OPENAI_CODES, is_transient, make_error
from services.common.hosted.keys import MAX_LENGTH, Redactor
from services.common.trailers import build_status

TABLE = [
    (400, "", errors.InvalidRequest),
    (400, "context_length_exceeded", errors.ContextTooLong),
    (429, "insufficient_quota", errors.InsufficientCredits),
    (405, "", errors.InvalidRequest),
    (410, "", errors.ModelNotFound),
    (431, "", errors.InvalidRequest),
    (451, "", errors.RefusedByProvider),
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
    error = make_error(status, "message", kind=OPENAI_CODES.get(kind))
    assert type(error) is expected
    assert (error.message, error.retry_after) == ("message", None)


def test_a_402_with_retry_after_is_transient() -> None:
    error = make_error(402, "message", retry_after=3)
    assert (type(error), error.retry_after) == (errors.CreditsHeld, 3)


def test_a_final_error_has_no_retry_after() -> None:
    assert make_error(400, "message", retry_after=3).retry_after is None


@pytest.mark.parametrize("seconds", [1e20, 1e300, 4e9])
def test_any_retry_after_fits_into_the_status(seconds: float) -> None:
    error = errors.RateLimited("message", retry_after=seconds)
    assert build_status(error).code == 8


def test_an_unreadable_answer_is_not_transient() -> None:
    assert is_transient(errors.UpstreamUnavailable("x"))
    assert not is_transient(errors.UnreadableAnswer("x"))


@pytest.mark.parametrize(
    ("text", "redacted"),
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
def test_redaction(text: str, redacted: str) -> None:
    redact = Redactor(["abc-123", "abc-123-secret", "", None])
    assert redact(text) == redacted


def test_a_key_at_the_cut_is_hidden() -> None:
    assert "secret" not in Redactor(["secret-key"])("x" * (MAX_LENGTH - 8) + " secret-key")


def test_a_text_without_keys_is_unchanged() -> None:
    assert Redactor([None, ""])("all well") == "all well"
