"""Replies and errors are forwarded unchanged; a caller's cancellation reaches the backend."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from arena_llm.types import Delta
from arena_llm.v1 import models_pb2
from router.backend import Backend
from router.config import Route, RouterConfig
from router.servicer import Router
from services.common.errors import RateLimited, UpstreamUnavailable, build_trailers
from tests.support.logs import capture_logs
from tests.support.ports import free_ports, refusing
from tests.support.scripted import hang, scripted, serving
from tests.support.waiting import eventually, reaching
from tests.support.wire import (
    count_request,
    details,
    failure,
    reason,
    request,
    score_request,
    stub,
)

PATH = "/arena_llm.v1.LlmService"

RPCS = ["Generate", "StreamGenerate", "Score", "CountTokens"]


def make_request(rpc: str, model: str = "hf_model", **fields: Any) -> Any:
    """A request of a method."""
    match rpc:
        case "Score":
            return score_request(model, **fields)
        case "CountTokens":
            return count_request(model)
    return request(model, **fields)


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

    def __init__(self) -> None:
        self.seen: dict[str, Any] = {}
        self.remaining: list[float | None] = []
        self.sent = 0

    def listens_on(self, address: str) -> None:
        """Have no use for it."""

    def drain(self) -> None:
        """Have nothing to end."""

    async def Generate(self, data: bytes, context: Any) -> bytes:
        self.seen = dict(context.invocation_metadata())
        self.remaining.append(context.time_remaining())
        await context.send_initial_metadata((("first", "1"), ("first-bin", b"\x00")))
        context.set_trailing_metadata((("last", "2"), ("last-bin", b"\xff")))
        return data

    async def StreamGenerate(self, data: bytes, context: Any) -> Any:
        await self.Generate(data, context)
        for _ in range(1000):
            yield b"x" * 100_000
            self.sent += 1

    async def start(self) -> None: ...

    async def aclose(self) -> None: ...

    name = "bare"
    interceptors = ()
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


@pytest.mark.parametrize("rpc", RPCS)
async def test_an_unknown_prefix(rpc: str, routed: Any) -> None:
    asked = make_request(rpc, "gpt2")
    async with routed(hf_=["127.0.0.1:1"], vllm_=["127.0.0.1:2"]) as llm:
        error = await failure(getattr(llm, rpc)(asked))
    assert error.code().name == "NOT_FOUND"
    assert reason(error) == "UNKNOWN_PREFIX"
    assert "hf_, vllm_" in error.details()


@pytest.mark.parametrize("rpc", RPCS)
async def test_no_model_and_no_message(rpc: str, routed: Any) -> None:
    asked = make_request(rpc, "")
    async with routed(hf_=["127.0.0.1:1"]) as llm:
        error = await failure(getattr(llm, rpc)(asked))
        assert details(error)["BadRequest"].field_violations[0].field == "model"
        call = getattr(llm, rpc)
        call._request_serializer = None
        assert reason(await failure(call(b"\xff\xff"))) == "INVALID_REQUEST"


@pytest.mark.parametrize("rpc", RPCS)
@pytest.mark.parametrize("policy", ["round_robin", "session"])
async def test_a_backend_that_is_down_is_named_immediately(
    rpc: str, policy: Any, routed: Any
) -> None:
    asked = make_request(rpc, "vllm_x", session="s")
    with refusing(2) as addresses:
        route = Route(targets=addresses, policy=policy, start="make up VLLM=1")
        async with routed(vllm_=route) as llm:
            # Without a deadline: it must not wait for one.
            error = await asyncio.wait_for(failure(getattr(llm, rpc)(asked)), 20)
    assert error.code().name == "UNAVAILABLE"
    assert reason(error) == "BACKEND_DOWN"
    for word in ("vllm", *addresses, "cannot be reached", "refused", "`make up VLLM=1`"):
        assert word in error.details()
    assert dict(details(error)["ErrorInfo"].metadata) == {
        "backend": "vllm",
        "addresses": ", ".join(addresses),
        "reached": "false",
    }


@pytest.mark.parametrize("rpc", RPCS)
async def test_a_route_that_leads_back_to_the_router_is_reported(rpc: str) -> None:
    (port,) = free_ports(1)
    # "localhost" is not the literal address of `listen`, so the configuration is accepted.
    routes = {"hf_": Route(targets=[f"localhost:{port}"])}
    router = Router(RouterConfig(listen=f"127.0.0.1:{port}", routes=routes))
    async with serving(router, f"127.0.0.1:{port}"), stub(f"127.0.0.1:{port}") as llm:
        error = await failure(getattr(llm, rpc)(make_request(rpc)))
        listed = await llm.ListModels(models_pb2.ListModelsRequest())
    assert (error.code().name, reason(error)) == ("FAILED_PRECONDITION", "ROUTE_LOOP")
    assert "a route leads back to a router" in error.details()
    assert "leads back" in listed.unreachable[0].detail


async def test_a_host_that_does_not_exist(routed: Any) -> None:
    async with routed(hf_=["nowhere.invalid:50054"]) as llm:
        error = await failure(llm.Generate(request()))
    assert reason(error) == "BACKEND_DOWN"
    assert "cannot be reached" in error.details()


async def test_a_target_can_be_a_host_name(routed: Any) -> None:
    async with scripted() as (_, server), routed(hf_=[f"localhost:{server.port}"]) as llm:
        assert (await llm.Generate(request())).served_by.backend == "hf"


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


@pytest.mark.parametrize("variable", ["http_proxy", "https_proxy", "grpc_proxy"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST", "0.0.0.0"])  # noqa: S104 - it is called, not listened on
async def test_backends_are_called_without_the_environments_proxy(
    host: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with refusing() as [nobody]:
        monkeypatch.setenv(variable, f"http://{nobody}")
        async with scripted() as (_, server):
            route = Route(targets=[f"{host}:{server.port}"])
            backend = Backend("hf_", route)
            try:
                await backend.call("Generate", request().SerializeToString(), 60)
            finally:
                await backend.aclose()


@pytest.mark.parametrize("rpc", ["Generate", "StreamGenerate"])
async def test_a_connection_that_breaks_during_a_call(rpc: str, routed: Any) -> None:
    async with scripted() as (backend, server), routed(hf_=[server.address]) as llm:
        backend.enqueue(hang)
        call = asyncio.ensure_future(failure(getattr(llm, rpc)(request())))
        await eventually(lambda: backend.running == 1)
        await server._server.stop(None)
        error = await call
    assert reason(error) == "BACKEND_DOWN"
    assert "connection broke" in error.details()
    assert server.address in error.details()


async def test_a_status_without_details_that_is_not_about_the_connection(routed: Any) -> None:
    async def refuse(data: bytes, context: Any) -> bytes:
        await context.abort(grpc.StatusCode.PERMISSION_DENIED, "no", (("why", "because"),))
        raise AssertionError("unreachable")

    handler = grpc.unary_unary_rpc_method_handler(refuse)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(PATH[1:], {"Generate": handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with routed(hf_=[f"127.0.0.1:{port}"]) as llm:
        error = await failure(llm.Generate(request()))
    await server.stop(None)
    assert (error.code().name, error.details()) == ("PERMISSION_DENIED", "no")
    assert tuple(error.trailing_metadata()) == (("why", "because"),)


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


@pytest.mark.parametrize("code", ["CANCELLED", "INTERNAL"])
async def test_a_call_that_a_dying_backend_drops_is_backend_down(code: str, routed: Any) -> None:
    """gRPC's code varies. The error is recognised because it has no details."""

    async def drop(_: bytes, context: Any) -> bytes:
        await context.abort(grpc.StatusCode[code], "Received RST_STREAM")
        raise AssertionError

    server = grpc.aio.server()
    handlers = {"Generate": grpc.unary_unary_rpc_method_handler(drop)}
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("arena_llm.v1.LlmService", handlers),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with routed(hf_=[f"127.0.0.1:{port}"]) as llm:
            error = await failure(llm.Generate(request()))
    finally:
        await server.stop(0)
    assert (error.code().name, reason(error)) == ("UNAVAILABLE", "BACKEND_DOWN")
    assert "is gone: the connection broke during the call (Received RST_STREAM)" in error.details()
