"""The errors of a call: one class for each gRPC status code of the contract.

ArenaError
├── InvalidArgumentError     INVALID_ARGUMENT     a field is wrong, or the prompt is too long
├── NotFoundError            NOT_FOUND            the prefix or the model is unknown
├── UnsupportedError         UNIMPLEMENTED        this backend cannot do that
├── FailedPreconditionError  FAILED_PRECONDITION  fix the key, the credits or the configuration
├── UnauthenticatedError     UNAUTHENTICATED      the caller's own token is missing or wrong
├── PermissionDeniedError    PERMISSION_DENIED    refused by the provider
├── ResourceExhaustedError   RESOURCE_EXHAUSTED   rate limit or full queue: see retry_after
├── AbortedError             ABORTED              the replies do not fit the constraint
├── AlreadyExistsError       ALREADY_EXISTS       another request has the same request_id
├── UnavailableError         UNAVAILABLE          router, backend or provider cannot be reached
├── DeadlineExceededError    DEADLINE_EXCEEDED    no reply within the timeout
├── CallCancelledError       CANCELLED            by the server, or because the client was closed
├── InternalError            INTERNAL             a bug in a service
└── UnknownError             UNKNOWN              a status that is not in the contract

Otherwise a call raises only TypeError, for an unknown option, and asyncio.CancelledError, in
a cancelled task.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from arena_llm.types import CallReport, Completion
from arena_llm.v1 import REVISION, call_report_pb2
from arena_llm.wire import from_message

#: The trailer that holds a google.rpc.Status (AIP-193).
DETAILS_TRAILER = "grpc-status-details-bin"

#: How grpc begins the message of a call that never left this process. A server's error may
#: have the same beginning, but it has details.
NOT_CONNECTED = ("failed to connect to all addresses", "DNS resolution failed")

#: Bytes of a call's metadata. gRPC refuses some calls with more, and all with twice as much.
_MAX_METADATA = 8192


class ArenaError(Exception):
    """A call that failed. It can be pickled.

    code: the name of the gRPC status code, such as "NOT_FOUND".
    reason: a stable name, more precise than the code, such as "MODEL_NOT_FOUND"; empty if
        the status has none.
    message: what is wrong and how to fix it.
    retry_after: seconds after which another attempt makes sense; None if unknown.
    model: the model of the request; empty if it had none.
    field: the path of the wrong field, such as "config.temperature"; empty if
        no field is wrong.
    metadata: details for programs, such as {"variable": "OPENAI_API_KEY"}.
    report: what the call tried and paid; None if the status does not say.
    partial: what a stream had generated when it failed; None if there is nothing.
    """

    code: str = "UNKNOWN"
    report: CallReport | None = None
    partial: Completion | None = None

    def __init__(
        self,
        message: str,
        *,
        code: str = "",
        reason: str = "",
        retry_after: float | None = None,
        model: str = "",
        field: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        # Pickle needs one positional argument and a plain __dict__.
        super().__init__(message)
        self.message = message
        self.code = code or type(self).code
        self.reason = reason
        self.retry_after = retry_after
        self.model = model
        self.field = field
        self.metadata = dict(metadata or {})

    def __str__(self) -> str:
        notes = [
            f"{label} {value}"
            for label, value in (("field", self.field), ("model", self.model))
            if value and value not in self.message
        ]
        if self.retry_after is not None:
            notes.append(f"retry after {self.retry_after:g} s")
        suffix = f" ({'; '.join(notes)})" if notes else ""
        return f"{self.reason or self.code}: {self.message}{suffix}"


class InvalidArgumentError(ArenaError, ValueError):
    """The request breaks the contract, or does not fit the model's context."""

    code = "INVALID_ARGUMENT"


class NotFoundError(ArenaError):
    """No backend has this prefix, or its backend does not have the model."""

    code = "NOT_FOUND"


class UnsupportedError(ArenaError):
    """The backend cannot honour a part of the request. It is refused, never ignored."""

    code = "UNIMPLEMENTED"


class FailedPreconditionError(ArenaError):
    """A key, the credits or a configuration must be fixed first."""

    code = "FAILED_PRECONDITION"


class UnauthenticatedError(ArenaError):
    """The caller's own token is missing or wrong."""

    code = "UNAUTHENTICATED"


class PermissionDeniedError(ArenaError):
    """The provider refuses the request (moderation, region), or the token lacks the model."""

    code = "PERMISSION_DENIED"


class ResourceExhaustedError(ArenaError):
    """A rate limit, a full queue or a token's quota; retry after `retry_after` seconds."""

    code = "RESOURCE_EXHAUSTED"


class AbortedError(ArenaError):
    """The model replied, but its replies do not fit the constraint; see `report` for the cost."""

    code = "ABORTED"


class AlreadyExistsError(ArenaError):
    """Another request has the same request_id."""

    code = "ALREADY_EXISTS"


class UnavailableError(ArenaError):
    """The router, the backend or the provider cannot be reached now."""

    code = "UNAVAILABLE"


class DeadlineExceededError(ArenaError):
    """The reply did not arrive within the timeout."""

    code = "DEADLINE_EXCEEDED"


class CallCancelledError(ArenaError):
    """The server cancelled the call, or the client was closed during it."""

    # Not named "CancelledError", because asyncio has that name.
    code = "CANCELLED"


class InternalError(ArenaError):
    """A bug in a service; the message names the line of its log."""

    code = "INTERNAL"


class UnknownError(ArenaError):
    """A status that is not in the contract; `code` is its name."""


#: The class of each status code. Other codes become an UnknownError.
BY_CODE: Mapping[str, type[ArenaError]] = {
    cls.code: cls
    for cls in (
        InvalidArgumentError,
        NotFoundError,
        UnsupportedError,
        FailedPreconditionError,
        UnauthenticatedError,
        PermissionDeniedError,
        ResourceExhaustedError,
        AbortedError,
        AlreadyExistsError,
        UnavailableError,
        DeadlineExceededError,
        CallCancelledError,
        InternalError,
        UnknownError,
    )
}


def error_from_status(error: Any, *, target: str, model: str, timeout: float) -> ArenaError:
    """Return the client's error for a grpc.RpcError.

    target, model, timeout (seconds): those of the call, for the message and `model`.
    """
    code, details = error.code().name, error.details() or ""
    status = _read_status(error)
    info = error_details_pb2.ErrorInfo()
    bad = error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    report = call_report_pb2.CallReport()
    has_retry = has_report = False
    for detail in status.details:
        # Unpack does nothing for a detail of another type.
        if not (detail.Unpack(info) or detail.Unpack(bad)):
            has_retry = detail.Unpack(retry) or has_retry
            has_report = detail.Unpack(report) or has_report
    reason, message = info.reason, details or status.message
    if not reason:
        reason, message = _explain_local(code, message, target, timeout)
    failure = BY_CODE.get(code, UnknownError)(
        message or "no message",
        code=code,
        reason=reason,
        retry_after=retry.retry_delay.ToTimedelta().total_seconds() if has_retry else None,
        model=model,
        field=bad.field_violations[0].field if bad.field_violations else "",
        metadata=dict(info.metadata),
    )
    if has_report:
        failure.report = from_message(report, CallReport)
    return failure


def never_connected(error: Any) -> bool:
    """Whether a call failed before it had a connection, so that no server has seen it."""
    return (
        error.code().name == "UNAVAILABLE"
        and (error.details() or "").startswith(NOT_CONNECTED)
        and not _read_status(error).details
    )


def _read_status(error: Any) -> status_pb2.Status:
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_TRAILER:
            try:
                return status_pb2.Status.FromString(bytes(value))
            except DecodeError:
                break  # The code and the message still say what happened.
    return status_pb2.Status()


def _explain_local(code: str, message: str, target: str, timeout: float) -> tuple[str, str]:
    """Return the reason and the message for a status that grpc made in this process."""
    match code:
        case "UNAVAILABLE" if message.startswith(NOT_CONNECTED):
            cause = message.rpartition("last error: ")[2]
            if message.startswith(NOT_CONNECTED[1]):
                problem = f"the host of {target} is not known: set ARENA_LLM_TARGET to HOST:PORT"
            elif "handshake" in cause or "Peer name" in cause:
                problem = (
                    f"TLS with {target} failed: ARENA_LLM_CA must name the authority of its "
                    "certificate, ARENA_LLM_SERVER_NAME one of its names, and "
                    "ARENA_LLM_CERTIFICATE and _KEY a certificate that it accepts"
                )
            elif "Socket closed" in cause or "reset by peer" in cause:
                problem = (
                    f"{target} closes the connection: if it is encrypted, set ARENA_LLM_CA, and if "
                    "it asks for a certificate, ARENA_LLM_CERTIFICATE and _KEY"
                )
            elif "HTTP/2" in cause or "http1" in cause:
                problem = (
                    f"{target} is not a gRPC server: is it the port of another program? A "
                    "router's is 50050 by default"
                )
            else:
                problem = (
                    f"nothing answers at {target}: start the services with `make up`, "
                    "or set ARENA_LLM_TARGET to a router that runs"
                )
            return "UNREACHABLE", f"{problem} ({cause})"
        case "UNAVAILABLE":
            return "CONNECTION_LOST", f"the connection to {target} was lost ({message})"
        case "RESOURCE_EXHAUSTED" if "message larger than max" in message:
            return "TOO_LARGE", f"a message of this call has too many bytes ({message})"
        case "RESOURCE_EXHAUSTED" if "metadata size exceeds" in message:
            problem = (
                f"the metadata of this call, such as its token, has too many bytes for {target}: "
                f"all headers together may have {_MAX_METADATA}, their names included"
            )
            return "TOO_LARGE", f"{problem} ({message})"
        case "CANCELLED":
            return "CANCELLED", message
        case "DEADLINE_EXCEEDED":
            return "DEADLINE_EXCEEDED", f"no reply from {target} within {timeout:g} s"
        case "UNIMPLEMENTED":
            problem = f"{target} does not know this method: is it Arena LLM, of the same version?"
            return "", f"{problem} ({message})"
        case "INTERNAL" if "deserializing response" in message:
            return "", _explain_unreadable(target)
    return "", message


def unreadable_reply(target: str, model: str) -> InternalError:
    """Return the error of a reply that does not parse."""
    return InternalError(_explain_unreadable(target), model=model)


def _explain_unreadable(target: str) -> str:
    return (
        f"the reply of {target} cannot be read: it may be older or newer than this client, which "
        f"implements revision {REVISION} of the contract; use the same version of Arena LLM at "
        "both ends"
    )
