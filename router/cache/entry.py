"""Keys of equal requests, and kept replies: pure functions over messages and bytes."""

from __future__ import annotations

import secrets
import struct
from collections.abc import Iterator, Sequence
from typing import Any

from google.protobuf.message import Message

from arena_llm.types import Message as ChatMessage
from arena_llm.v1 import generate_pb2, reply_pb2
from arena_llm.wire import from_message, to_message
from services.common.backend import split_message
from services.common.shared_calls import digest_request
from services.common.streaming import PartNumbering

Event = generate_pb2.StreamGenerateResponse

_LENGTH = struct.Struct("<I")


def digest(request: Message) -> bytes:
    """Return a hash that equal requests share. Clears what does not change the model's reply."""
    if isinstance(request, generate_pb2.GenerateRequest):
        request.ClearField("fallback_models")  # only this model's reply is kept
    return digest_request(request)


def may_keep(request: generate_pb2.GenerateRequest) -> bool:
    """Whether an equal request may get the same reply: it is greedy, seeded or has opted in."""
    if request.cache_use == generate_pb2.CACHE_USE_BYPASS or _names_url(request):
        return False
    if request.cache_use == generate_pb2.CACHE_USE_ALLOW:
        return True
    config = request.config
    if config.HasField("seed"):
        return True
    greedy = (config.HasField("temperature") and config.temperature == 0) or config.top_k == 1
    return greedy and not request.provider_options_json  # they may ask for sampling


def _names_url(request: generate_pb2.GenerateRequest) -> bool:
    """Whether the request names an image by URL, whose content may change."""
    return any(
        part.image.url for message in request.conversation.messages for part in message.parts
    )


def pack(reply: bytes, deltas: Sequence[bytes] = ()) -> bytes:
    """Return the bytes to keep: the reply, and the events if it came as a stream."""
    return b"".join(part for item in (reply, *deltas) for part in (_LENGTH.pack(len(item)), item))


def unpack(entry: bytes) -> list[bytes]:
    """Return the reply and the events of `pack`. Raises ValueError for other bytes."""
    items, place = [], 0
    while place < len(entry):
        if len(entry) < place + _LENGTH.size:
            raise ValueError("a kept reply is cut off")
        (length,) = _LENGTH.unpack_from(entry, place)
        place += _LENGTH.size
        items.append(entry[place : place + length])
        place += length
    if not items or place != len(entry):
        raise ValueError("a kept reply is cut off")
    return items


def make_reply(entry: bytes, request_id: str, seconds: float) -> reply_pb2.GenerateResponse:
    """Return a kept GenerateResponse as the reply to another call, which costs nothing.

    seconds: since that call arrived.
    """
    reply = reply_pb2.GenerateResponse.FromString(unpack(entry)[0])
    reply.cached = True
    reply.replayed = False
    reply.request_id = request_id or secrets.token_hex(16)
    reply.usage.cost_picousd = 0
    reply.usage.cost_basis = reply_pb2.COST_BASIS_FREE
    del reply.attempts[:]
    reply.timings.Clear()
    reply.timings.total_seconds = seconds
    return reply


def make_events(entry: bytes, request_id: str, seconds: float) -> Iterator[Event]:
    """Yield a kept reply as a stream: its own events, or one for each part of its message."""
    reply = make_reply(entry, request_id, seconds)
    start: Any = generate_pb2.StreamStart(
        id=reply.id, request_id=reply.request_id, served_by=reply.served_by
    )
    events = [Event(start=start), *_list_deltas(entry, reply), Event(completion=reply)]
    for sequence, event in enumerate(events):
        event.sequence = sequence
        yield event


def _list_deltas(entry: bytes, reply: reply_pb2.GenerateResponse) -> Iterator[Event]:
    if kept := unpack(entry)[1:]:
        yield from map(Event.FromString, kept)
        return
    numbering = PartNumbering()
    for piece in split_message(from_message(reply.message, ChatMessage)):
        for delta in numbering.number(piece):
            yield Event(delta=to_message(delta, generate_pb2.PartDelta))
