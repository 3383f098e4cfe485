"""gRPC stubs, requests and status details, for tests without the client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from arena_llm.v1 import (
    call_report_pb2,
    generate_pb2,
    llm_service_pb2_grpc,
    models_pb2,
    score_pb2,
)

#: The methods about a prompt.
RPCS = ["Generate", "StreamGenerate", "Score", "CountTokens"]

_DETAILS = {
    "google.rpc.ErrorInfo": error_details_pb2.ErrorInfo,
    "google.rpc.BadRequest": error_details_pb2.BadRequest,
    "google.rpc.RetryInfo": error_details_pb2.RetryInfo,
    "arena_llm.v1.CallReport": call_report_pb2.CallReport,
}


@asynccontextmanager
async def stub(address: str) -> AsyncIterator[Any]:
    """Yield a stub on a new connection, so that no test depends on the connection of another."""
    options = (("grpc.use_local_subchannel_pool", 1),)
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        yield llm_service_pb2_grpc.LlmServiceStub(channel)


def request(model: str = "hf_model", prompt: str = "hello", **fields: Any) -> Any:
    return generate_pb2.GenerateRequest(model=model, prompt=prompt, **fields)


def score_request(model: str = "hf_model", **fields: Any) -> Any:
    return score_pb2.ScoreRequest(
        model=model, prompt="hello", continuations=[{"text": "a"}], **fields
    )


def count_request(model: str = "hf_model", **fields: Any) -> Any:
    return score_pb2.CountTokensRequest(model=model, prompt="hello", **fields)


def make_request(rpc: str, model: str = "hf_model", **fields: Any) -> Any:
    """A request of a method about a prompt. fields: a request to count tokens has none of them."""
    match rpc:
        case "Score":
            return score_request(model, **fields)
        case "CountTokens":
            return count_request(model)
    return request(model, **fields)


def details(error: grpc.aio.AioRpcError) -> dict[str, Message]:
    """Return the status details by short name, such as "ErrorInfo"."""
    trailers = dict(tuple(error.trailing_metadata()))
    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    assert status.code == error.code().value[0]
    # The details have the same message, perhaps cut.
    assert (error.details() or "").startswith(status.message.removesuffix("\u2026"))
    found = {}
    for packed in status.details:
        kind = _DETAILS[packed.TypeName()]()
        assert packed.Unpack(kind)
        found[packed.TypeName().rpartition(".")[2]] = kind
    return found


def reason(error: grpc.aio.AioRpcError) -> str:
    info = details(error)["ErrorInfo"]
    assert info.domain == "arena_llm"
    return info.reason


async def failure(call: Any) -> grpc.aio.AioRpcError:
    """Return the error of a call, unary or streamed. Fails if the call succeeds."""
    try:
        if hasattr(call, "__aiter__"):
            async for _ in call:
                pass
        else:
            await call
    except grpc.aio.AioRpcError as error:
        return error
    raise AssertionError("the call succeeded")


async def until_running(address: str, count: int, model: str = "hf_model") -> None:
    """Return when a service reports that `count` calls are running."""
    ask = models_pb2.IsAvailableRequest(model=model)
    async with stub(address) as llm, asyncio.timeout(20):
        while (await llm.IsAvailable(ask)).load.running != count:  # noqa: ASYNC110 - asks a process
            await asyncio.sleep(0.005)


async def read_completion(call: Any, rpc: str) -> Any:
    """The completion of a started Generate or StreamGenerate, whose events are in order."""
    if rpc == "Generate":
        return await call
    events = [event async for event in call]
    assert [event.sequence for event in events] == list(range(len(events)))
    kinds = [event.WhichOneof("event") for event in events]
    assert (kinds.count("start"), kinds[0], kinds[-1]) == (1, "start", "completion")
    return events[-1].completion
