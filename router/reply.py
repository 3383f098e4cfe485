"""What the router reads of the replies that it forwards: for its log, metrics and quotas."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from google.protobuf.message import DecodeError

from arena_llm.v1 import error_pb2, generate_pb2, reply_pb2, score_pb2
from services.common.call import CallRecord
from services.common.errors import read_report
from services.common.handlers import SMALL, scan
from services.common.validation import MAX_NAME

_TYPES: dict[str, Any] = {
    "Generate": reply_pb2.GenerateResponse,
    "Score": score_pb2.ScoreResponse,
}
#: What is read of a large reply.
_FIGURES = frozenset(("id", "request_id", "replayed", "usage", "served_by", "timings"))


def note_reply(record: CallRecord, data: bytes) -> reply_pb2.Usage | None:
    """Add to the record what the reply of a unary call says, and return what it has paid.

    None if that is not known, or nothing was paid for this call.
    """
    kind = _TYPES.get(record.rpc)
    if kind is None:
        return None
    if len(data) > SMALL:  # with token traces, of which nothing is needed here
        numbers = {f.number for f in kind.DESCRIPTOR.fields if f.name in _FIGURES}
        data = scan(kind.DESCRIPTOR, data, deep=False).pick(data, numbers)
    try:
        return _note(record, kind.FromString(data))
    except DecodeError:  # the caller gets it anyway
        return None


def note_last_event(record: CallRecord, data: bytes) -> reply_pb2.Usage | None:
    """The same for the last event of a stream."""
    try:
        event = generate_pb2.StreamGenerateResponse.FromString(data)
    except DecodeError:
        return None
    kind = event.WhichOneof("event")
    return _note(record, getattr(event, kind)) if kind in ("completion", "interruption") else None


def note_failure(
    record: CallRecord, trailers: Iterable[tuple[str, str | bytes]]
) -> reply_pb2.Usage | None:
    """The same for a failed call, by the details of its error."""
    report = read_report(trailers)
    if report is not None and report.request_id and not record.has("request_id"):
        record.add(request_id=report.request_id[:MAX_NAME])
    if report is None or not report.HasField("usage"):
        return None
    record.add_usage(report.usage)
    return report.usage


def add_lost_request(data: bytes) -> bytes:
    """Return a reply of Generate with the attempt of a replica that was lost before it.

    A provider may have billed it, so what the call has cost together is not known any more.
    """
    reply = reply_pb2.GenerateResponse.FromString(data)
    if reply.usage.cost_basis == reply_pb2.COST_BASIS_FREE:
        return data
    attempts = [reply_pb2.Attempt(reason=error_pb2.ERROR_REASON_BACKEND_DOWN), *reply.attempts]
    del reply.attempts[:]
    reply.attempts.extend(attempts)
    reply.usage.ClearField("cost_picousd")
    reply.usage.ClearField("cost_basis")
    return reply.SerializeToString()


def _note(record: CallRecord, reply: Any) -> reply_pb2.Usage | None:
    if reply.request_id and not record.has("request_id"):
        record.add(request_id=reply.request_id[:MAX_NAME])
    if isinstance(reply, reply_pb2.GenerateResponse):
        if reply.id:
            record.add(id=reply.id[:MAX_NAME])
        if reply.replayed:
            record.add(replayed=True)
            return None
    if reply.served_by.replica:
        record.add(replica=reply.served_by.replica[:MAX_NAME])
    if not reply.HasField("usage"):
        return None
    usage: reply_pb2.Usage = reply.usage
    record.add_usage(usage)
    record.timings = reply.timings  # in the log of the service
    return usage
