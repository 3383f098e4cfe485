"""Callers of an earlier or a later contract: the error says so, and how to bring both together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from arena_llm import AsyncClient, Client
from arena_llm.errors import InternalError, UnsupportedError
from arena_llm.v1 import REVISION
from router.config import Route, RouterConfig
from router.servicer import Router
from services.common.handlers import SERVICE
from tests.support.scripted import scripted, serving
from tests.support.wire import failure, reason

STRING, DOUBLE, MESSAGE = 9, 1, 11


def make_field(name: str, number: int, kind: int, type_name: str = "") -> dict[str, Any]:
    named = {"type_name": type_name} if type_name else {}
    return {"name": name, "number": number, "type": kind, "label": 1, **named}


def make_old_request() -> Any:
    """The class of a GenerateRequest before messages had parts, and before raw prompts."""
    messages = {
        "Message": [make_field("role", 1, 5), make_field("content", 2, STRING)],
        "Conversation": [make_field("messages", 1, MESSAGE, ".old.Message")],
        "Config": [make_field("temperature", 1, DOUBLE), make_field("top_p", 2, DOUBLE)],
        "Request": [
            make_field("model", 1, STRING),
            make_field("prompt", 2, STRING),
            make_field("conversation", 3, MESSAGE, ".old.Conversation"),
            make_field("config", 4, MESSAGE, ".old.Config"),
            make_field("session", 6, STRING),
        ],
    }
    file = FileDescriptorProto(name="old.proto", package="old", syntax="proto3")
    for name, fields in messages.items():
        file.message_type.append(DescriptorProto(name=name, field=fields))
    pool = DescriptorPool()
    pool.Add(file)
    return GetMessageClass(pool.FindMessageTypeByName("old.Request"))


Old = make_old_request()
REQUESTS = {
    "a conversation": Old(
        model="hf_x", conversation={"messages": {"role": 2, "content": "Your move?"}}
    ),
    "settings": Old(model="hf_x", prompt="Your move?", config={"temperature": 0.5}),
    "a session": Old(model="hf_x", prompt="Your move?", session="game-1"),
}


@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.parametrize("routed", [False, True], ids=["direct", "routed"])
async def test_an_old_request_says_that_the_contracts_differ(name: str, routed: bool) -> None:
    async with scripted() as (backend, served):
        config = RouterConfig(listen="127.0.0.1:0", routes={"hf_": Route(targets=[served.address])})
        async with serving(Router(config)) as router:
            address = router.address if routed else served.address
            async with grpc.aio.insecure_channel(address) as channel:
                call: Any = channel.unary_unary(f"/{SERVICE.full_name}/Generate")
                error = await failure(call(REQUESTS[name].SerializeToString()))
    assert reason(error) in ("INVALID_REQUEST", "UNKNOWN_FIELD")
    text = error.details() or ""
    assert "may be older or newer than this service" in text
    assert f"revision {REVISION} of the contract" in text
    assert "Use the same version of Arena LLM at both ends" in text
    assert not backend.history


async def test_a_reply_of_another_contract_says_the_same() -> None:
    old = b"\x0a\x02ok"  # the first field was the text

    async def answer(data: bytes, context: Any) -> bytes:
        return old

    async def stream(data: bytes, context: Any) -> AsyncIterator[bytes]:
        yield b"\x2a\x04" + old

    methods = {
        "Generate": grpc.unary_unary_rpc_method_handler(answer),
        "StreamGenerate": grpc.unary_stream_rpc_method_handler(stream),
    }
    server = grpc.aio.server()
    handler = grpc.method_handlers_generic_handler(SERVICE.full_name, methods)
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    differ = "may be older or newer than this client"
    async with AsyncClient(f"127.0.0.1:{port}") as llm:
        with Client(llm.target) as blocking:
            for call in (
                llm.generate("hf_x", "?"),
                asyncio.to_thread(blocking.generate, "hf_x", "?"),
                anext(llm.stream("hf_x", "?")),
                asyncio.to_thread(list, blocking.stream("hf_x", "?")),
            ):
                with pytest.raises(InternalError, match=differ):
                    await call
        with pytest.raises(UnsupportedError, match="of the same version"):
            await llm.count_tokens("hf_x", "?")
    await server.stop(None)
