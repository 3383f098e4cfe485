"""How an error is sent: as a status message, and as google.rpc.Status in the trailing metadata."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import astuple, replace

from google.protobuf.any_pb2 import Any as AnyProto
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from arena_llm.errors import DETAILS_TRAILER
from arena_llm.types import CallReport, ServedBy
from arena_llm.v1 import call_report_pb2
from arena_llm.wire import to_message
from services.common.errors import BackendError, repair_text

_DOMAIN = "arena_llm"
#: Bytes of the path of a field.
_MAX_FIELD = 300

#: The longest delay that is sent: a Duration cannot hold every number.
_MAX_SECONDS = 1e9

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
    """Return the text, cut to `most` bytes of UTF-8 with an ellipsis."""
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
        reason=error.reason, domain=_DOMAIN, metadata=_cut_metadata(error.metadata)
    )
    packed = [_pack(info)]
    short = cut_text(error.message, _MAX_COPY_BYTES)
    if error.field:
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=cut_text(error.field, _MAX_FIELD), description=short, reason=error.reason
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
