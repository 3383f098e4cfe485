"""Adds the cost of a call's earlier attempts to its reply, or to the details of its error.

A call has earlier attempts if a replica was lost before another one answered, or if models could
not answer before one did. Each attempt that may have cost money is listed. If its cost is unknown,
the list has the most that it can have cost, as far as that is known.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from google.rpc import error_details_pb2, status_pb2

from arena_llm.errors import DETAILS_TRAILER
from arena_llm.types import CallReport
from arena_llm.v1 import call_report_pb2, error_pb2, reply_pb2
from arena_llm.wire import from_message, to_message
from services.common.errors import BackendError
from services.common.trailers import MAX_DETAILS_BYTES, cut_text

#: What a call took before its present attempt, the oldest first.
Reports = Sequence[call_report_pb2.CallReport]

Trailers = tuple[tuple[str, str | bytes], ...]

_MAX_NAMES = 400  # bytes of the text that names the failed models


def report_lost(reasons: Iterable[str], most: int | None) -> call_report_pb2.CallReport:
    """Return the report of attempts whose backend was lost. most: see router.costs."""
    report = call_report_pb2.CallReport()
    if most == 0:  # such as a local model
        return report
    for reason in reasons:
        attempt = report.attempts.add(reason=error_pb2.ErrorReason.Value(f"ERROR_REASON_{reason}"))
        if most is not None:
            attempt.max_cost_picousd = most
    return report


def add_reports(
    message: reply_pb2.GenerateResponse | call_report_pb2.CallReport, reports: Reports
) -> None:
    """Add what earlier attempts took to a reply, or to the report of an error."""
    earlier = [attempt for report in reports for attempt in report.attempts]
    own = list(message.attempts)
    del message.attempts[:]
    message.attempts.extend([*earlier, *own])
    usage = message.usage
    for report in reports:
        if not report.usage.HasField("cost_picousd") and report.attempts:
            usage.ClearField("cost_picousd")
            usage.ClearField("cost_basis")
        elif usage.HasField("cost_picousd"):
            usage.cost_picousd += report.usage.cost_picousd


def add_to_reply(data: bytes, reports: Reports) -> bytes:
    """Return a serialized GenerateResponse with the reports."""
    message = reply_pb2.GenerateResponse.FromString(data)
    add_reports(message, reports)
    return message.SerializeToString()


def add_to_error(error: BackendError, reports: Reports) -> None:
    """Add the reports to an error of the router."""
    if not reports:
        return
    message = call_report_pb2.CallReport()
    if error.report is None:
        message.usage.cost_picousd = 0  # an error without a report has paid nothing
    else:
        message = to_message(error.report, call_report_pb2.CallReport)
    add_reports(message, reports)
    if message.attempts:
        error.report = from_message(message, CallReport)


def add_to_trailers(trailers: Trailers, reports: Reports, failed_models: str = "") -> Trailers:
    """Return the trailers of a backend's error with the reports. failed_models: its metadata."""
    if not reports and not failed_models:
        return trailers
    return tuple(
        (key, _extend_status(value, reports, failed_models) if isinstance(value, bytes) else value)
        if key == DETAILS_TRAILER
        else (key, value)
        for key, value in trailers
    )


def _extend_status(data: bytes, reports: Reports, failed_models: str) -> bytes:
    status = status_pb2.Status.FromString(data)
    info, report = error_details_pb2.ErrorInfo(), call_report_pb2.CallReport()
    report.usage.cost_picousd = 0  # the last attempt has no report if it paid nothing
    place: Any = None
    for detail in status.details:
        if failed_models and detail.Unpack(info):
            info.metadata["failed_models"] = cut_text(failed_models, _MAX_NAMES)
            detail.Pack(info)
        elif detail.Unpack(report):
            place = detail
    add_reports(report, reports)
    while True:
        if report.attempts:
            place = status.details.add() if place is None else place
            place.Pack(report)
        extended: bytes = status.SerializeToString()
        if len(extended) <= MAX_DETAILS_BYTES:
            return extended
        if len(report.attempts) < 2:
            return data
        del report.attempts[0]  # as in a service's own report, the oldest ones are left out
