"""A call that reaches no backend, or loses its connection to one, says which and why."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from arena_llm.v1 import models_pb2
from router.backend import Backend
from router.config import Route, RouterConfig
from router.servicer import Router
from tests.support.ports import free_ports, refusing
from tests.support.scripted import hang, scripted, serving
from tests.support.waiting import eventually
from tests.support.wire import RPCS, details, failure, make_request, reason, request, stub

PATH = "/arena_llm.v1.LlmService"


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
