"""The life of a service: bind, start, serve, mark not serving, finish calls, stop."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from router.config import Route, RouterConfig
from router.servicer import Router
from services.common.config import ConfigError, ServiceConfig
from services.common.server import Server, serve
from services.common.servicer import LlmServicer
from tests.support.ports import free_ports
from tests.support.processes import listens, run_to_end, scripted_process
from tests.support.scripted import ScriptedBackend, hang, scripted, serving
from tests.support.waiting import eventually
from tests.support.wire import failure, request, stub, until_running

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Steps(ScriptedBackend):
    """A backend whose start and failure the test triggers."""

    def __init__(self) -> None:
        super().__init__()
        self.ready, self.broken = asyncio.Event(), asyncio.Event()
        self.closed = False

    async def start(self) -> None:
        await self.ready.wait()

    async def failed(self) -> str:
        await self.broken.wait()
        return "the engine died"

    async def aclose(self) -> None:
        self.closed = True


async def health(address: str, service: str = "") -> Any:
    async with grpc.aio.insecure_channel(address) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        return (await check(health_pb2.HealthCheckRequest(service=service))).status


async def test_not_serving_until_ready_then_serving_then_failed() -> None:
    backend = Steps()
    server = Server(LlmServicer(backend), "127.0.0.1:0")
    starting = asyncio.create_task(server.start())
    try:
        names = ("", "arena_llm.v1.LlmService")
        await asyncio.sleep(0)
        assert [await health(server.address, name) for name in names] == [NOT_SERVING] * 2
        assert not starting.done()
        backend.ready.set()
        await starting
        assert [await health(server.address, name) for name in names] == [SERVING] * 2
        backend.broken.set()
        assert await server.failed() == "the engine died"
        assert [await health(server.address, name) for name in names] == [NOT_SERVING] * 2
    finally:
        await server.stop(grace=0)
    assert backend.closed


async def test_a_forwarding_service_is_ready_before_a_call_can_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A router without routes would say that the model does not exist, which nobody repeats."""
    steps: list[str] = []

    class Forwarding(ScriptedBackend):
        forwards_calls = True

        async def start(self) -> None:
            await asyncio.sleep(0)
            steps.append("ready")

    server = Server(LlmServicer(Forwarding()), "127.0.0.1:0")
    listen = server._server.start

    async def note() -> None:
        steps.append("listens")
        await listen()

    monkeypatch.setattr(server._server, "start", note)
    await server.start()
    try:
        assert steps == ["ready", "listens"]
        assert await health(server.address) == SERVING
    finally:
        await server.stop(grace=0)


async def test_a_backend_that_fails_ends_the_service_with_status_1() -> None:
    backend = Steps()
    backend.ready.set()
    backend.broken.set()
    assert await serve(LlmServicer(backend), "127.0.0.1:0") == 1
    assert backend.closed


async def test_a_backend_that_cannot_start_ends_the_service_with_its_error() -> None:
    class Broken(Steps):
        async def start(self) -> None:
            raise ConfigError("no such model folder")

    backend = Broken()
    with pytest.raises(ConfigError, match="no such model folder"):
        await serve(LlmServicer(backend), "127.0.0.1:0")
    assert backend.closed


async def test_stop_lets_a_call_finish_and_refuses_new_ones() -> None:
    finish = asyncio.Event()

    async def step() -> str:
        await finish.wait()
        return "finished"

    async with scripted() as (backend, server), stub(server.address) as llm:
        backend.enqueue(step)
        call = asyncio.ensure_future(llm.Generate(request()))
        await eventually(lambda: backend.running)
        stopping = asyncio.create_task(server.stop(grace=30))
        await eventually(lambda: not listens(server.address))
        assert not stopping.done()
        finish.set()
        assert (await call).text == "finished"
        await stopping


async def test_calls_that_run_longer_than_drain_seconds_are_cancelled() -> None:
    backend = ScriptedBackend()
    backend.default = hang
    config = ServiceConfig(listen="127.0.0.1:0", drain_seconds=0.1)
    async with serving(LlmServicer(backend), config=config) as server, stub(server.address) as llm:
        call = asyncio.ensure_future(llm.Generate(request()))
        await eventually(lambda: backend.running)
        await server.stop()
        await asyncio.wait((call,))
        assert backend.ended == ["CancelledError"]


async def test_watchers_get_every_status_and_do_not_delay_a_stop() -> None:
    """The router's load balancing watches each backend."""
    async with scripted() as (_, server), grpc.aio.insecure_channel(server.address) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch
        watchers = [watch(health_pb2.HealthCheckRequest()) for _ in range(3)]
        sent = [(await watcher.read()).status for watcher in watchers]
        watchers.pop().cancel()  # the others still get the next status
        await asyncio.wait_for(server.stop(grace=600), 20)
        sent += [(await watcher.read()).status for watcher in watchers]
        assert sent == [SERVING] * 3 + [NOT_SERVING] * 2
        assert [await watcher.read() for watcher in watchers] == [grpc.aio.EOF] * 2


@pytest.mark.integration
def test_a_port_in_use_is_a_clear_error_and_status_1() -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        address = f"127.0.0.1:{held.getsockname()[1]}"
        ended = run_to_end("-m", "tests.support.scripted", address, "hf", "hf")
    assert ended.returncode == 1
    assert f"hf: cannot listen on {address}: the port is in use" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.integration
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
async def test_after_a_signal_running_calls_finish_and_the_process_exits_with_0(
    signum: signal.Signals, tmp_path: Path
) -> None:
    (port,) = free_ports(1)
    finish = tmp_path / "finish"
    asked = request(prompt=f"until {finish}")
    with scripted_process(f"127.0.0.1:{port}", "hf") as service:
        async with stub(service.address) as llm:
            calls = [asyncio.ensure_future(llm.Generate(asked)) for _ in range(5)]
            await until_running(service.address, 5)
            service.signal(signum)
            await eventually(lambda: not listens(service.address))
            finish.touch()
            assert [(await call).text for call in calls] == ["hf"] * 5
        assert await asyncio.to_thread(service.process.wait, 30) == 0
        assert "Traceback" not in service.log()


@pytest.mark.integration
@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_ends_the_process_at_once(second: signal.Signals) -> None:
    (port,) = free_ports(1)
    with scripted_process(f"127.0.0.1:{port}", "hf") as service:
        async with stub(service.address) as llm:
            call = asyncio.ensure_future(failure(llm.Generate(request(prompt="hang"))))
            await until_running(service.address, 1)
            service.signal(signal.SIGINT)
            await eventually(lambda: not listens(service.address))
            service.signal(second)
            status = await asyncio.to_thread(service.process.wait, 20)
            assert status == 128 + second
            assert (await call).code().name in ("UNAVAILABLE", "CANCELLED")


async def test_a_stop_before_the_start_is_harmless() -> None:
    router = Router(RouterConfig(listen="127.0.0.1:0", routes={"hf_": Route(targets=["h:1"])}))
    for service in (LlmServicer(ScriptedBackend()), router):
        await service.aclose()
        await Server(service, "127.0.0.1:0").stop()


@pytest.mark.parametrize(
    "garbage",
    [b"\x00" * 4096, b"GET / HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff" * 9],
)
async def test_garbage_on_the_port_disturbs_no_call(garbage: bytes) -> None:
    async with scripted() as (_, server), stub(server.address) as llm:
        assert (await llm.Generate(request())).text == "ok"
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(garbage)
        with contextlib.suppress(ConnectionError):
            await writer.drain()
            await asyncio.wait_for(reader.read(1000), 60)
        writer.close()
        assert (await llm.Generate(request())).text == "ok"
        assert await health(server.address) == SERVING


async def test_reflection_lists_the_service() -> None:
    async with scripted() as (_, server), grpc.aio.insecure_channel(server.address) as channel:
        ask = reflection_pb2.ServerReflectionRequest(list_services="")
        info = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo
        (answer,) = [reply async for reply in info(iter([ask]))]
    names = {service.name for service in answer.list_services_response.service}
    assert {"arena_llm.v1.LlmService", "grpc.health.v1.Health"} <= names
