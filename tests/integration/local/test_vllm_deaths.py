"""A vLLM engine that hangs or dies, and a service that is killed or stopped.

These tests depend on each other, in order, and run last in this folder: they end the engines that
all other tests share. The conftest puts them there.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
from contextlib import suppress
from pathlib import Path

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from arena_llm import AsyncClient
from arena_llm.errors import UnavailableError
from deploy.probe import health
from tests.integration.local.conftest import THINKER
from tests.support.local_models import LocalService
from tests.support.local_system import HANG_SECONDS
from tests.support.processes import ServiceProcess
from tests.support.system import System
from tests.support.waiting import eventually, wait_until

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture
def service(system: System) -> LocalService:
    return LocalService("vllm", system)


def find_cores(service: int) -> list[psutil.Process]:
    """The cores of a service's engines."""
    children = psutil.Process(service).children()
    return [child for child in children if "EngineCore" in child.name()]


def find_engines(service: psutil.Process) -> list[psutil.Process]:
    """The engine's processes, without those that run only while it starts."""
    engines = []
    for process in service.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if "VLLM" in process.name():
                engines.append(process)
    return engines


def is_alive(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != "zombie"
    return False


def find_socket_folders(system: System) -> set[Path]:
    """The folders of the engines' sockets."""
    temporary = Path(system.env["TMPDIR"])
    return {path.parent for path in temporary.rglob("*") if path.is_socket()}


async def test_a_hung_engine_ends_the_service(system: System, service: LocalService) -> None:
    """Calls fail, health changes, and the supervisor restarts the service."""
    old = system.pid("vllm")
    [core] = find_cores(old)
    [scratch] = find_socket_folders(system)
    assert scratch.parent.name.startswith("arena-vllm-")
    async with (
        AsyncClient(service.address) as llm,
        grpc.aio.insecure_channel(service.address) as channel,
    ):
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == SERVING
        os.killpg(core.pid, signal.SIGSTOP)
        with pytest.raises(UnavailableError, match=f"has hung for {HANG_SECONDS} s") as caught:
            await llm.generate(service.tiny, "7", regex="(7 ){4000}", max_tokens=400)
        assert caught.value.retry_after
        assert (await watch.read()).status == NOT_SERVING
        watch.cancel()
    await eventually(lambda: system.pid("vllm") not in (0, old), 120)
    assert f"the engine of {service.tiny} has hung for {HANG_SECONDS} s" in service.log()
    assert not is_alive(core)
    assert not scratch.parent.exists()


async def test_a_killed_engine_core_ends_the_service(models_service: ServiceProcess) -> None:
    """kill -9 under load: calls fail, health changes, and the service ends with its engines."""
    cores = find_cores(models_service.process.pid)
    assert len(cores) == 2
    assert all(os.getpgid(core.pid) == core.pid for core in cores)
    workers = [*cores, *(worker for core in cores for worker in core.children(recursive=True))]
    async with AsyncClient(models_service.address) as llm:

        async def generate_repeatedly(number: int) -> None:
            while True:  # until it fails: a reply may be short
                await llm.generate(THINKER, f"{number}: 7", max_tokens=480)

        calls = [asyncio.ensure_future(generate_repeatedly(number)) for number in range(32)]
        async with asyncio.timeout(60):
            while True:
                load = (await llm.is_available(THINKER)).load
                if load is not None and load.running:
                    break
                await asyncio.sleep(0.005)
        cores[0].send_signal(signal.SIGKILL)
        await eventually(lambda: health(models_service.address) != "SERVING")
        results = await asyncio.gather(*calls, return_exceptions=True)
    reasons = {getattr(error, "reason", None) or repr(error) for error in results}
    # CANCELLED: the other engine was killed, and the service ended before this call.
    assert reasons <= {"UPSTREAM_UNAVAILABLE", "UNREACHABLE", "CONNECTION_LOST", "CANCELLED"}
    await eventually(lambda: models_service.process.poll() is not None, 120)
    assert models_service.process.returncode > 0
    assert re.search("the engine of vllm_(thinker|viewer) has died", models_service.log())
    await eventually(lambda: not any(map(is_alive, workers)))


def test_a_killed_service_takes_its_engine_with_it(system: System) -> None:
    service = psutil.Process(system.pid("vllm"))
    wait_until(lambda: any(os.getpgid(p.pid) == p.pid for p in find_engines(service)), 300)
    engines = find_engines(service)
    service.kill()
    _, alive = psutil.wait_procs(engines, timeout=120)
    assert not [process for process in alive if process.status() != "zombie"]
    wait_until(lambda: system.pid("vllm") not in (0, service.pid))


def test_a_service_stops_while_its_engine_starts(system: System, service: LocalService) -> None:
    process = psutil.Process(system.pid("vllm"))
    wait_until(lambda: bool(find_engines(process)), 300)
    engines = find_engines(process)
    assert health(service.address) == "NOT_SERVING"
    system.down()
    assert not process.is_running()
    assert not any(map(is_alive, engines))
    assert "event=stopped service=vllm" in system.log("vllm").rpartition("event=listening")[2]
