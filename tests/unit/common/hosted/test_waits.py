"""How long a provider asks callers to wait, in all forms in which providers say it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from services.common.hosted.waits import find_wait, parse_wait, read_wait


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
        ("17s", 17),
        ("0.5s", 0.5),
        ("6m0s", 360),
        ("1h2m3.5s", 3723.5),
        ("20ms", 0.02),
        ("1d", 86400),
        ("5 minutes", None),
        ("s", None),
        ("2015-10-21T07:28:00Z", 0),
        ("2099-12-31T23:59:59+00:00", 86400),
        ("1445412480", 0),
        ("1445412480000", 0),
        ("4102444799", 86400),
        ("4102444799000", 86400),
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
def test_a_value(value: str | None, seconds: float | None) -> None:
    assert parse_wait(value) == seconds


def test_a_date() -> None:
    seconds = parse_wait(format_datetime(datetime.now(UTC) + timedelta(seconds=60)))
    assert seconds is not None
    assert 50 < seconds <= 60


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "3"}, 3),
        ({"retry-after-ms": "250", "Retry-After": "1"}, 0.25),
        ({"retry-after-ms": "soon", "Retry-After": "1"}, 1),
        ({"X-RateLimit-Reset": "9"}, 9),
        ({"Retry-After": "2", "X-RateLimit-Reset": "9"}, 2),
        ({"x-ratelimit-reset-requests": "1s", "x-ratelimit-reset-tokens": "6m0s"}, 1),
        ({"X-RateLimit-Reset": "nan"}, None),
    ],
)
def test_headers(headers: dict[str, str], seconds: float | None) -> None:
    assert read_wait(headers) == seconds


def test_a_reset_in_milliseconds_since_1970() -> None:
    when = datetime.now(UTC) + timedelta(seconds=60)
    seconds = read_wait({"X-RateLimit-Reset": str(int(when.timestamp() * 1000))})
    assert seconds is not None
    assert 50 < seconds <= 60


RETRY_INFO = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "17s"}


@pytest.mark.parametrize(
    ("body", "seconds"),
    [
        (None, None),
        ("17s", None),
        ({}, None),
        ({"error": {"details": [{"a": 1}, RETRY_INFO]}}, 17),
        ([{"error": {"details": [RETRY_INFO]}}], 17),
        ({"error": {"metadata": {"headers": {"X-RateLimit-Reset": 9}}}}, 9),
        ({"retry_after": 2.5}, 2.5),
        ({"error": {"retry_after_ms": 250}}, 0.25),
        ({"retryDelay": {"seconds": 1}}, None),
        ({"retryDelay": "later", "retry_after": 4}, 4),
        ({"retry_after": -1}, 0),
        ({"retry_after": float("nan")}, None),
        ({"retry_after": True}, None),
    ],
)
def test_bodies(body: Any, seconds: float | None) -> None:
    assert find_wait(body) == seconds


def test_a_deep_body() -> None:
    body: Any = RETRY_INFO
    for _ in range(10_000):
        body = [body]
    assert find_wait(body) is None
