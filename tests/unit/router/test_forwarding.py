"""Replies and errors are forwarded unchanged; a caller's cancellation reaches the backend."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from arena_llm.types import Delta
from router.config import Route
from services.common.errors import RateLimited, UpstreamUnavailable
from services.common.hops import REMAINING_HEADER
from services.common.trailers import build_trailers
from tests.support.logs import capture_logs
from tests.support.scripted import hang, scripted, serving
from tests.support.waiting import eventually, reaching
from tests.support.wire import (
    RPCS,
    count_request,
    details,
    failure,
    make_request,
    reason,
    request,
    score_request,
    stub,
)


async def test_a_reply_is_forwarded_unchanged(routed: Any) -> None:
    async with scripted() as (backend, server), routed(hf_=[server.address]) as llm:
        backend.enqueue("e4")
        answer = await llm.Generate(request(session="game-7"))
        assert (answer.text, answer.served_by.backend) == ("e4", "hf")
        assert backend.history[0].session == "game-7"
        assert (await llm.Score(score_request())).served_by.backend == "hf"
        assert (await llm.CountTokens(count_request())).tokens == 3


@pytest.mark.parametrize("rpc", ["Generate", "StreamGenerate"])
async def test_an_error_of_a_backend_is_forwarded_unchanged(rpc: str, routed: Any) -> None:
    raised = UpstreamUnavailable("try later: é", retry_after=1.5, metadata={"a": "b"})
    async with (
        scripted() as (backend, server),
        routed(hf_=[server.address]) as llm,
        stub(server.address) as direct,
    ):
        backend.enqueue(raised, raised)
        direct_error = await failure(getattr(direct, rpc)(request()))
        got = await failure(getattr(llm, rpc)(request()))
    assert (got.code(), got.details()) == (direct_error.code(), direct_error.details())
    assert tuple(got.trailing_metadata()) == tuple(direct_error.trailing_metadata())
    assert reason(got) == "UPSTREAM_UNAVAILABLE"


async def test_an_error_in_the_middle_of_a_stream(routed: Any) -> None:
    async with scripted() as (backend, server), routed(hf_=[server.address]) as llm:
        backend.enqueue([Delta(text="half"), RateLimited("slow down", retry_after=2)])
        call = llm.StreamGenerate(request())
        events = [await anext(aiter(call)) for _ in range(3)]
        assert [event.WhichOneof("event") for event in events] == ["start", "delta", "interruption"]
        assert (events[1].delta.text, events[2].interruption.text) == ("half", "half")
        assert details(await failure(call))["RetryInfo"].retry_delay.seconds == 2


TRAILERS = build_trailers(RateLimited("slow down"))


class Bare:
    """A service without our servicer, which records and sends metadata."""

    forwards_calls = False

    def __init__(self) -> None:
        self.seen: dict[str, Any] = {}
        self.remaining: list[float | None] = []
        self.sent = 0

    def listens_on(self, address: str) -> None:
        """Have no use for it."""

    def drain(self) -> None:
        """Have nothing to end."""

    async def generate(self, data: bytes, context: Any) -> bytes:
        self.seen = dict(context.invocation_metadata())
        self.remaining.append(context.time_remaining())
        await context.send_initial_metadata((("first", "1"), ("first-bin", b"\x00")))
        context.set_trailing_metadata((("last", "2"), ("last-bin", b"\xff")))
        return data

    async def Generate(self, data: bytes, context: Any) -> bytes:
        return await self.generate(data, context)

    async def StreamGenerate(self, data: bytes, context: Any) -> Any:
        await self.Generate(data, context)
        for _ in range(1000):
            yield b"x" * 100_000
            self.sent += 1

    async def start(self) -> None: ...

    async def aclose(self) -> None: ...

    name = "bare"
    guards = ()
    Score = CountTokens = IsAvailable = ListModels = GetServiceInfo = Generate


@pytest.fixture
async def bare() -> Any:
    backend: Any = Bare()
    async with serving(backend) as server:
        yield backend, server.address


def raw(llm: Any, rpc: str) -> Any:
    call = getattr(llm, rpc)
    call._response_deserializer = None
    return call


async def test_metadata_is_forwarded_in_both_directions(bare: Any, routed: Any) -> None:
    backend, address = bare
    data = request(session="game 7")
    async with routed(hf_=[address]) as llm:
        metadata = (("traceparent", "00-1"), ("key-bin", b"\x00\xff"))
        call = raw(llm, "Generate")(data, metadata=metadata)
        assert await call == data.SerializeToString()
        assert tuple(await call.initial_metadata()) == (("first", "1"), ("first-bin", b"\x00"))
        assert tuple(await call.trailing_metadata()) == (("last", "2"), ("last-bin", b"\xff"))
    del backend.seen["user-agent"]
    assert backend.seen == {
        "traceparent": "00-1",
        "key-bin": b"\x00\xff",
        "arena-session": "game%207",
        "arena-hops": "1",
    }


async def test_ray_serve_gets_its_application_and_the_deadline(bare: Any, routed: Any) -> None:
    backend, address = bare
    async with routed(hf_=Route(targets=[address], application="hf")) as llm:
        await raw(llm, "Generate")(request(), timeout=60, metadata=[(REMAINING_HEADER, "1")])
    assert backend.seen["application"] == "hf"
    # gRPC rounds a timeout up to three digits.
    assert 50_000 < int(backend.seen[REMAINING_HEADER]) <= 60_500


@pytest.mark.parametrize("code", ["INTERNAL", "UNAVAILABLE", "NOT_FOUND"])
async def test_the_text_of_an_exception_in_ray_serve_is_not_shown(
    bare: Any, routed: Any, code: str
) -> None:
    backend, address = bare

    async def fail(data: bytes, context: Any) -> bytes:
        await context.abort(grpc.StatusCode[code], "Traceback: a secret")

    backend.generate = fail
    async with routed(hf_=Route(targets=[address], application="hf", start="make ray-up")) as llm:
        error = await failure(llm.Generate(request()))
    assert (error.code().name, reason(error)) == ("UNAVAILABLE", "BACKEND_DOWN")
    assert f"cannot answer (Ray Serve: {code}); start it with `make ray-up`" in error.details()
    assert "secret" not in error.details()


async def test_initial_metadata_of_a_stream_is_sent_before_its_messages(
    bare: Any, routed: Any
) -> None:
    _, address = bare
    async with routed(hf_=[address]) as llm:
        call = raw(llm, "StreamGenerate")(request())
        assert ("first", "1") in tuple(await call.initial_metadata())
        received = 0
        async for message in call:
            received += len(message)
        assert received == 1000 * 100_000
        assert ("last", "2") in tuple(await call.trailing_metadata())


async def test_a_stream_with_initial_metadata_that_fails_midway(routed: Any) -> None:
    """The metadata is sent once, and the status stays what it is."""

    class Failing(Bare):
        async def StreamGenerate(self, data: bytes, context: Any) -> Any:
            await context.send_initial_metadata((("first", "1"),))
            yield b""
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "slow down", TRAILERS)

    failing: Any = Failing()
    async with serving(failing) as server, routed(hf_=[server.address]) as llm:
        call = llm.StreamGenerate(request())
        error = await failure(call)
    assert (error.code().name, reason(error)) == ("RESOURCE_EXHAUSTED", "RATE_LIMITED")
    assert tuple(error.initial_metadata()) == (("first", "1"),)


async def test_a_message_of_5000_characters_keeps_its_reason(routed: Any) -> None:
    raised = RateLimited("x" * 5_000 + "😀" * 5_000, retry_after=2)
    async with scripted() as (backend, server), routed(hf_=[server.address]) as llm:
        backend.enqueue(raised, [Delta(text="half"), raised])
        for rpc in ("Generate", "StreamGenerate"):
            error = await failure(getattr(llm, rpc)(request()))
            assert (error.code().name, reason(error)) == ("RESOURCE_EXHAUSTED", "RATE_LIMITED")


async def test_a_slow_reader_slows_the_backend(bare: Any, routed: Any) -> None:
    """The stream has 100 MB. The router must not buffer what the caller does not read."""
    backend, address = bare
    async with routed(hf_=[address]) as llm:
        events = aiter(raw(llm, "StreamGenerate")(request()))
        await anext(events)
        before = -1
        while backend.sent != before:  # until it stops sending
            before = backend.sent
            await asyncio.sleep(0.1)
        assert before < 200
        await anext(events)


async def test_a_deadline_is_forwarded_and_none_is_added(bare: Any, routed: Any) -> None:
    backend, address = bare
    async with routed(hf_=[address]) as llm:
        await raw(llm, "Generate")(request(), timeout=50)
        await raw(llm, "Generate")(request())
    assert 0 < backend.remaining[0] < 60  # the header is rounded up
    assert backend.remaining[1] is None


@pytest.mark.parametrize("rpc", ["Generate", "StreamGenerate"])
async def test_a_missed_deadline_cancels_the_backend(rpc: str, routed: Any) -> None:
    async with scripted() as (backend, server), routed(hf_=[server.address]) as llm:
        backend.default = hang
        error = await reaching(
            lambda: backend.history,
            lambda seconds: failure(getattr(llm, rpc)(request(), timeout=seconds)),
        )
        assert error.code().name == "DEADLINE_EXCEEDED"
        await eventually(lambda: not backend.running)
        assert set(backend.ended) == {"CancelledError"}


@pytest.mark.parametrize("rpc", RPCS)
async def test_a_cancelled_call_cancels_the_backend(rpc: str, routed: Any) -> None:
    async with scripted() as (backend, server), routed(hf_=[server.address]) as llm:
        backend.enqueue(hang)
        call = getattr(llm, rpc)(make_request(rpc))
        await eventually(lambda: backend.running == 1)
        call.cancel()
        await eventually(lambda: backend.ended == ["CancelledError"])


async def test_a_stream_that_is_cancelled_midway_cancels_the_backend(routed: Any) -> None:
    async with scripted() as (backend, server), routed(hf_=[server.address]) as llm:
        backend.enqueue([Delta(text="x" * 100_000)] * 1000)
        call = llm.StreamGenerate(request())
        await anext(aiter(call))
        call.cancel()
        await eventually(lambda: backend.ended)
        assert backend.ended != ["done"]


async def test_the_router_refuses_a_message_with_too_many_fields(routed: Any) -> None:
    """Parsing it would delay all other calls."""
    async with scripted() as (backend, server), routed(hf_=[server.address]) as llm:
        asked = request()
        asked.labels.update({str(number): "label" for number in range(100_000)})
        error = await failure(llm.Generate(asked))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "labels holds too much" in (error.details() or "")
        asked.labels.clear()
        assert (await llm.Generate(asked)).text == "ok"
        assert len(backend.history) == 1


async def test_the_line_of_a_call_has_the_backend_and_not_the_prompt(routed: Any) -> None:
    with capture_logs() as log:
        async with routed(hf_=["127.0.0.1:1"]) as llm:
            await failure(
                llm.Generate(request(prompt="private", session="s", labels={"player": "x"}))
            )
    (line,) = [line for line in log if line["event"] == "call"]
    assert line.pop("total_s") >= 0
    assert line == {
        "event": "call",
        "log_level": "warning",
        "rpc": "Generate",
        "status": "UNAVAILABLE",
        "reason": "BACKEND_DOWN",
        "backend": "hf",
        "model": "hf_model",
        "session": "s",
        "label.player": "x",
    }


async def test_the_line_of_a_call_has_the_reason_of_a_forwarded_error(routed: Any) -> None:
    with capture_logs() as log:
        async with scripted() as (backend, server), routed(hf_=[server.address]) as llm:
            backend.enqueue(RateLimited("slow down"))
            await failure(llm.Generate(request()))
    lines = [line for line in log if line["event"] == "call"]
    assert [(line["status"], line["reason"]) for line in lines] == [
        ("RESOURCE_EXHAUSTED", "RATE_LIMITED")
    ] * 2
