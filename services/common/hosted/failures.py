"""What a provider reports as an error, in any of the shapes that are in use.

https://platform.openai.com/docs/guides/error-codes,
https://openrouter.ai/docs/api/reference/errors-and-debugging,
https://docs.anthropic.com/en/api/errors, https://ai.google.dev/gemini-api/docs/troubleshooting
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from services.common.errors import BackendError
from services.common.hosted.answers import Answer
from services.common.hosted.redaction import Redactor
from services.common.hosted.statuses import OPENAI_CODES, error_of, parse_retry_after
from services.common.hosted.values import label, load_json, number

_DEEPEST = 4

#: Names of errors in place of a status, for bodies that came with HTTP 200.
_STATUSES = {
    "invalid_request_error": 400,
    "INVALID_ARGUMENT": 400,
    "authentication_error": 401,
    "UNAUTHENTICATED": 401,
    "billing_error": 402,
    "permission_error": 403,
    "PERMISSION_DENIED": 403,
    "not_found_error": 404,
    "NOT_FOUND": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "RESOURCE_EXHAUSTED": 429,
}


@dataclass(frozen=True, slots=True)
class Failure:
    """A reported error.

    status: the HTTP status that it names, if it names one. kinds: its stable names, the most
    specific one first.
    """

    message: str = ""
    status: int | None = None
    kinds: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)


def read_failure(value: Any, depth: int = 0) -> Failure | None:
    """The error in a JSON value; None where the value is empty."""
    if value is None:
        return None
    if isinstance(value, str) and value[:1] in ("{", "["):
        with suppress(ValueError):  # JSON in text
            value = load_json(value.encode(errors="replace"))
    if value in ("", None, False) or value == {} or value == []:
        return None
    if isinstance(value, list) and depth < _DEEPEST:
        return next(filter(None, (read_failure(one, depth + 1) for one in value)), None)
    if not isinstance(value, dict) or depth >= _DEEPEST:
        return Failure(_words(value))
    own = _read_object(value)
    for name in ("error", "errors"):
        if value.get(name) is True:
            continue
        if (inner := read_failure(value.get(name), depth + 1)) is not None:
            return Failure(
                inner.message or own.message,
                inner.status or own.status,
                inner.kinds or own.kinds,
                inner.metadata or own.metadata,
            )
    return own


def read_error_body(body: bytes, status: int, reason: str) -> Failure:
    """The error in the body of an answer with a status of failure; a page in HTML says no
    more than its status."""
    failure = None
    with suppress(ValueError):
        failure = read_failure(load_json(body))
    return failure or Failure(f"HTTP {status} {reason}".strip())


def failure_in(answer: Answer) -> Failure | None:
    """The error that an answer holds in place of, or beside, a completion."""
    if (failure := read_failure(answer.error)) is not None or answer.choice is None:
        return failure
    if (failure := read_failure(answer.choice.error)) is not None:
        return failure
    if answer.choice.finish == "error":
        return Failure("the model's provider failed")
    return None


def _read_object(value: dict[str, Any]) -> Failure:
    metadata = value.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    codes = [value.get(name) for name in ("code", "status", "status_code", "statusCode")]
    found = (number(code) for code in codes)
    status = next((int(code) for code in found if code is not None and 400 <= code < 600), None)
    kinds = (metadata.get("error_type"), *codes, value.get("type"))
    said = (value.get(name) for name in ("message", "detail", "msg", "error_description"))
    return Failure(
        next(filter(None, map(_words, said)), ""),
        status,
        tuple(kind for kind in kinds if isinstance(kind, str) and number(kind) is None),
        metadata,
    )


def _words(value: Any) -> str:
    """A message of any type in words."""
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, dict):
        for name in ("message", "msg", "text"):
            if isinstance(value.get(name), str):
                return str(value[name])
    return json.dumps(value, ensure_ascii=False, default=str)[:2000]


def error_from(
    failure: Failure,
    status: int,
    who: str,
    redact: Redactor,
    *,
    retry_after: str | None = None,
    types: Mapping[str, type[BackendError]] = OPENAI_CODES,
) -> BackendError:
    """The error to raise for a failure; the status that it names goes before HTTP's.

    who: the provider, for the message. retry_after: the header's value.
    """
    named = next((_STATUSES[kind] for kind in failure.kinds if kind in _STATUSES), 502)
    status = failure.status or (status if status >= 300 else named)
    metadata = failure.metadata
    said = failure.message or f"HTTP {status}"
    if (raw := metadata.get("raw")) and raw != said:  # what the model's provider said
        said = f"{said}: {raw if isinstance(raw, str) else json.dumps(raw)}"
    if isinstance(reasons := metadata.get("reasons"), list) and reasons:
        said = f"{said} ({', '.join(map(label, reasons))})"
    known = {"upstream_status": str(status)}
    for name, key in (("error_type", "error_type"), ("provider", "provider_name")):
        if isinstance(value := metadata.get(key), str):
            known[name] = redact(value, 100)
    return error_of(
        status,
        redact(f"{who}: {said}"),
        retry_after=parse_retry_after(retry_after),
        error_type=next((kind for kind in failure.kinds if kind in types), ""),
        types=types,
        metadata=known,
    )
