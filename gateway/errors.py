"""The one table from our errors to OpenAI's: HTTP status and code by reason.

The official client retries 408, 409, 429 and 5xx, but not an answer with `x-should-retry: false`,
which is sent where waiting does not help.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import Any, NamedTuple

from arena_llm import ArenaError


class HttpError(NamedTuple):
    """Status and code of an error. cured_by_waiting: whether a retry can succeed."""

    status: int
    code: str
    cured_by_waiting: bool = False


#: By the reason of ArenaError.
BY_REASON: Mapping[str, HttpError] = {
    "UNKNOWN_PREFIX": HttpError(404, "model_not_found"),
    "MODEL_NOT_FOUND": HttpError(404, "model_not_found"),
    "NOT_RECORDED": HttpError(404, "not_recorded"),
    "INVALID_REQUEST": HttpError(400, "invalid_value"),
    "CONTEXT_TOO_LONG": HttpError(400, "context_length_exceeded"),
    "UNSUPPORTED": HttpError(400, "unsupported_parameter"),
    "UNKNOWN_FIELD": HttpError(400, "unknown_parameter"),
    "STATE_MISMATCH": HttpError(400, "state_mismatch"),
    # Not 5xx: each service on the way would retry the call.
    "ROUTE_LOOP": HttpError(400, "route_loop"),
    "TOO_LARGE": HttpError(413, "request_too_large"),
    "CONSTRAINT_NOT_MET": HttpError(422, "constraint_not_met"),
    "REQUEST_ID_REUSED": HttpError(409, "request_id_reused"),
    "TOKEN_MISSING": HttpError(401, "invalid_api_key"),
    "TOKEN_REJECTED": HttpError(401, "invalid_api_key"),
    "MODEL_NOT_ALLOWED": HttpError(403, "model_not_allowed"),
    "REFUSED_BY_PROVIDER": HttpError(403, "content_policy_violation"),
    "QUOTA_EXCEEDED": HttpError(429, "insufficient_quota", True),
    "RATE_LIMITED": HttpError(429, "rate_limit_exceeded", True),
    "CREDITS_HELD": HttpError(429, "credits_held", True),
    "OVERLOADED": HttpError(503, "overloaded", True),
    # The operator must fix something first: a provider's key or credits, or a configuration.
    "INSUFFICIENT_CREDITS": HttpError(402, "insufficient_credits"),
    "API_KEY_MISSING": HttpError(424, "provider_key_missing"),
    "API_KEY_REJECTED": HttpError(424, "provider_key_rejected"),
    "MODEL_MISCONFIGURED": HttpError(424, "model_misconfigured"),
    "UNREACHABLE": HttpError(503, "unreachable", True),
    "BACKEND_DOWN": HttpError(503, "backend_down", True),
    "CONNECTION_LOST": HttpError(503, "connection_lost", True),
    "UPSTREAM_UNAVAILABLE": HttpError(502, "upstream_unavailable", True),
    "INTERRUPTED": HttpError(502, "interrupted", True),
    "DEADLINE_EXCEEDED": HttpError(504, "timeout"),
    "CANCELLED": HttpError(503, "cancelled", True),
    "CLIENT_CLOSED": HttpError(503, "shutting_down", True),
    # A bug, or programs of different versions.
    "INTERNAL": HttpError(500, "internal_error"),
    "CLIENT_TOO_OLD": HttpError(500, "version_mismatch"),
    "INVALID_TARGET": HttpError(500, "internal_error"),
    "STREAM_NOT_ENDED": HttpError(500, "internal_error"),
    "FORK_UNSUPPORTED": HttpError(500, "internal_error"),
}
#: By the code of an ArenaError whose reason is not in the table.
BY_CODE: Mapping[str, HttpError] = {
    "INVALID_ARGUMENT": HttpError(400, "invalid_value"),
    "NOT_FOUND": HttpError(404, "not_found"),
    "UNIMPLEMENTED": HttpError(400, "unsupported_parameter"),
    "FAILED_PRECONDITION": HttpError(424, "failed_precondition"),
    "UNAUTHENTICATED": HttpError(401, "invalid_api_key"),
    "PERMISSION_DENIED": HttpError(403, "permission_denied"),
    "RESOURCE_EXHAUSTED": HttpError(429, "rate_limit_exceeded", True),
    "ABORTED": HttpError(422, "aborted"),
    "ALREADY_EXISTS": HttpError(409, "already_exists"),
    "UNAVAILABLE": HttpError(503, "unavailable", True),
    "DEADLINE_EXCEEDED": HttpError(504, "timeout"),
    "CANCELLED": HttpError(503, "cancelled", True),
}
_UNKNOWN = HttpError(500, "internal_error")

#: The longest retry-after that the official client waits, in seconds.
_PATIENCE = 60

_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


class ApiError(Exception):
    """An error in OpenAI's form. reason: for the log. param: the field at fault.

    headers: of the response. It holds no prompt and no key.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str,
        param: str | None = None,
        reason: str = "INVALID_REQUEST",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.reason = reason
        self.headers = dict(headers or {})

    @property
    def body(self) -> dict[str, Any]:
        """The error object."""
        kind = _TYPES.get(self.status)
        if kind is None:
            kind = "server_error" if self.status >= 500 else "invalid_request_error"
        return {
            "error": {
                "message": self.message,
                "type": kind,
                "param": self.param,
                "code": self.code,
            }
        }


def to_api_error(error: ArenaError, param: str | None) -> ApiError:
    """Return an error of our client in OpenAI's form. param: the field at fault, in OpenAI's
    words."""
    row = BY_REASON.get(error.reason) or BY_CODE.get(error.code, _UNKNOWN)
    headers = {}
    wait = error.retry_after
    if wait is not None and row.cured_by_waiting:
        headers["retry-after"] = str(max(1, ceil(wait)))
        headers["retry-after-ms"] = str(max(1, ceil(wait * 1000)))
    if not row.cured_by_waiting or (wait or 0) > _PATIENCE:
        headers["x-should-retry"] = "false"
    message = error.message
    if row.code == "unsupported_parameter" and param == "prompt":
        message = (
            f"{error.model} takes no prompt without a chat template: use /v1/chat/completions, or "
            "a local model (hf_, vllm_)"
        )
    elif error.field and param:
        message = message.replace(error.field, param)
    return ApiError(
        row.status,
        message,
        code=row.code,
        param=param,
        reason=error.reason or error.code,
        headers=headers,
    )


def make_overload(message: str) -> ApiError:
    """Return the error of a gateway that has no place for another call."""
    row = BY_REASON["OVERLOADED"]
    return ApiError(
        row.status,
        message,
        code=row.code,
        reason="OVERLOADED",
        headers={"retry-after": "1", "retry-after-ms": "1000"},
    )
