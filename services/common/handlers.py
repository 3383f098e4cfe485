"""The five RPCs as byte handlers, which is what a server is made of here.

Bytes, because the router passes them on as they are, and because a backend that
parses them itself can answer INVALID_ARGUMENT to a message that does not parse,
where gRPC's own deserializer would answer INTERNAL.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Protocol, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from arena_llm.v1 import llm_service_pb2
from services.common.errors import InvalidRequest
from services.common.fields import check_field_count

Context = grpc.aio.ServicerContext[Any, Any]

SERVICE = llm_service_pb2.DESCRIPTOR.services_by_name["LlmService"]


class LlmHandlers(Protocol):
    """What answers the five RPCs: a backend's servicer, or the router's."""

    async def Generate(self, data: bytes, context: Context) -> bytes: ...

    def StreamGenerate(self, data: bytes, context: Context) -> AsyncIterator[bytes]: ...

    async def Score(self, data: bytes, context: Context) -> bytes: ...

    async def IsAvailable(self, data: bytes, context: Context) -> bytes: ...

    async def ListModels(self, data: bytes, context: Context) -> bytes: ...


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


def parse(message_type: type[M], data: bytes) -> M:
    """Parse a message. Raises InvalidRequest for other bytes and for too many fields."""
    check_field_count(message_type.DESCRIPTOR, data)
    try:
        return message_type.FromString(data)
    except DecodeError as error:
        raise InvalidRequest(
            f"the bytes do not parse as {message_type.DESCRIPTOR.full_name}, "
            "or its parts are nested too deeply"
        ) from error
