"""Errors of any shape: the words reach the caller, bounded and without the key."""

from __future__ import annotations

import json
import random
from typing import Any

from services.common.errors import BackendError, InsufficientCredits, RateLimited
from services.common.hosted.errors import convert_failure
from services.common.hosted.failures import Failure, find_reported, read_error_body, read_failure
from services.common.hosted.keys import MAX_LENGTH, Redactor

WORDS, KEY = "no such luck", "k3y-7f0e9d-secret"
REDACT = Redactor([KEY])

#: Fields that hold an error or its words, and fields beside them.
HOLDERS = ("error", "errors", "message", "detail", "Message", "error_msg")
OTHERS = ("code", "status", "type", "param", "metadata", "details", "success")
RARE: tuple[Any, ...] = (None, True, 0, -1, 10**30, 429, 1.5, float("nan"), "", "x", KEY, [], {})


def make_noise(chance: random.Random, depth: int = 3) -> Any:
    """A value as it may stand beside the words."""
    match chance.randrange(4) if depth else 0:
        case 1:
            return [make_noise(chance, depth - 1) for _ in range(chance.randrange(3))]
        case 2:
            return make_fields(chance, depth - 1)
        case _:
            return chance.choice(RARE)


def make_fields(chance: random.Random, depth: int = 2) -> dict[str, Any]:
    names = chance.sample(OTHERS, chance.randrange(3))
    return {name: make_noise(chance, depth) for name in names}


def wrap(chance: random.Random, inner: Any) -> Any:
    """Put a value that holds the words into a larger one, in the ways of providers."""
    match chance.randrange(5):
        case 0:
            return [inner]
        case 1:
            return json.dumps(inner)
        case 2:
            return {"error": {"message": "failed", "metadata": {"raw": inner}}}
        case _:
            return {**make_fields(chance), chance.choice(HOLDERS): inner}


def convert(failure: Failure, status: int) -> BackendError:
    return convert_failure(failure, status, "provider", REDACT)


def test_the_words_arrive_from_any_shape() -> None:
    for seed in range(3000):
        chance = random.Random(seed)  # noqa: S311 - not for security
        value: Any = f"{WORDS} {KEY}"
        for _ in range(chance.randrange(1, 5)):
            value = wrap(chance, value)
        status = chance.choice([400, 402, 429, 500])
        error = convert(read_error_body(json.dumps(value).encode(), status, "No"), status)
        assert WORDS in error.message, (seed, value)
        assert KEY not in error.message, (seed, value)
        assert error.reason != "INTERNAL"


def test_any_body_makes_a_typed_error() -> None:
    for seed in range(1000):
        chance = random.Random(seed)  # noqa: S311 - not for security
        body = json.dumps(make_noise(chance)).encode()
        if seed % 3:
            body = body[: chance.randrange(1 + len(body))] + chance.randbytes(seed % 20)
        error = convert(read_error_body(body, 500, "No"), 500)
        assert error.message
        assert len(error.message) <= MAX_LENGTH
        assert KEY not in error.message
        assert error.reason != "INTERNAL"


def test_what_is_no_error_is_not_taken_for_one() -> None:
    choices = [{"index": 0, "message": {"role": "assistant", "content": "ok"}}]
    for seed in range(500):
        fields = make_fields(random.Random(seed))  # noqa: S311 - not for security
        assert find_reported({**fields, "id": "1", "choices": choices, "error": None}) is None
    assert find_reported({"id": "1", "choices": [], "usage": {}, "model": "m"}) is None
    assert find_reported({"message": {"role": "assistant", "content": "ok"}, "done": True}) is None


def test_a_quota_is_no_limit_that_a_wait_lifts() -> None:
    body = {"error": {"message": "no", "type": "insufficient_quota", "code": None}}
    failure = read_failure(body)
    assert failure is not None
    error = convert_failure(failure, 429, "provider", REDACT, retry_after=5)
    assert (type(error), error.retry_after) == (InsufficientCredits, None)


def test_an_error_with_http_200_has_its_wait() -> None:
    details = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "7s"}]
    body = [{"error": {"code": 429, "message": "slow down", "details": details}}]
    failure = read_failure(body)
    assert failure is not None
    error = convert(failure, 200)
    assert (type(error), error.retry_after) == (RateLimited, 7)
