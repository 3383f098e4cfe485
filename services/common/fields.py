"""Counts the fields of a message on the wire, before protobuf makes objects of them.

A message of 13 MB can hold a million labels. Parsing it takes half a second, in which all
other calls wait.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from services.common.errors import InvalidRequest

#: Bytes of the largest message whose fields are not counted: parsing it takes at most 10 ms.
_SMALL = 256 * 1024
#: Most fields of a request, with those of its parts; a conversation of 4096 messages has 12288.
MAX_FIELDS = 32_768


def check_field_count(descriptor: Any, data: bytes) -> None:
    """Raise InvalidRequest if a message of that type has too many fields.

    Bytes that are not such a message pass: the parser refuses them.
    """
    if len(data) > _SMALL:
        with suppress(IndexError):  # the message ends in the middle of a number
            _count(descriptor, data)


def _count(descriptor: Any, data: bytes) -> None:
    position = count = 0
    top = ""
    # End and type of each message that contains the position; the innermost is last.
    open_messages = [(len(data), descriptor)]
    while open_messages:
        end, kind = open_messages[-1]
        if position >= end:
            open_messages.pop()
            continue
        tag, position = _varint(data, position)
        field = kind.fields_by_number.get(tag >> 3)
        if len(open_messages) == 1:
            top = field.name if field else ""
        count += 1
        if count > MAX_FIELDS:
            raise InvalidRequest(
                f"{top or 'the request'} holds too much: a request has at most {MAX_FIELDS} "
                "fields, counted with those of its parts",
                field=top,
            )
        match tag & 7:
            case 0:
                _, position = _varint(data, position)
            case 1:
                position += 8
            case 2:
                size, position = _varint(data, position)
                if field and field.message_type:
                    open_messages.append((position + size, field.message_type))
                else:
                    position += size
            case 5:
                position += 4
            case 6 | 7:
                return  # no such type
            # 3 and 4 begin and end a group, whose fields are counted like all others.


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """The number that begins at a position, and the position after it."""
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
        shift += 7
        if shift > 63:
            raise IndexError("a number is longer than ten bytes")
