"""Turns an error that a provider reports, in any of the known formats, into a BackendError.

https://platform.openai.com/docs/guides/error-codes,
https://openrouter.ai/docs/api/reference/errors-and-debugging,
https://docs.anthropic.com/en/api/errors, https://ai.google.dev/gemini-api/docs/troubleshooting
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from services.common.errors import (
    ApiKeyRejected,
    BackendError,
    ContextTooLong,
    CreditsHeld,
    InsufficientCredits,
    InvalidRequest,
    ModelNotFound,
    RateLimited,
    RefusedByProvider,
    UnreadableAnswer,
    UpstreamUnavailable,
)
from services.common.hosted.keys import Redactor
from services.common.hosted.response import ProviderAnswer
from services.common.hosted.values import label, load_json, number
from services.common.hosted.waits import find_wait

#: By HTTP status. All others, such as 5xx and redirects, are UpstreamUnavailable.
_BY_STATUS: dict[int, type[BackendError]] = {
    400: InvalidRequest,
    401: ApiKeyRejected,
    402: InsufficientCredits,
    403: RefusedByProvider,
    404: ModelNotFound,
    408: UpstreamUnavailable,
    409: UpstreamUnavailable,
    413: InvalidRequest,
    422: InvalidRequest,
    429: RateLimited,
}

#: OpenAI's error codes that say more than the HTTP status:
#: https://platform.openai.com/docs/guides/error-codes
OPENAI_CODES: Mapping[str, type[BackendError]] = {
    "insufficient_quota": InsufficientCredits,  # comes with 429, but waiting does not help
    "content_policy_violation": RefusedByProvider,
    "content_filter": RefusedByProvider,
    "context_length_exceeded": ContextTooLong,
    "context_window_exceeded": ContextTooLong,
}

#: Error names and the HTTP status that they stand for, for errors that came with HTTP 200.
_NAMED_STATUSES = {
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

#: Errors that a retry may fix, except UnreadableAnswer.
TRANSIENT = (RateLimited, UpstreamUnavailable, CreditsHeld)

_MAX_DEPTH = 4


def is_transient(error: BaseException) -> bool:
    """Whether a retry may help. An unreadable answer was paid for and is not bought twice."""
    return isinstance(error, TRANSIENT) and not isinstance(error, UnreadableAnswer)


@dataclass(frozen=True, slots=True)
class Failure:
    """An error as a provider reports it.

    status: the HTTP status that the report names; None if it names none.
    kinds: stable error names, the most specific first. wait: the seconds that it asks for.
    """

    message: str = ""
    status: int | None = None
    kinds: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    wait: float | None = None


# --- reading ---------------------------------------------------------------------------


def read_failure(value: Any, depth: int = 0) -> Failure | None:
    """Read the error in a JSON value; None if the value is empty."""
    if value is None:
        return None
    if isinstance(value, str) and value[:1] in ("{", "["):
        with suppress(ValueError):  # JSON inside a string
            value = load_json(value.encode(errors="replace"))
    if value in ("", None, False) or value == {} or value == []:
        return None
    if isinstance(value, list) and depth < _MAX_DEPTH:
        return next(filter(None, (read_failure(item, depth + 1) for item in value)), None)
    if not isinstance(value, dict) or depth >= _MAX_DEPTH:
        return Failure(_text(value))
    outer = _read_object(value)
    for name in ("error", "errors"):
        if value.get(name) is True:
            continue
        if (inner := read_failure(value.get(name), depth + 1)) is not None:
            return Failure(
                inner.message or outer.message,
                inner.status or outer.status,
                inner.kinds or outer.kinds,
                inner.metadata or outer.metadata,
            )
    return outer


def read_error_body(body: bytes, status: int, reason: str) -> Failure:
    """Read the body of a response with an error status.

    A body that is not JSON, such as an HTML page, is reported as its status only.
    """
    failure, value = None, None
    with suppress(ValueError):
        failure = read_failure(value := load_json(body))
    failure = failure or Failure(f"HTTP {status} {reason}".strip())
    return replace(failure, wait=find_wait(value))


def find_failure(answer: ProviderAnswer) -> Failure | None:
    """Find the error that an answer holds, with or without a completion beside it."""
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
    numbers = (number(code) for code in codes)
    status = next((int(code) for code in numbers if code is not None and 400 <= code < 600), None)
    kinds = (metadata.get("error_type"), *codes, value.get("type"))
    texts = (value.get(name) for name in ("message", "detail", "msg", "error_description"))
    return Failure(
        next(filter(None, map(_text, texts)), ""),
        status,
        tuple(kind for kind in kinds if isinstance(kind, str) and number(kind) is None),
        metadata,
    )


def _text(value: Any) -> str:
    """An error message of any JSON type as text."""
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, dict):
        for name in ("message", "msg", "text"):
            if isinstance(value.get(name), str):
                return str(value[name])
    return json.dumps(value, ensure_ascii=False, default=str)[:2000]


# --- making errors ---------------------------------------------------------------------


def make_error(
    status: int,
    message: str,
    *,
    retry_after: float | None = None,
    error_type: str = "",
    types: Mapping[str, type[BackendError]] = OPENAI_CODES,
    metadata: Mapping[str, str] | None = None,
) -> BackendError:
    """Make the error for an HTTP status.

    error_type: the provider's stable name of the error. It takes precedence over the status if
    `types` has it. A 402 with a Retry-After is transient: the budget is only held by other calls.
    """
    kind = types.get(error_type) or _BY_STATUS.get(status, UpstreamUnavailable)
    if kind is InsufficientCredits and retry_after is not None:
        kind = CreditsHeld
    if not issubclass(kind, TRANSIENT):
        retry_after = None  # waiting does not help
    field = "model" if kind is ModelNotFound else ""
    return kind(message, field=field, retry_after=retry_after, metadata=metadata)


def convert_failure(
    failure: Failure,
    status: int,
    provider: str,
    redact: Redactor,
    *,
    retry_after: float | None = None,
    types: Mapping[str, type[BackendError]] = OPENAI_CODES,
) -> BackendError:
    """Make the error for a failure. A status in the failure takes precedence over the HTTP status.

    provider: its name, for the message. retry_after: the seconds that the headers ask for.
    """
    named = next((_NAMED_STATUSES[k] for k in failure.kinds if k in _NAMED_STATUSES), 502)
    status = failure.status or (status if status >= 300 else named)
    message = failure.message or f"HTTP {status}"
    metadata = failure.metadata
    if (raw := metadata.get("raw")) and raw != message:  # from the provider behind OpenRouter
        message = f"{message}: {raw if isinstance(raw, str) else json.dumps(raw)}"
    if isinstance(reasons := metadata.get("reasons"), list) and reasons:
        message = f"{message} ({', '.join(map(label, reasons))})"
    details = {"upstream_status": str(status)}
    for name, key in (("error_type", "error_type"), ("provider", "provider_name")):
        if isinstance(value := metadata.get(key), str):
            details[name] = redact(value, 100)
    return make_error(
        status,
        redact(f"{provider}: {message}"),
        retry_after=failure.wait if retry_after is None else retry_after,
        error_type=next((kind for kind in failure.kinds if kind in types), ""),
        types=types,
        metadata=details,
    )
