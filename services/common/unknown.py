"""Refuses fields and values of enums that this revision of the contract does not have.

Ignoring such a field would drop something that the caller requested. In replies, unknown fields
are ignored.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.protobuf.message import Message as ProtoMessage
from google.protobuf.unknown_fields import UnknownFieldSet

from arena_llm.v1 import REVISION
from services.common.errors import OTHER_REVISION, UnknownField


def check_known(request: ProtoMessage, data: bytes) -> None:
    """Raise UnknownField if the request has an unknown field, at any depth.

    data: the bytes of the request, which loses its unknown fields.
    """
    size = request.ByteSize()
    request.DiscardUnknownFields()
    if request.ByteSize() != size:
        path, numbers = next(_list_unknown_fields(type(request).FromString(data), ""))
        refuse_unknown(path, *numbers)


def refuse_unknown(path: str, *numbers: int) -> None:
    """Raise UnknownField for the unknown fields of the message at a path, which ends with "."."""
    text = ", ".join(map(str, numbers))
    raise UnknownField(
        f"this service does not know the field {path}{text}: {OTHER_REVISION}",
        field=path.removesuffix("."),
        metadata={"field_numbers": text, "contract_revision": str(REVISION)},
    )


def _list_unknown_fields(message: Any, path: str) -> Iterator[tuple[str, list[int]]]:
    """Yield the path of each message with unknown fields, and up to ten of their numbers."""
    unknown: Any = UnknownFieldSet(message)  # its stub lacks __iter__
    if numbers := sorted({field.field_number for field in unknown}):
        yield path, numbers[:10]
    for field, value in message.ListFields():
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        if field.is_repeated:
            for index, item in enumerate(value):
                yield from _list_unknown_fields(item, f"{path}{field.name}[{index}].")
        else:
            yield from _list_unknown_fields(value, f"{path}{field.name}.")


def make_unknown_value(path: str, value: int) -> UnknownField:
    """Return the error for a value of an enum that has no name."""
    return UnknownField(
        f"this service does not know the value {value} of {path}: {OTHER_REVISION}",
        field=path,
        metadata={"field_numbers": str(value), "contract_revision": str(REVISION)},
    )
