"""OpenRouter's errors."""

from __future__ import annotations

from collections.abc import Mapping

from services.common.errors import BackendError, CreditsHeld, UpstreamUnavailable
from services.common.hosted.errors import OPENAI_CODES, convert_failure
from services.common.hosted.failures import Failure
from services.common.hosted.keys import Redactor

#: OpenRouter's stable error names (`metadata.error_type`) that say more than the HTTP status.
ERROR_TYPES: Mapping[str, type[BackendError]] = {
    **OPENAI_CODES,
    "in_flight_budget_exhausted": CreditsHeld,
}


def to_error(
    failure: Failure, status: int, redact: Redactor, retry_after: float | None = None
) -> BackendError:
    """Make the error for a reported failure. retry_after: the seconds that the headers ask for."""
    return convert_failure(
        failure, status, "openrouter", redact, retry_after=retry_after, types=ERROR_TYPES
    )


def unreadable(reason: str) -> UpstreamUnavailable:
    """The error for an answer that holds no completion. The call may be retried."""
    return UpstreamUnavailable(
        f"openrouter's answer cannot be read: {reason}", metadata={"upstream_status": "200"}
    )
