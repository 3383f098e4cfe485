"""LlmService as byte handlers, and the parsing of requests.

The handlers take and return bytes, because the router forwards them unchanged. A service
parses them itself, so that it can answer INVALID_ARGUMENT to bytes that do not parse: gRPC's
deserializer would answer INTERNAL.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Container
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from arena_llm.v1 import llm_service_pb2
from services.common.digits import read_digits
from services.common.errors import OTHER_REVISION, ClientTooOld, InvalidRequest
from services.common.service_info import MINIMUM_CLIENT_REVISION

Context = grpc.aio.ServicerContext[Any, Any]

SERVICE = llm_service_pb2.DESCRIPTOR.services_by_name["LlmService"]

#: The metadata with the revision of the caller's contract.
CONTRACT_HEADER = "arena-contract"

#: Smaller messages, in bytes, are not counted: parsing one takes at most 5 ms. Larger ones are
#: parsed and checked in another thread.
SMALL = 64 * 1024
#: The largest number of fields of a request, including those of its parts. A conversation of
#: 4096 messages has 12288.
MAX_FIELDS = 32_768


class LlmHandlers(Protocol):
    """The RPCs: a backend's servicer, or the router's."""

    async def Generate(self, data: bytes, context: Context) -> bytes: ...

    def StreamGenerate(self, data: bytes, context: Context) -> AsyncIterator[bytes]: ...

    async def Score(self, data: bytes, context: Context) -> bytes: ...

    async def CountTokens(self, data: bytes, context: Context) -> bytes: ...

    async def IsAvailable(self, data: bytes, context: Context) -> bytes: ...

    async def ListModels(self, data: bytes, context: Context) -> bytes: ...

    async def GetServiceInfo(self, data: bytes, context: Context) -> bytes: ...


def llm_service_handler(handlers: LlmHandlers) -> grpc.GenericRpcHandler[Any, Any]:
    """Bind the handlers to LlmService's methods, as its descriptor lists them."""
    methods = {
        method.name: (
            grpc.unary_stream_rpc_method_handler
            if method.server_streaming
            else grpc.unary_unary_rpc_method_handler
        )(getattr(handlers, method.name))
        for method in SERVICE.methods
    }
    return grpc.method_handlers_generic_handler(SERVICE.full_name, methods)


M = TypeVar("M", bound=Message)


def check_client(context: Context) -> None:
    """Raise ClientTooOld if the caller's contract is older than MINIMUM_CLIENT_REVISION.

    A caller without the header "arena-contract", such as grpcurl, is served.
    """
    for key, value in context.invocation_metadata() or ():
        if key != CONTRACT_HEADER or not isinstance(value, str):
            continue
        revision = read_digits(value)
        if revision is not None and revision < (minimum := MINIMUM_CLIENT_REVISION):
            raise ClientTooOld(
                f"the client implements revision {value} of the contract, and this service needs "
                f"{minimum} or more: install the version of arena-llm that the service has",
                metadata={"client_revision": value, "minimum_client_revision": str(minimum)},
            )


def parse(message_type: type[M], data: bytes) -> M:
    """Parse a message. Raises InvalidRequest for bytes that do not parse, or too many fields."""
    if len(data) > SMALL:
        scan(message_type.DESCRIPTOR, data)
    return parse_scanned(message_type, data)


def parse_scanned(message_type: type[M], data: bytes) -> M:
    """Parse a message whose fields have been counted, or that is small."""
    try:
        return message_type.FromString(data)
    except DecodeError as error:
        raise InvalidRequest(
            f"the bytes do not parse as {message_type.DESCRIPTOR.full_name}, "
            f"or are nested too deeply: {OTHER_REVISION}"
        ) from error


@dataclass
class Scan:
    """What a message holds, read from its bytes.

    top: number, begin and end of each field that is not inside another. unknown: path and number
    of the first field that the contract lacks; empty if there is none.
    """

    top: list[tuple[int, int, int]]
    unknown: str = ""

    def pick(self, data: bytes, numbers: Container[int]) -> bytes:
        """Return the bytes of the fields with these numbers."""
        return b"".join(data[begin:end] for number, begin, end in self.top if number in numbers)


def scan(descriptor: Any, data: bytes, *, deep: bool = True) -> Scan:
    """Count the fields of a message of that type before protobuf makes objects of them.

    A message of 13 MB can hold a million labels. Parsing it takes half a second, and all other
    calls wait for it. Raises InvalidRequest if there are too many. Bytes that are not such a
    message pass, because the parser refuses them.

    deep: also the fields inside others. Without it, those are neither counted nor parsed.
    """
    found = Scan([])
    with suppress(IndexError):  # the message ends in the middle of a number
        _scan(descriptor, data, found, deep)
    return found


def _scan(descriptor: Any, data: bytes, found: Scan, deep: bool) -> None:
    position = count = 0
    top = ""
    # End, type and path of each message that contains the position; innermost last.
    open_messages = [(len(data), descriptor, "")]
    while open_messages:
        end, kind, path = open_messages[-1]
        if position >= end:
            open_messages.pop()
            continue
        begin = position
        tag, position = _varint(data, position)
        number = tag >> 3
        field = kind.fields_by_number.get(number)
        at_top = len(open_messages) == 1
        if at_top:
            top = field.name if field else ""
        if field is None and not found.unknown:
            found.unknown = f"{path}{number}"
        count += 1
        if count > MAX_FIELDS:
            raise InvalidRequest(
                f"{top or 'the request'} holds too much: a request may have at most {MAX_FIELDS} "
                "fields, including those of its parts",
                field=top,
            )
        close = 0
        match tag & 7:
            case 0:
                _, position = _varint(data, position)
            case 1:
                position += 8
            case 2:
                size, position = _varint(data, position)
                close = position + size
                if deep and field and field.message_type:
                    open_messages.append((close, field.message_type, f"{path}{field.name}."))
                else:
                    position = close
            case 5:
                position += 4
            case 6 | 7:
                return  # not a wire type
            # 3 and 4 begin and end a group; its fields are counted like all others.
        if at_top:
            found.top.append((number, begin, close or position))


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """Read the number that begins at a position; return it and the position after it."""
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
