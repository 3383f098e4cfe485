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

#: What another try may mend.
TRANSIENT = (RateLimited, UpstreamUnavailable, BudgetInFlight)


def error_of(
    status: int,
    message: str,
    *,
    retry_after: float | None = None,
    error_type: str = "",
    types: Mapping[str, type[BackendError]] = CONTEXT_ERRORS,
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
    """Seconds from a Retry-After header, a number or a date (RFC 9110, 10.2.3).

    None where there is none or it cannot be read: then the caller's own backoff rules.
    """
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            when = parsedate_to_datetime(value)
        except ValueError:
            return None
        seconds = (when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else None
