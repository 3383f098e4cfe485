"""A provider's HTTP status as an error: one table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from services.common.errors import (
    ApiKeyRejected,
    BackendError,
    BudgetInFlight,
    ContextTooLong,
    InsufficientCredits,
    InvalidRequest,
    ModelNotFound,
    RateLimited,
    RefusedByProvider,
    UnreadableAnswer,
    UpstreamUnavailable,
)

#: 5xx and all that is not in here (redirects too) is UpstreamUnavailable.
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

#: The stable names by which providers tell an over-long prompt from other bad requests.
CONTEXT_ERRORS: Mapping[str, type[BackendError]] = {
    "context_length_exceeded": ContextTooLong,
    "context_window_exceeded": ContextTooLong,
}

#: OpenAI's codes that say more than the HTTP status; the first is a 429 that no waiting
#: fixes: https://platform.openai.com/docs/guides/error-codes
OPENAI_CODES: Mapping[str, type[BackendError]] = {
    "insufficient_quota": InsufficientCredits,
    "content_policy_violation": RefusedByProvider,
    "content_filter": RefusedByProvider,
    **CONTEXT_ERRORS,
}

#: What another try may fix, apart from UnreadableAnswer.
TRANSIENT = (RateLimited, UpstreamUnavailable, BudgetInFlight)

#: Seconds. A provider that asks for a longer wait has made a mistake in its clock or unit.
_LONGEST_WAIT = 86400.0


def is_transient(error: BaseException) -> bool:
    """Whether another try may help. An answer that was paid for is not bought again."""
    return isinstance(error, TRANSIENT) and not isinstance(error, UnreadableAnswer)


def error_of(
    status: int,
    message: str,
    *,
    retry_after: float | None = None,
    error_type: str = "",
    types: Mapping[str, type[BackendError]] = OPENAI_CODES,
    metadata: Mapping[str, str] | None = None,
) -> BackendError:
    """The error that stands for a provider's answer.

    error_type: the provider's stable name of the error; where `types` knows it, it
    decides before the status. A 402 with a Retry-After is a budget in flight: it passes.
    """
    kind = types.get(error_type) or _BY_STATUS.get(status, UpstreamUnavailable)
    if kind is InsufficientCredits and retry_after is not None:
        kind = BudgetInFlight
    if not issubclass(kind, TRANSIENT):
        retry_after = None  # waiting does not help
    field = "model" if kind is ModelNotFound else ""
    return kind(message, field=field, retry_after=retry_after, metadata=metadata)


def parse_retry_after(value: str | None) -> float | None:
    """Seconds from a Retry-After header, a number or a date (RFC 9110, 10.2.3); at most a day.

    None where there is none or it cannot be read: the service's own backoff applies then.
    """
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            when = parsedate_to_datetime(value)
            when = when.replace(tzinfo=when.tzinfo or UTC)
            seconds = (when - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError, OverflowError, IndexError):
            return None  # the parser raises all of these for one malformed date or another
    return min(max(0.0, seconds), _LONGEST_WAIT) if math.isfinite(seconds) else None
