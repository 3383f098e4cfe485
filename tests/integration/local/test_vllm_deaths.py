"""A vLLM engine that hangs or dies, and a service that is killed or stopped.

These tests depend on each other, in order: each ends the engine that the one before it left,
and uses the restart for what else needs a fresh engine. They run last in this folder.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc

from arena_llm import AsyncClient, Client
from arena_llm.errors import UnavailableError
from arena_llm.types import Capability, Completion, FinishReason
from deploy.probe import health
from deploy.services import VLLM
from tests.support.local_models import LocalService, make_tiny
from tests.support.local_system import HANG_SECONDS
from tests.support.system import System
from tests.support.waiting import eventually, wait_until

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

THINKER = "vllm_thinker"
CHOICES = ["Bet", "Pass"]
#: Hot enough for a random model to end its reasoning now and then.
THINK: dict[str, Any] = {"max_tokens": 400, "temperature": 2.0}


@pytest.fixture
def service(system: System) -> LocalService:
    return LocalService("vllm", system)


@pytest.fixture
def llm(system: System) -> Iterator[Client]:
    with Client(system.target) as client:
        yield client


def find_core(system: System) -> psutil.Process:
    """The core of the service's only engine."""
    children = psutil.Process(system.pid("vllm")).children()
    (core,) = [child for child in children if "EngineCore" in child.name()]
    return core


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


async def test_a_hung_engine_ends_the_service(
    system: System, service: LocalService, folder: Path
) -> None:
    """Calls fail, health changes, and the supervisor restarts the service with other models."""
    old = system.pid("vllm")
    core = find_core(system)
    [scratch] = find_socket_folders(system)
    assert scratch.parent.name.startswith("arena-vllm-")
    use_thinker(system, folder)
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
    wait_until(lambda: health(service.address) == "SERVING", 300)


def use_thinker(system: System, folder: Path) -> None:
    """Configure one model, which reasons, for the next start of the service."""
    config = Path(system.env["ARENA_CONFIG_DIR"]) / VLLM.config
    entry = {
        "name": THINKER,
        "model_path": str(make_tiny(folder / "thinker", thinks=True)),
        "reasoning_parser": "deepseek_r1",
        "engine_args": {"kv_cache_memory_bytes": 1 << 28},
    }
    config.write_text(yaml.safe_dump({**yaml.safe_load(config.read_text()), "models": [entry]}))


def test_reasoning_is_separate_from_the_answer(llm: Client) -> None:
    """Also in a stream. A random model does not always get to an answer."""
    [model] = [model for model in llm.list_models() if model.name == THINKER]
    assert Capability.REASONING in model.capabilities
    answered = 0
    for seed in range(8):
        whole = llm.generate(THINKER, "Your move?", seed=seed, **THINK)
        stream = llm.stream(THINKER, "Your move?", seed=seed, **THINK)
        assert "".join(stream) == stream.completion.text == whole.text
        # The end of the reasoning may cut a character, which one of them then shows.
        assert stream.completion.reasoning.rstrip("\ufffd") == whole.reasoning.rstrip("\ufffd")
        assert "</think>" not in whole.reasoning
        reasoned, generated = whole.usage.reasoning_tokens, whole.usage.completion_tokens
        assert reasoned is not None
        assert generated is not None
        assert 0 < reasoned <= generated
        if whole.text:
            answered += 1
            assert reasoned < generated
    assert answered


def test_a_choice_follows_the_reasoning(llm: Client) -> None:
    prompts = [f"{n}: your move?" for n in range(24)]
    replies = [*dict(llm.generate_many(THINKER, prompts, choices=CHOICES, **THINK)).values()]
    chosen = [reply for reply in replies if isinstance(reply, Completion)]
    assert chosen
    assert {reply.text for reply in chosen} <= set(CHOICES)
    assert all(reply.finish_reason == FinishReason.STOP for reply in chosen)
    assert any(reply.reasoning for reply in chosen)
    refused = {str(reply) for reply in replies if not isinstance(reply, Completion)}
    assert all("its reasoning" in text or "raise config.max_tokens" in text for text in refused)


async def test_a_killed_engine_core_ends_the_service(system: System, service: LocalService) -> None:
    """kill -9 under load: calls fail, health changes, the supervisor restarts the service."""
    old = system.pid("vllm")
    core = find_core(system)
    assert os.getpgid(core.pid) == core.pid != os.getpgid(old)
    workers = core.children(recursive=True)
    async with AsyncClient(system.target) as llm:

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
        core.send_signal(signal.SIGKILL)
        await eventually(lambda: health(service.address) != "SERVING")
        results = await asyncio.gather(*calls, return_exceptions=True)
    reasons = {getattr(error, "reason", None) or repr(error) for error in results}
    assert reasons <= {"UPSTREAM_UNAVAILABLE", "BACKEND_DOWN"}
    await eventually(lambda: system.pid("vllm") not in (0, old), 120)
    assert f"the engine of {THINKER} has died" in service.log()
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
