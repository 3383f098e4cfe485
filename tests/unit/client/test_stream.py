"""Streams: deltas, the completion after them, and the cancelling of the call."""

from __future__ import annotations

import asyncio
import gc

import pytest

import arena_llm
from arena_llm.errors import CallCancelledError, FailedPreconditionError, InternalError
from arena_llm.types import Delta, Progress, ProgressState, ServedBy, StreamStart, ToolCallDelta
from arena_llm.v1 import generate_pb2, reply_pb2
from tests.unit.client.scripted import (
    HOLD,
    MODEL,
    Fail,
    Script,
    collect,
    end_event,
    grpc,
    settle,
    text_event,
)

#: Seconds to wait for the server to notice a cancelled call.
WAIT = 20


def reasoning_event(text: str) -> generate_pb2.StreamGenerateResponse:
    return generate_pb2.StreamGenerateResponse(delta=generate_pb2.PartDelta(reasoning=text))


THOUGHT = [reasoning_event("hm"), text_event("x"), text_event("4"), end_event("x4")]


async def first(stream) -> str:
    return await anext(stream) if hasattr(stream, "__anext__") else next(stream)


async def close(stream) -> None:
    await settle(stream.aclose() if hasattr(stream, "aclose") else stream.close())


def was_cancelled(script: Script) -> bool:
    """Whether the server has noticed; it holds the call open until then."""
    return script.history[0].ended.wait(WAIT)


async def test_text_then_completion(either, script: Script) -> None:
    script.enqueue_stream(*THOUGHT)
    stream = either.stream(MODEL, "hi", seed=7)
    assert await collect(stream) == ["x", "4"]
    assert stream.completion.text == "x4"
    assert script.history[0].request.config.seed == 7
    assert script.history[0].metadata["arena-model"] == MODEL
    assert 590 < script.history[0].time_remaining < 602


async def test_events_have_reasoning(either, script: Script) -> None:
    script.enqueue_stream(*THOUGHT)
    stream = either.stream(MODEL, "hi")
    assert await collect(stream.events()) == [Delta(reasoning="hm"), Delta("x"), Delta("4")]
    assert stream.completion.text == "x4"


async def test_every_kind_of_event(either, script: Script) -> None:
    event = generate_pb2.StreamGenerateResponse
    start = generate_pb2.StreamStart(id="i", served_by=reply_pb2.ServedBy(model=MODEL))
    call = generate_pb2.ToolCallDelta(id="c", name="move", arguments="{")
    script.enqueue_stream(
        event(start=start),
        event(progress=generate_pb2.Progress(state=generate_pb2.PROGRESS_STATE_QUEUED)),
        event(delta=generate_pb2.PartDelta(part=1, tool_call=call)),
        event(delta=generate_pb2.PartDelta(part=2, refusal="no")),
        end_event("x4"),
    )
    assert await collect(either.stream(MODEL, "hi").events()) == [
        StreamStart("i", served_by=ServedBy(model=MODEL)),
        Progress(ProgressState.QUEUED),
        Delta(tool_call=ToolCallDelta("c", "move", "{"), part=1),
        Delta(refusal="no", part=2),
    ]


async def test_events_of_a_newer_contract_are_ignored(either, script: Script) -> None:
    unknown = generate_pb2.StreamGenerateResponse.FromString(b"\xa2\x38\x01x")  # field 900
    delta = generate_pb2.StreamGenerateResponse(delta=generate_pb2.PartDelta(part=1))
    script.enqueue_stream(unknown, text_event("x"), delta, unknown, end_event("x"))
    stream = either.stream(MODEL, "hi")
    assert await collect(stream) == ["x"]
    assert stream.completion.text == "x"


async def test_no_completion_before_the_end(either, script: Script) -> None:
    script.enqueue_stream(text_event("x"), HOLD)
    stream = either.stream(MODEL, "hi")
    assert await first(stream) == "x"
    with pytest.raises(FailedPreconditionError, match="STREAM_NOT_ENDED"):
        _ = stream.completion
    await close(stream)
    with pytest.raises(FailedPreconditionError, match="STREAM_NOT_ENDED"):
        _ = stream.completion
    assert await collect(stream) == []


async def test_a_stream_that_ends_without_a_completion(either, script: Script) -> None:
    script.enqueue_stream(text_event("x"))
    with pytest.raises(InternalError, match="without a completion"):
        await collect(either.stream(MODEL, "hi"))


async def test_an_error_after_the_completion_is_raised(either, script: Script) -> None:
    script.enqueue_stream(end_event("x"), Fail(grpc.StatusCode.INTERNAL, "bug", "INTERNAL"))
    with pytest.raises(InternalError, match="bug"):
        await collect(either.stream(MODEL, "hi"))


async def test_nothing_is_called_before_the_first_read(either, script: Script) -> None:
    stream = either.stream(MODEL, "hi")
    await close(stream)
    assert await collect(stream) == []
    assert script.history == []


async def test_close_cancels(either, script: Script) -> None:
    script.enqueue_stream(text_event("x"), HOLD)
    stream = either.stream(MODEL, "hi")
    assert await first(stream) == "x"
    await close(stream)
    await close(stream)
    assert was_cancelled(script)


async def test_dropping_cancels(either, script: Script) -> None:
    script.enqueue_stream(text_event("x"), HOLD)
    stream = either.stream(MODEL, "hi")
    assert await first(stream) == "x"
    # Some releases of grpc do not cancel a call that is dropped: the stream does.
    rpc = stream._rpc
    del stream
    gc.collect()
    assert rpc.cancelled()
    # The asynchronous call needs one turn of the event loop.
    await asyncio.sleep(0)
    assert was_cancelled(script)


def test_leaving_with_cancels(llm: arena_llm.Client, script: Script) -> None:
    script.enqueue_stream(text_event("x"), HOLD)
    with llm.stream(MODEL, "hi") as stream:
        assert next(stream) == "x"
    assert was_cancelled(script)


async def test_leaving_async_with_cancels(target: str, script: Script) -> None:
    script.enqueue_stream(text_event("x"), HOLD)
    async with arena_llm.AsyncClient(target) as llm:
        async with llm.stream(MODEL, "hi") as stream:
            assert await anext(stream) == "x"
        assert await asyncio.to_thread(was_cancelled, script)


def test_break_cancels(llm: arena_llm.Client, script: Script) -> None:
    script.enqueue_stream(text_event("x"), HOLD)
    for delta in llm.stream(MODEL, "hi"):
        assert delta == "x"
        break
    assert was_cancelled(script)


async def test_cancelling_the_task_cancels_the_call(target: str, script: Script) -> None:
    script.enqueue_stream(text_event("x"), HOLD)
    async with arena_llm.AsyncClient(target) as llm:
        reading = asyncio.Event()

        async def read() -> None:
            async for _ in llm.stream(MODEL, "hi"):
                reading.set()

        task = asyncio.create_task(read())
        await reading.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(was_cancelled, script)


async def test_closing_the_client_ends_its_streams(either, script: Script) -> None:
    script.enqueue_stream(text_event("x"), HOLD)
    stream = either.stream(MODEL, "hi")
    assert await first(stream) == "x"
    await settle(either.close())
    with pytest.raises(CallCancelledError, match="closed"):
        await first(stream)
    assert was_cancelled(script)
