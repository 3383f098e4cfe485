"""From a gRPC status to the client's error (AIP-193: google.rpc.Status in a trailer)."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from arena_llm._grpc import grpc
from arena_llm.errors import BY_CODE, ArenaError, UnknownError

_DETAILS = "grpc-status-details-bin"

# How grpc begins the message of a call that never left this process. A server's error
# is not taken for one, because it has details.
_NOT_CONNECTED = ("failed to connect to all addresses", "DNS resolution failed")


def arena_error(error: grpc.RpcError, *, target: str, model: str, timeout: float) -> ArenaError:
    """The error that a failed call raises.

    target, model, timeout (seconds): of the call, for the message and `model`.
    """
    code, details = error.code(), error.details() or ""
    status = _status(error)
    info = error_details_pb2.ErrorInfo()
    bad = error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    retry_after = None
    for detail in status.details:
        # Unpack does nothing where the type is another one.
        if not (detail.Unpack(info) or detail.Unpack(bad)) and detail.Unpack(retry):
            retry_after = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
    reason, message = info.reason, details or status.message
    if not reason:
        reason, message = _local(code, message, target, timeout)
    return BY_CODE.get(code.name, UnknownError)(
        message or "no message",
        code=code.name,
        reason=reason,
        retry_after=retry_after,
        model=model,
        field=bad.field_violations[0].field if bad.field_violations else "",
        metadata=dict(info.metadata),
    )


def never_connected(error: grpc.RpcError) -> bool:
    """Whether the call failed before a connection was made: nobody has seen it."""
    return (
        error.code() is grpc.StatusCode.UNAVAILABLE
        and (error.details() or "").startswith(_NOT_CONNECTED)
        and not _status(error).details
    )


def _status(error: grpc.RpcError) -> status_pb2.Status:
    trailing: Any = error.trailing_metadata() or ()  # pairs, which the stubs do not know
    for key, value in trailing:
        if key == _DETAILS:
            try:
                return status_pb2.Status.FromString(bytes(value))
            except DecodeError:
                # The code and the message still say what happened.
                break
    return status_pb2.Status()


def _local(code: grpc.StatusCode, message: str, target: str, timeout: float) -> tuple[str, str]:
    """Return reason and message of a status without ErrorInfo, which grpc made."""
    match code:
        case grpc.StatusCode.UNAVAILABLE if message.startswith(_NOT_CONNECTED):
            why = message.rpartition("last error: ")[2]
            return "UNREACHABLE", (
                f"nothing answers at {target}: start the services with `make up`, "
                f"or set ARENA_LLM_TARGET to a router that runs ({why})"
            )
        case grpc.StatusCode.UNAVAILABLE:
            return "CONNECTION_LOST", f"the connection to {target} was lost ({message})"
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return "", f"no answer from {target} within {timeout:g} s"
        case grpc.StatusCode.UNIMPLEMENTED:
            return "", f"{target} does not know this method: is it Arena LLM? ({message})"
    return "", message
