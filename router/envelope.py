"""What the router reads of a request; it forwards the rest unread."""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

from google.protobuf.message import Message

from arena_llm.v1 import score_pb2
from services.common.call import CallRecord
from services.common.handlers import SMALL, parse, scan

M = TypeVar("M", bound=Message)

_ENVELOPE = ("model", "session", "request_id", "labels", "fallback_models")


async def read_envelope(message_type: type[M], data: bytes) -> M:
    """Return the fields of a request that the router needs."""
    if len(data) <= SMALL:
        return parse(message_type, data)
    return await asyncio.to_thread(_pick_envelope, message_type, data)


def _pick_envelope(message_type: type[M], data: bytes) -> M:
    fields = message_type.DESCRIPTOR.fields_by_name
    numbers = {fields[name].number for name in _ENVELOPE if name in fields}
    envelope = scan(message_type.DESCRIPTOR, data, deep=False).pick(data, numbers)
    return parse(message_type, envelope)


def add_request(request: Any, record: CallRecord) -> str:
    """Add a request to its log line, and return the name by which its replica is chosen."""
    if isinstance(request, score_pb2.CountTokensRequest):
        record.add_request(request.model, "", {})
        return ""
    record.add_request(request.model, request.session, request.labels, request.request_id)
    # The same request_id goes to the same replica, which knows its reply.
    return str(request.session or request.request_id)
