"""What the router reads of the replies that it forwards: for its log, metrics and quotas."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError

from arena_llm.v1 import generate_pb2, reply_pb2, score_pb2
from services.common.call import CallRecord
from services.common.handlers import SMALL, scan
from services.common.trailers import read_report
from services.common.validation import MAX_NAME

_TYPES: dict[str, Any] = {
    "Generate": reply_pb2.GenerateResponse,
    "Score": score_pb2.ScoreResponse,
}
#: What is read of a large reply.
_FIGURES = frozenset(("id", "request_id", "replayed", "usage", "served_by", "timings", "attempts"))


class Paid(NamedTuple):
    """What a call counts for a token's quotas: tokens, and 10^-12 US dollars."""

    tokens: int
    picousd: int


def note_reply(record: CallRecord, data: bytes) -> Paid | None:
    """Add to the record what the reply of a unary call says, and return what it has paid.

    None if it does not say.
    """
    kind = _TYPES.get(record.rpc)
    if kind is None:
        return None
    if len(data) > SMALL:  # it has token traces, which are not needed here
        numbers = {f.number for f in kind.DESCRIPTOR.fields if f.name in _FIGURES}
        data = scan(kind.DESCRIPTOR, data, deep=False).pick(data, numbers)
    try:
        return _note(record, kind.FromString(data))
    except DecodeError:  # the caller gets it anyway
        return None


def note_last_event(record: CallRecord, data: bytes) -> Paid | None:
    """Note the latest event of a stream; return what it paid, None before its end."""
    try:
        event = generate_pb2.StreamGenerateResponse.FromString(data)
    except DecodeError:
        return None
    kind = event.WhichOneof("event")
    return _note(record, getattr(event, kind)) if kind in ("completion", "interruption") else None


def note_failure(record: CallRecord, trailers: Iterable[tuple[str, str | bytes]]) -> Paid | None:
    """Note a failed call, by the details of its error; return what it paid."""
    report = read_report(trailers)
    if report is None:
        return None
    if report.request_id and not record.has("request_id"):
        record.add(request_id=report.request_id[:MAX_NAME])
    if report.HasField("usage"):
        record.add_usage(report.usage)
    return _count(report.usage, report.attempts)


def count_most(attempts: Iterable[reply_pb2.Attempt]) -> int:
    """Return what attempts have cost, in 10^-12 US dollars: the most if the cost is not known."""
    return sum(
        one.cost_picousd if one.HasField("cost_picousd") else one.max_cost_picousd
        for one in attempts
    )


def _count(usage: reply_pb2.Usage, attempts: Iterable[reply_pb2.Attempt]) -> Paid:
    is_known = usage.HasField("cost_picousd")
    picousd = usage.cost_picousd if is_known else count_most(attempts)
    return Paid(usage.prompt_tokens + usage.completion_tokens, picousd)


def _note(record: CallRecord, reply: Any) -> Paid:
    if reply.request_id and not record.has("request_id"):
        record.add(request_id=reply.request_id[:MAX_NAME])
    if isinstance(reply, reply_pb2.GenerateResponse):
        if reply.id:
            record.add(id=reply.id[:MAX_NAME])
        if reply.replayed:
            record.add(replayed=True)
            return Paid(0, 0)
    if reply.served_by.replica:
        record.add(replica=reply.served_by.replica[:MAX_NAME])
    if reply.HasField("usage"):
        record.add_usage(reply.usage)
        record.timings = reply.timings  # for the metrics; the service logs them
    return _count(reply.usage, getattr(reply, "attempts", ()))
