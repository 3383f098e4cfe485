"""The errors of the services: gRPC code, reason, and how they are sent.

BackendError
├── UnknownPrefix          NOT_FOUND            no backend serves this prefix
├── ModelNotFound          NOT_FOUND            not configured, or upstream 404
├── InvalidRequest         INVALID_ARGUMENT     a field is wrong
├── ContextTooLong         INVALID_ARGUMENT     prompt + max_tokens exceed the context
├── Unsupported            UNIMPLEMENTED        this backend cannot do that
├── ApiKeyMissing          FAILED_PRECONDITION  names the variable to set
├── ApiKeyRejected         FAILED_PRECONDITION  upstream 401
├── InsufficientCredits    FAILED_PRECONDITION  upstream 402
├── BudgetInFlight         RESOURCE_EXHAUSTED   upstream 402 with Retry-After
├── ModelMisconfigured     FAILED_PRECONDITION  the model's entry or its files are wrong
├── RefusedByProvider      PERMISSION_DENIED    moderation, region
├── RateLimited            RESOURCE_EXHAUSTED   upstream 429
├── Overloaded             RESOURCE_EXHAUSTED   own queue full
├── UpstreamUnavailable    UNAVAILABLE          upstream 5xx, connection failure
│   └── UnreadableAnswer   UNAVAILABLE          the provider's answer cannot be parsed
├── BackendDown            UNAVAILABLE          backend not reachable from the router
├── DeadlineExceeded       DEADLINE_EXCEEDED    the deadline has passed
└── Internal               INTERNAL             a bug: the log describes it under an id
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import ClassVar

import grpc
from google.protobuf.any_pb2 import Any as AnyProto
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from arena_llm.errors import DETAILS_TRAILER

ERROR_DOMAIN = "arena_llm"

#: The longest delay that is sent: a Duration cannot hold every number.
_MAX_SECONDS = 1e9


def repair_text(text: str) -> str:
    """Return text that can be sent: a surrogate pair becomes its character, a lone
    surrogate becomes U+FFFD."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


class BackendError(Exception):
    """An error that the caller gets unchanged.

    message: what is wrong and how to fix it, without prompt or key.
    field: the wrong field of the request, such as "config.temperature".
    retry_after: seconds after which a retry is useful.
    metadata: details for programs, such as {"variable": "OPENAI_API_KEY"}.
    """

    code: ClassVar[grpc.StatusCode] = grpc.StatusCode.INTERNAL
    reason: ClassVar[str] = "INTERNAL"

    def __init__(
        self,
        message: str,
        *,
        field: str = "",
        retry_after: float | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        message = repair_text(message)  # a provider's text may hold half a surrogate pair
        super().__init__(message)
        self.message = message
        self.field = field
        self.retry_after = retry_after
        self.metadata = {name: repair_text(value) for name, value in (metadata or {}).items()}


class UnknownPrefix(BackendError):
    code, reason = grpc.StatusCode.NOT_FOUND, "UNKNOWN_PREFIX"


class ModelNotFound(BackendError):
    code, reason = grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND"


class InvalidRequest(BackendError):
    code, reason = grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST"


class ContextTooLong(BackendError):
    code, reason = grpc.StatusCode.INVALID_ARGUMENT, "CONTEXT_TOO_LONG"


class Unsupported(BackendError):
    code, reason = grpc.StatusCode.UNIMPLEMENTED, "UNSUPPORTED"


class ApiKeyMissing(BackendError):
    code, reason = grpc.StatusCode.FAILED_PRECONDITION, "API_KEY_MISSING"


class ApiKeyRejected(BackendError):
    code, reason = grpc.StatusCode.FAILED_PRECONDITION, "API_KEY_REJECTED"


class InsufficientCredits(BackendError):
    code, reason = grpc.StatusCode.FAILED_PRECONDITION, "INSUFFICIENT_CREDITS"


class BudgetInFlight(BackendError):
    code, reason = grpc.StatusCode.RESOURCE_EXHAUSTED, "INSUFFICIENT_CREDITS"


class ModelMisconfigured(BackendError):
    code, reason = grpc.StatusCode.FAILED_PRECONDITION, "MODEL_MISCONFIGURED"


class RefusedByProvider(BackendError):
    code, reason = grpc.StatusCode.PERMISSION_DENIED, "REFUSED_BY_PROVIDER"


class RateLimited(BackendError):
    code, reason = grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED"


class Overloaded(BackendError):
    code, reason = grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED"


class UpstreamUnavailable(BackendError):
    code, reason = grpc.StatusCode.UNAVAILABLE, "UPSTREAM_UNAVAILABLE"


class UnreadableAnswer(UpstreamUnavailable):
    """The provider's answer cannot be parsed. There is no retry, because it would cost again."""


class BackendDown(BackendError):
    code, reason = grpc.StatusCode.UNAVAILABLE, "BACKEND_DOWN"


class DeadlineExceeded(BackendError):
    code, reason = grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED"


class ContractError(Exception):
    """A bug of a backend: its reply breaks the contract. The caller gets it as Internal.

    The message says what is wrong. It must not contain text of the prompt or of the reply,
    because it is logged and sent.
    """


class Internal(BackendError):
    """A bug of the service, or of the routers' configuration."""


def build_status(error: BackendError) -> status_pb2.Status:
    """Return the error as google.rpc.Status with its details (AIP-193)."""
    info = error_details_pb2.ErrorInfo(
        reason=error.reason, domain=ERROR_DOMAIN, metadata=error.metadata
    )
    packed = [_pack(info)]
    if error.field:
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=error.field, description=error.message, reason=error.reason
        )
        packed.append(_pack(error_details_pb2.BadRequest(field_violations=[violation])))
    if error.retry_after is not None:
        fraction, seconds = math.modf(min(max(0.0, error.retry_after), _MAX_SECONDS))
        delay = Duration(seconds=int(seconds), nanos=int(fraction * 1e9))
        packed.append(_pack(error_details_pb2.RetryInfo(retry_delay=delay)))
    number: int = error.code.value[0]
    return status_pb2.Status(code=number, message=error.message, details=packed)


def _pack(
    message: error_details_pb2.ErrorInfo
    | error_details_pb2.BadRequest
    | error_details_pb2.RetryInfo,
) -> AnyProto:
    packed = AnyProto()
    packed.Pack(message)
    return packed


def build_trailers(error: BackendError) -> tuple[tuple[str, str | bytes], ...]:
    """Return the trailing metadata: the status with its details, and a ban on retries.

    grpc-retry-pushback-ms keeps gRPC's own retry policies (gRFC A6) from retrying, because the
    services have already retried if that was useful.
    """
    return (
        (DETAILS_TRAILER, build_status(error).SerializeToString()),
        ("grpc-retry-pushback-ms", "-1"),
    )


def read_reason(trailers: Iterable[tuple[str, str | bytes]]) -> str:
    """Return the reason in the trailing metadata of an error, or "" if it has none."""
    info = error_details_pb2.ErrorInfo()
    for key, value in trailers:
        if key == DETAILS_TRAILER and isinstance(value, bytes):
            with suppress(DecodeError):
                for detail in status_pb2.Status.FromString(value).details:
                    if detail.Unpack(info):
                        return str(info.reason)
    return ""
