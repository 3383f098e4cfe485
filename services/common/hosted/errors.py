"""Makes the BackendError of an error that a provider reports."""

from __future__ import annotations

from collections.abc import Mapping

from arena_llm.types import CallReport
from services.common.errors import (
    ApiKeyRejected,
    BackendError,
    ContextTooLong,
    CreditsHeld,
    InsufficientCredits,
    InvalidRequest,
    ModelMisconfigured,
    ModelNotFound,
    RateLimited,
    RefusedByProvider,
    UnreadableAnswer,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from services.common.hosted.config import Timeouts
from services.common.hosted.failures import Failure
from services.common.hosted.keys import Redactor
from services.common.hosted.values import label
from services.common.hosted.wording import find_kind

#: By HTTP status. All others, such as 5xx and redirects, are UpstreamUnavailable.
_BY_STATUS: dict[int, type[BackendError]] = {
    400: InvalidRequest,
    401: ApiKeyRejected,
    402: InsufficientCredits,
    403: RefusedByProvider,
    404: ModelNotFound,
    408: UpstreamUnavailable,
    409: UpstreamUnavailable,
    410: ModelNotFound,
    422: InvalidRequest,
    429: RateLimited,
    451: RefusedByProvider,
    # The same request would fail again.
    **dict.fromkeys((405, 406, 411, 412, 413, 414, 415, 431), InvalidRequest),
}

#: OpenAI's error codes that say more than the HTTP status:
#: https://platform.openai.com/docs/guides/error-codes
OPENAI_CODES: Mapping[str, type[BackendError]] = {
    "insufficient_quota": InsufficientCredits,  # comes with 429, but waiting does not help
    "content_policy_violation": RefusedByProvider,
    "content_filter": RefusedByProvider,
    "context_length_exceeded": ContextTooLong,
    "context_window_exceeded": ContextTooLong,
    # Names that other providers give to the same.
    "exceed_context_size_error": ContextTooLong,
    "model_max_prompt_tokens_exceeded": ContextTooLong,
    "exceeded_current_quota_error": InsufficientCredits,
    "billing_hard_limit_reached": InsufficientCredits,
    "billing_not_active": InsufficientCredits,
    "API_KEY_INVALID": ApiKeyRejected,
    "invalid_api_key": ApiKeyRejected,
    "model_not_found": ModelNotFound,
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


def is_transient(error: BaseException) -> bool:
    """Whether a retry may help. An unreadable answer was paid for and is not bought twice."""
    return isinstance(error, TRANSIENT) and not isinstance(error, UnreadableAnswer)


def make_error(
    status: int,
    message: str,
    *,
    retry_after: float | None = None,
    kind: type[BackendError] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> BackendError:
    """Make the error for an HTTP status.

    kind: what a name or the words of the error say, which takes precedence over the status.
    A 402 with a Retry-After is transient: the budget is only held by other calls.
    """
    if kind is None:
        kind = _BY_STATUS.get(status, UpstreamUnavailable)
        if kind is InsufficientCredits and retry_after is not None:
            kind = CreditsHeld
    if not issubclass(kind, TRANSIENT):
        retry_after = None  # waiting does not help
    field = "model" if kind is ModelNotFound else ""
    return kind(message, field=field, retry_after=retry_after, metadata=metadata)


def silent(provider: str, timeouts: Timeouts) -> UpstreamTimeout:
    """The error of an attempt in which the provider sent no byte for too long."""
    return UpstreamTimeout(
        f"{provider} did not answer in time: it sent nothing for {timeouts.silence:g} s "
        "(first_byte_seconds)",
        metadata={"provider": provider},
    )


def too_slow(provider: str, timeouts: Timeouts) -> UpstreamTimeout:
    """The error of an attempt that took too long."""
    return UpstreamTimeout(
        f"{provider} did not answer in time ({timeouts.total:g} s for one attempt)",
        metadata={"provider": provider},
    )


def redirected(provider: str, status: int, location: str, setting: str) -> BackendError:
    """The error for a redirect. setting: where the provider's address is configured."""
    problem = f"{provider} redirects to {location.partition('?')[0][:200]} (HTTP {status})"
    details = {"upstream_status": str(status), "provider": provider}
    if status in (301, 308):
        return ModelMisconfigured(
            f"{problem}: it has moved, so change {setting}. The key is not sent to another address",
            metadata=details,
        )
    return UpstreamUnavailable(
        f"{problem}, but the key is not sent to another address", metadata=details
    )


def convert_failure(
    failure: Failure,
    status: int,
    provider: str,
    redact: Redactor,
    *,
    retry_after: float | None = None,
    types: Mapping[str, type[BackendError]] = OPENAI_CODES,
    guess: str = "",
) -> BackendError:
    """Make the error for a failure. A status in the failure takes precedence over the HTTP status.

    provider: its name, for the message. retry_after: the seconds that the headers ask for.
    types: by the names of errors. guess: a name that counts if neither the failure's names nor its
    words say more than the status.
    """
    metadata = failure.metadata
    named = next((_NAMED_STATUSES[k] for k in failure.kinds if k in _NAMED_STATUSES), 502)
    status = failure.status or (status if status >= 300 else named)
    message = failure.message or f"HTTP {status}"
    if isinstance(reasons := metadata.get("reasons"), list) and reasons:
        message = f"{message} ({', '.join(map(label, reasons))})"
    details = {"upstream_status": str(status)}
    for name, key in (("error_type", "error_type"), ("provider", "provider_name")):
        if isinstance(value := metadata.get(key), str):
            details[name] = redact(value, 100)
    if retry_after is None:
        retry_after = failure.wait
    kind = next((types[name] for name in failure.kinds if name in types), None)
    kind = kind or find_kind(message, status, retry_after is not None) or types.get(guess)
    return make_error(
        status,
        redact(f"{provider}: {message}"),
        retry_after=retry_after,
        kind=kind,
        metadata=details,
    )


def paid(error: BackendError, report: CallReport | None = None) -> UnreadableAnswer:
    """The error for an error that came with a completion: it has been paid for, so it is not
    requested again."""
    metadata = {**error.metadata, "upstream_status": "200"}
    return UnreadableAnswer(error.message, metadata=metadata, report=report)
