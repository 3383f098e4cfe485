"""The kind `grpc`: hostile requests to the router, below our client."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import grpc

from arena_llm import ArenaError
from arena_llm.errors import error_from_status
from tests.torture.calls import PATIENCE, Caller
from tests.torture.heavy_requests import constraint, too_much
from tests.torture.hostile_requests import MAKERS, REPLIES, Request
from tests.torture.record import Record, bounded, repeat
from tests.torture.system import HF_MODEL, System

WIDTH = 12
_SERVICE = "/arena_llm.v1.LlmService/"
_ALL = (*MAKERS, constraint)
#: The share of requests that hold too much. Each takes milliseconds of client and server.
TOO_MUCH = 0.04
#: The share of requests that go to the hf service, which computes on the cores that all share.
BY_HF = 0.1


async def torture(caller: Caller, record: Record, seconds: float) -> None:
    """Send hostile requests until the time is over."""
    options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    system = caller.system
    async with grpc.aio.insecure_channel(system.router, options=options) as channel:

        async def attempt(dice: random.Random) -> None:
            model = dice.choice(system.models)
            if system.has_hf and dice.random() < BY_HF:
                model = HF_MODEL
            make = too_much if dice.random() < TOO_MUCH else dice.choice(_ALL)
            request = make(dice, model)
            kind = model.partition("_")[0]
            name = f"{request.name}, {kind}, {request.method}"
            if dice.random() < 0.05:
                await _leave(channel, request, dice)
                record.answered(f"left: {name}")
                return
            outcome = await bounded(record, name, PATIENCE, _send(system, channel, request))
            if outcome is not None:
                _judge(record, name, request, outcome, is_local=model == HF_MODEL)

        await repeat(record, seconds, WIDTH, attempt)


def _open(channel: grpc.aio.Channel, request: Request) -> Any:
    streamed = request.method == "StreamGenerate"
    kind = channel.unary_stream if streamed else channel.unary_unary
    token = [("authorization", f"Bearer {request.token}")] if request.token else []
    return kind(_SERVICE + request.method)(
        request.data, timeout=request.timeout, metadata=(*token, *request.metadata),
        compression=request.compression,
    )  # fmt: skip


async def _send(
    system: System, channel: grpc.aio.Channel, request: Request
) -> ArenaError | list[bytes]:
    """Return the messages of a reply, or the error."""
    try:
        call = _open(channel, request)
        if request.method == "StreamGenerate":
            return [message async for message in call]
        return [await call]
    except grpc.RpcError as error:
        return error_from_status(error, target=system.router, model="", timeout=0)


async def _leave(channel: grpc.aio.Channel, request: Request, dice: random.Random) -> None:
    async def read() -> Any:
        call = _open(channel, request)
        if request.method == "StreamGenerate":
            return [message async for message in call]
        return await call

    reading: asyncio.Task[Any] = asyncio.create_task(read())
    await asyncio.sleep(dice.choice([0, 0.001, 0.01, 0.1]) * dice.random())
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)


def _judge(
    record: Record,
    name: str,
    request: Request,
    outcome: ArenaError | list[bytes],
    *,
    is_local: bool,
) -> None:
    if isinstance(outcome, ArenaError):
        if outcome.reason == "" and "" in request.reasons:
            record.refused(name)  # by gRPC itself
        elif not record.check_error(name, outcome, request.reasons):
            return
        elif (
            request.field
            and outcome.reason in ("INVALID_REQUEST", "UNSUPPORTED")
            and "upstream_status" not in outcome.metadata
            and not _names(request.field, outcome)
        ):
            record.fail(name, f"it does not name {request.field}: {outcome.field} {outcome}")
        return
    if request.must_fail:
        record.fail(name, "it was answered")
        return
    text = _read_text(request.method, outcome)
    if text is None:
        record.fail(name, "the reply cannot be read")
    elif (
        request.text
        and not is_local
        and text not in (request.text, "ok")
        and request.text[0] != "\x00"
    ):
        record.fail(name, f"the text {text!r}, and the provider meant {request.text!r}")
    else:
        record.answered(name)


def _names(field: str, error: ArenaError) -> bool:
    parts = field.split(".")
    last = parts[-1].partition("[")[0]
    if "tool" in field and error.field == "tools":  # the request has both
        return True
    return last in error.field or last in error.message or error.field.split(".")[0] in parts[0]


def _read_text(method: str, messages: list[bytes]) -> str | None:
    read = [REPLIES[method].FromString(message) for message in messages]
    if method == "Generate":
        return _join(read[0])
    if method != "StreamGenerate":
        return ""
    if not read or read[-1].WhichOneof("event") != "completion":
        return None
    return _join(read[-1].completion)


def _join(reply: Any) -> str:
    return "".join(
        part.text for part in reply.message.parts if part.WhichOneof("content") == "text"
    )
