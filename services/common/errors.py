"""The errors of the services: gRPC code, reason, and how they are sent.

BackendError
├── UnknownPrefix          NOT_FOUND            no backend serves this prefix
├── ModelNotFound          NOT_FOUND            not configured, or upstream 404
├── NotRecorded            NOT_FOUND            the replayed recording has no reply to this
├── InvalidRequest         INVALID_ARGUMENT     a field is wrong
├── ContextTooLong         INVALID_ARGUMENT     prompt + max_tokens exceed the context
├── Unsupported            UNIMPLEMENTED        this backend cannot do that
├── UnknownField           UNIMPLEMENTED        the request has a field of a newer contract
├── ClientTooOld           FAILED_PRECONDITION  the client's contract is too old
├── ConstraintNotMet       ABORTED              the replies do not fit the constraint
├── RequestIdReused        ALREADY_EXISTS       another request has the same request_id
├── StateMismatch          FAILED_PRECONDITION  a part's state is from another provider or model
├── TokenMissing           UNAUTHENTICATED      the router needs a token
├── TokenRejected          UNAUTHENTICATED      the router does not know the token
├── ModelNotAllowed        PERMISSION_DENIED    the token does not include the model
├── QuotaExceeded          RESOURCE_EXHAUSTED   the token's quota is used up
├── RouteLoop              FAILED_PRECONDITION  the call came back to a router that it had passed
├── TooLarge               RESOURCE_EXHAUSTED   too many bytes
├── Interrupted            UNAVAILABLE          the answer broke off midway
├── ApiKeyMissing          FAILED_PRECONDITION  names the variable to set
├── ApiKeyRejected         FAILED_PRECONDITION  upstream 401
├── InsufficientCredits    FAILED_PRECONDITION  upstream 402
├── CreditsHeld            RESOURCE_EXHAUSTED   upstream 402: calls in flight hold the credits
├── ModelMisconfigured     FAILED_PRECONDITION  the model's entry or its files are wrong
├── RefusedByProvider      PERMISSION_DENIED    moderation, region
├── RateLimited            RESOURCE_EXHAUSTED   upstream 429
├── Overloaded             RESOURCE_EXHAUSTED   own queue full
├── UpstreamUnavailable    UNAVAILABLE          upstream 5xx, connection failure
│   ├── UpstreamTimeout    UNAVAILABLE          the provider took too long
│   └── UnreadableAnswer   UNAVAILABLE          the provider's answer cannot be parsed
├── BackendDown            UNAVAILABLE          backend not reachable from the router
├── DeadlineExceeded       DEADLINE_EXCEEDED    the deadline has passed
└── Internal               INTERNAL             a bug: the log describes it under an id
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import astuple, replace
from typing import ClassVar

import grpc
from google.protobuf.any_pb2 import Any as AnyProto
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from arena_llm.errors import DETAILS_TRAILER
from arena_llm.types import CallReport, ServedBy
from arena_llm.v1 import REVISION, call_report_pb2
from arena_llm.wire import to_message

ERROR_DOMAIN = "arena_llm"
#: Bytes of the path of a field.
MAX_FIELD = 300

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
    report: what the call tried and paid until then.
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
        report: CallReport | None = None,
    ) -> None:
        message = repair_text(message)  # a provider's text may hold half a surrogate pair
        super().__init__(message)
        self.message = message
        self.field = repair_text(field)
        self.retry_after = retry_after
        self.metadata = {
            repair_text(name): repair_text(value) for name, value in (metadata or {}).items()
        }
        self.report = report


class UnknownPrefix(BackendError):
    code, reason = grpc.StatusCode.NOT_FOUND, "UNKNOWN_PREFIX"


class ModelNotFound(BackendError):
    code, reason = grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND"


class NotRecorded(BackendError):
    code, reason = grpc.StatusCode.NOT_FOUND, "NOT_RECORDED"


class InvalidRequest(BackendError):
    code, reason = grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST"


def make_field_error(field: str, problem: str) -> InvalidRequest:
    """Return the error of a field, such as ("prompt", "must not be empty")."""
    return InvalidRequest(f"{field} {problem}", field=field)


class ContextTooLong(BackendError):
    code, reason = grpc.StatusCode.INVALID_ARGUMENT, "CONTEXT_TOO_LONG"


class Unsupported(BackendError):
    code, reason = grpc.StatusCode.UNIMPLEMENTED, "UNSUPPORTED"


#: Ends the message of a request that another revision of the contract has probably shaped.
OTHER_REVISION = (
    f"its caller may be older or newer than this service, which implements revision {REVISION} of "
    "the contract. Use the same version of Arena LLM at both ends, or make the caller's stubs from "
    "its proto/ again"
)


class UnknownField(BackendError):
    code, reason = grpc.StatusCode.UNIMPLEMENTED, "UNKNOWN_FIELD"


class ClientTooOld(BackendError):
    code, reason = grpc.StatusCode.FAILED_PRECONDITION, "CLIENT_TOO_OLD"


class ConstraintNotMet(BackendError):
    code, reason = grpc.StatusCode.ABORTED, "CONSTRAINT_NOT_MET"


class RequestIdReused(BackendError):
    code, reason = grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED"


class StateMismatch(BackendError):
    code, reason = grpc.StatusCode.FAILED_PRECONDITION, "STATE_MISMATCH"


class RouteLoop(BackendError):
    code, reason = grpc.StatusCode.FAILED_PRECONDITION, "ROUTE_LOOP"


class TokenMissing(BackendError):
    code, reason = grpc.StatusCode.UNAUTHENTICATED, "TOKEN_MISSING"


class TokenRejected(BackendError):
    code, reason = grpc.StatusCode.UNAUTHENTICATED, "TOKEN_REJECTED"


class ModelNotAllowed(BackendError):
    code, reason = grpc.StatusCode.PERMISSION_DENIED, "MODEL_NOT_ALLOWED"


class QuotaExceeded(BackendError):
    code, reason = grpc.StatusCode.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED"


class TooLarge(BackendError):
    code, reason = grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_LARGE"


class Interrupted(BackendError):
    code, reason = grpc.StatusCode.UNAVAILABLE, "INTERRUPTED"


class ApiKeyMissing(BackendError):
    code, reason = grpc.StatusCode.FAILED_PRECONDITION, "API_KEY_MISSING"


class ApiKeyRejected(BackendError):
    code, reason = grpc.StatusCode.FAILED_PRECONDITION, "API_KEY_REJECTED"


class InsufficientCredits(BackendError):
    code, reason = grpc.StatusCode.FAILED_PRECONDITION, "INSUFFICIENT_CREDITS"


class CreditsHeld(BackendError):
    code, reason = grpc.StatusCode.RESOURCE_EXHAUSTED, "CREDITS_HELD"


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


class UpstreamTimeout(UpstreamUnavailable):
    """The provider sent nothing for too long, or did not end in time."""


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


#: gRPC replaces a status at random if its trailers take between 8 and 16 KiB. So the message and
#: the details are bounded, in the bytes that are sent.
MAX_MESSAGE_BYTES = 2_000
MAX_DETAILS_BYTES = 4_000
_MAX_COPY_BYTES = 400  # of the message in the details, twice
_MAX_METADATA_BYTES = 1_000
_ENTRY_BYTES = 6  # of protobuf for each name and value
_MAX_REPORT_BYTES = 1_500
_MAX_DETAIL_BYTES = 200  # of an attempt
_MAX_NAME_BYTES = 100  # of a name or an id in a report
_MAX_ATTEMPTS = 50  # an attempt takes at least 30 bytes


def cut_text(text: str, most: int) -> str:
    """Return the text, cut to so many bytes of UTF-8 with an ellipsis."""
    encoded = text.encode()
    if len(encoded) <= most:
        return text
    return encoded[: most - 3].decode(errors="ignore") + "\u2026"


def cut_message(text: str) -> str:
    """Return a status message that fits: gRPC sends other characters as %XX for each byte."""
    if len(text) <= MAX_MESSAGE_BYTES // 12:
        return text
    size = 0
    for place, character in enumerate(text):
        plain = " " <= character <= "~" and character != "%"
        size += 1 if plain else 3 * len(character.encode())
        if size > MAX_MESSAGE_BYTES - 9:  # the ellipsis
            return text[:place] + "\u2026"
    return text


def build_status(error: BackendError) -> status_pb2.Status:
    """Return the error as google.rpc.Status with its details (AIP-193)."""
    info = error_details_pb2.ErrorInfo(
        reason=error.reason, domain=ERROR_DOMAIN, metadata=_cut_metadata(error.metadata)
    )
    packed = [_pack(info)]
    short = cut_text(error.message, _MAX_COPY_BYTES)
    if error.field:
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=cut_text(error.field, MAX_FIELD), description=short, reason=error.reason
        )
        packed.append(_pack(error_details_pb2.BadRequest(field_violations=[violation])))
    if error.retry_after is not None:
        fraction, seconds = math.modf(min(max(0.0, error.retry_after), _MAX_SECONDS))
        delay = Duration(seconds=int(seconds), nanos=int(fraction * 1e9))
        packed.append(_pack(error_details_pb2.RetryInfo(retry_delay=delay)))
    if error.report is not None:
        packed.append(_pack(_build_report(error.report)))
    number: int = error.code.value[0]
    return status_pb2.Status(code=number, message=short, details=packed)


def _cut_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return as much of the metadata as fits; a value that does not fit is cut."""
    left, kept = _MAX_METADATA_BYTES, {}
    for name, value in metadata.items():
        left -= len(name.encode()) + _ENTRY_BYTES
        if left < 3:  # an ellipsis
            break
        kept[name] = cut_text(value, left)
        left -= len(kept[name].encode())
    return kept


def _build_report(report: CallReport) -> call_report_pb2.CallReport:
    """Return the report with its texts cut. If it is too large, it loses the oldest attempts."""
    attempts = [
        replace(
            attempt,
            provider=_cut_name(attempt.provider),
            upstream_id=_cut_name(attempt.upstream_id),
            detail=cut_text(repair_text(attempt.detail), _MAX_DETAIL_BYTES),
        )
        for attempt in report.attempts[-_MAX_ATTEMPTS:]
    ]
    served_by = ServedBy(*map(_cut_name, astuple(report.served_by)))
    short = CallReport(_cut_name(report.request_id), tuple(attempts), report.usage, served_by)
    message = to_message(short, call_report_pb2.CallReport)
    while message.ByteSize() > _MAX_REPORT_BYTES and message.attempts:
        del message.attempts[0]
    return message


def _cut_name(name: str) -> str:
    return cut_text(repair_text(name), _MAX_NAME_BYTES)


def _pack(
    message: error_details_pb2.ErrorInfo
    | error_details_pb2.BadRequest
    | error_details_pb2.RetryInfo
    | call_report_pb2.CallReport,
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
    return str(info.reason) if _unpack(trailers, info) else ""


def read_report(
    trailers: Iterable[tuple[str, str | bytes]],
) -> call_report_pb2.CallReport | None:
    """Return the report in the trailing metadata of an error; None if it has none."""
    report = call_report_pb2.CallReport()
    return report if _unpack(trailers, report) else None


def _unpack(
    trailers: Iterable[tuple[str, str | bytes]],
    message: error_details_pb2.ErrorInfo | call_report_pb2.CallReport,
) -> bool:
    """Fill the message from the detail of its type. Returns whether there is one."""
    for key, value in trailers:
        if key == DETAILS_TRAILER and isinstance(value, bytes):
            with suppress(DecodeError):
                details = status_pb2.Status.FromString(value).details
                return any(detail.Unpack(message) for detail in details)
    return False
