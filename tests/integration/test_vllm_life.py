"""The vllm service beside the others: `make up VLLM=1`, through the router, and the death
of its engine."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from arena_llm import AsyncClient, Client
from arena_llm.types import Capability, Completion, FinishReason
from deploy.probe import health
from deploy.services import ROOT, VLLM
from tests.support.scripted import eventually
from tests.support.system import System, free_ports
from tests.support.vllm import make_tiny, require_vllm
from tests.support.waiting import wait_until

MODEL = "vllm_thinker"
CHOICES = ["Bet", "Pass"]
#: Hot enough for a random model to come to the end of its reasoning at times.
THINK: dict[str, Any] = {"max_tokens": 400, "temperature": 2.0}


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A system with the vllm service, which has one tiny model that reasons."""
    require_vllm()
    folder = tmp_path_factory.mktemp("life")
    configs = Path(shutil.copytree(ROOT / "configs", folder / "configs"))
    settings = yaml.safe_load((ROOT / "configs" / VLLM.config).read_text())
    entry = {
        "name": MODEL,
        "model_path": str(make_tiny(folder / "thinker", thinks=True)),
        "reasoning_parser": "deepseek_r1",
        "engine_args": {"kv_cache_memory_bytes": 1 << 28},
    }
    (configs / VLLM.config).write_text(yaml.safe_dump({**settings, "models": [entry]}))
    port, metrics = free_ports(2)
    environ = {
        "VLLM": "1",
        "ARENA_CONFIG_DIR": str(configs),
        VLLM.variable: str(port),
        "ARENA_VLLM_METRICS_PORT": str(metrics),
    }
    system = System(folder / "run", environ)
    try:
        system.up()
        yield system
    finally:
        system.down()


@pytest.fixture(scope="module")
def llm(up: System) -> Iterator[Client]:
    with Client(up.target) as client:
        yield client


def address(system: System) -> str:
    return f"127.0.0.1:{system.env[VLLM.variable]}"


def test_it_is_one_of_the_services(up: System, llm: Client) -> None:
    assert "vllm" in up.deploy("status").stdout
    assert health(address(up)) == "SERVING"
    models = {model.name: model for model in llm.list_models()}
    assert (models[MODEL].backend, Capability.REASONING in models[MODEL].capabilities) == (
        "vllm",
        True,
    )
    assert psutil.Process(up.pid("vllm")).exe() == str(Path(VLLM.python).resolve())


def test_grpcurl_needs_no_files(up: System) -> None:
    grpcurl = up.deploy("grpcurl").stdout.strip()
    asked = f'{{"model": "{MODEL}"}}'
    method = "arena_llm.v1.LlmService/IsAvailable"
    done = subprocess.run(
        [grpcurl, "-plaintext", "-d", asked, address(up), method],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert '"MODEL_STATE_READY"' in done.stdout, done.stderr


def test_nothing_listens_beyond_loopback(up: System) -> None:
    service = psutil.Process(up.pid("vllm"))
    members = [service, *service.children(recursive=True)]
    listening = {
        connection.laddr.ip.removeprefix("::ffff:")
        for process in members
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN and connection.laddr
    }
    assert len(members) >= 3
    assert listening == {"127.0.0.1"}


def test_reasoning_comes_apart_from_the_answer(llm: Client) -> None:
    """The same in a stream; a random model does not always come to an answer."""
    answered = 0
    for seed in range(8):
        whole = llm.generate(MODEL, "Your move?", seed=seed, **THINK)
        stream = llm.stream(MODEL, "Your move?", seed=seed, **THINK)
        assert "".join(stream) == stream.completion.text == whole.text
        # A character that the end of the reasoning cuts in half is shown or is not.
        assert stream.completion.reasoning.rstrip("\ufffd") == whole.reasoning.rstrip("\ufffd")
        assert "</think>" not in whole.reasoning
        assert 0 < whole.usage.reasoning_tokens <= whole.usage.completion_tokens
        if whole.text:
            answered += 1
            assert whole.usage.reasoning_tokens < whole.usage.completion_tokens
    assert answered


def test_a_choice_comes_after_the_reasoning_or_not_at_all(llm: Client) -> None:
    prompts = [f"{n}: your move?" for n in range(24)]
    replies = llm.generate_many(MODEL, prompts, choices=CHOICES, **THINK)
    chosen = [reply for reply in replies if isinstance(reply, Completion)]
    assert chosen
    assert {reply.text for reply in chosen} <= set(CHOICES)
    assert all(reply.finish_reason == FinishReason.STOP for reply in chosen)
    assert any(reply.reasoning for reply in chosen)
    refused = {str(reply) for reply in replies if not isinstance(reply, Completion)}
    assert all("config.max_tokens ended the reasoning" in text for text in refused)


async def test_a_killed_engine_core_ends_the_service_which_starts_anew(up: System) -> None:
    """kill -9 under load: calls fail at once, health turns, the supervisor starts it again."""
    service = up.pid("vllm")
    engine = [p for p in psutil.Process(service).children() if "EngineCore" in p.name()]
    assert len(engine) == 1
    assert os.getpgid(engine[0].pid) == engine[0].pid != os.getpgid(service)
    workers = engine[0].children(recursive=True)
    async with AsyncClient(up.target) as llm:

        async def ask(number: int) -> None:
            while True:  # until it fails: a reply may be short
                await llm.generate(MODEL, f"{number}: 7", max_tokens=480)

        calls = [asyncio.ensure_future(ask(number)) for number in range(32)]

        async def running() -> int:
            load = (await llm.is_available(MODEL)).load
            return 0 if load is None else load.running

        async with asyncio.timeout(60):
            while not await running():  # noqa: ASYNC110 - seen from outside alone
                await asyncio.sleep(0.005)
        engine[0].send_signal(signal.SIGKILL)
        await eventually(lambda: health(address(up)) != "SERVING")
        results = await asyncio.gather(*calls, return_exceptions=True)
    reasons = {getattr(error, "reason", None) or repr(error) for error in results}
    assert reasons <= {"UPSTREAM_UNAVAILABLE", "BACKEND_DOWN"}
    wait_until(lambda: up.pid("vllm") not in (0, service))
    wait_until(lambda: health(address(up)) == "SERVING", 300)
    assert "event=failed service=vllm" in up.log("vllm")
    assert not any(process.is_running() and process.status() != "zombie" for process in workers)
    async with AsyncClient(up.target) as llm:
        assert (await llm.is_available(MODEL)).available


def engines_of(service: psutil.Process) -> list[psutil.Process]:
    """The engine's processes: others come and go while it starts."""
    found = []
    for process in service.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if "VLLM" in process.name():
                found.append(process)
    return found


def test_a_service_that_is_killed_takes_its_engine_along(up: System) -> None:
    service = up.pid("vllm")
    engines = engines_of(psutil.Process(service))
    assert len(engines) >= 2
    os.kill(service, signal.SIGKILL)
    _, alive = psutil.wait_procs(engines, timeout=120)
    assert not [process for process in alive if process.status() != "zombie"]


def test_a_service_stops_while_its_engine_starts(up: System) -> None:
    wait_until(lambda: up.pid("vllm") != 0)
    killed = psutil.Process(up.pid("vllm"))
    killed.kill()
    wait_until(lambda: up.pid("vllm") not in (0, killed.pid))
    service = psutil.Process(up.pid("vllm"))
    wait_until(lambda: bool(engines_of(service)))
    engines = engines_of(service)
    assert health(address(up)) == "NOT_SERVING"
    up.down()
    assert not service.is_running()
    assert not [p for p in engines if p.is_running() and p.status() != "zombie"]
    assert "event=stopped service=vllm" in up.log("vllm").rpartition("event=listening")[2]
