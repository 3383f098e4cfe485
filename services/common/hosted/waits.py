"""How long a provider asks callers to wait, from the headers and the bodies of its refusals."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from services.common.hosted.values import number

#: Seconds. A longer wait must be a provider's mistake, such as a wrong clock or unit.
LONGEST_WAIT = 86400.0
#: Numbers of seconds over this are times since 1970, and over the second one in milliseconds.
_EPOCH, _EPOCH_MS = 1e9, 1e12
#: "1m30.5s" as in OpenAI's x-ratelimit-reset-requests and Google's retryDelay.
_DURATION = re.compile(
    r"(?:(?P<d>\d+(?:\.\d+)?)d)?(?:(?P<h>\d+(?:\.\d+)?)h)?(?:(?P<m>\d+(?:\.\d+)?)m(?!s))?"
    r"(?:(?P<s>\d+(?:\.\d+)?)s)?(?:(?P<ms>\d+(?:\.\d+)?)ms)?"
)
_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
#: Headers with the time of the next reset, if there is no Retry-After. The first one counts.
_RESETS = (
    *("x-ratelimit-reset", "ratelimit-reset", "x-ratelimit-reset-requests"),
    "x-ratelimit-reset-tokens",
)
#: Fields of an error's body, and the factor to seconds.
_FIELDS = {
    "retryDelay": 1.0,
    "retry_after": 1.0,
    "retry_after_seconds": 1.0,
    "retry_after_ms": 1e-3,
}
_MAX_DEPTH = 4


def read_wait(headers: Mapping[str, str]) -> float | None:
    """Return the seconds to wait, 0 to 86400; None if the headers do not say.

    Reads retry-after-ms, Retry-After (RFC 9110, 10.2.3), and the headers of rate limits.
    """
    known = {name.lower(): value for name, value in headers.items()}
    if (milliseconds := number(known.get("retry-after-ms"))) is not None:
        return _bound(milliseconds / 1000)
    if (wait := parse_wait(known.get("retry-after"))) is not None:
        return wait
    for name in _RESETS:
        if (wait := parse_wait(known.get(name))) is not None:
            return wait
    return None


def find_wait(body: Any, depth: int = 0) -> float | None:
    """Return the seconds to wait that the JSON of an error names, at any depth.

    Examples: Google's error.details[].retryDelay, OpenRouter's error.metadata.headers.
    """
    if depth > _MAX_DEPTH:
        return None
    if isinstance(body, list):
        waits = (find_wait(item, depth + 1) for item in body[:100])
        return next((wait for wait in waits if wait is not None), None)
    if not isinstance(body, dict):
        return None
    for name, factor in _FIELDS.items():
        value = body.get(name)
        if (amount := number(value)) is not None:
            return _bound(amount * factor)
        if isinstance(value, str) and (wait := parse_wait(value)) is not None:
            return wait
    if isinstance(headers := body.get("headers"), dict):
        texts = {str(k): str(v) for k, v in headers.items() if isinstance(v, str | int | float)}
        if (wait := read_wait(texts)) is not None:
            return wait
    return find_wait([value for value in body.values() if isinstance(value, dict | list)], depth)


def parse_wait(value: str | None) -> float | None:
    """Parse seconds, a duration ("6m0s"), a date, or a time since 1970, into 0 to 86400 seconds.

    None if there is no value or it cannot be parsed.
    """
    if not value or not (value := value.strip()):
        return None
    try:
        seconds = float(value)
    except ValueError:
        return _parse_duration(value) if value[0].isdigit() else _parse_date(value)
    if seconds >= _EPOCH_MS:
        seconds = seconds / 1000 - datetime.now(UTC).timestamp() if seconds < 1e15 else seconds
    elif seconds >= _EPOCH:
        seconds -= datetime.now(UTC).timestamp()
    return _bound(seconds)


def _parse_duration(value: str) -> float | None:
    if match := _DURATION.fullmatch(value[:40]):
        return _bound(
            sum(
                float(amount) * _UNITS[unit] for unit, amount in match.groupdict().items() if amount
            )
        )
    return _parse_date(value)


def _parse_date(value: str) -> float | None:
    try:
        when = parsedate_to_datetime(value)
    # The parser raises any of these for a malformed date.
    except (ValueError, TypeError, OverflowError, IndexError):
        try:
            when = datetime.fromisoformat(value)
        except ValueError:
            return None
    try:
        when = when.replace(tzinfo=when.tzinfo or UTC)
        return _bound((when - datetime.now(UTC)).total_seconds())
    except OverflowError:
        return None


def _bound(seconds: float) -> float | None:
    return min(max(0.0, seconds), LONGEST_WAIT) if math.isfinite(seconds) else None
