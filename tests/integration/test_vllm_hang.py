"""An engine core that lives and does nothing."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from arena_llm import AsyncClient
from arena_llm.errors import UnavailableError
from tests.support.scripted import eventually
from tests.support.vllm import VllmProcess, make_tiny, require_vllm

MODEL = "vllm_tiny"
ENDLESS: dict[str, Any] = {"regex": "(7 ){4000}", "max_tokens": 400}
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def test_a_hung_engine_ends_the_service(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls fail, health turns, the exit status makes a supervisor start it anew, and no
    socket stays."""
    require_vllm()
    temporary = tmp_path_factory.mktemp("t")  # short, as sockets' paths must be
    monkeypatch.setenv("TMPDIR", str(temporary))
    entry = {
        "name": MODEL,
        "model_path": str(make_tiny(tmp_path / "tiny")),
        "engine_args": {"kv_cache_memory_bytes": 1 << 28},
    }
    with VllmProcess(tmp_path, [entry], hang_seconds=5) as service:
        async with (
            AsyncClient(service.address) as llm,
            grpc.aio.insecure_channel(service.address) as channel,
        ):
            watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            assert (await watch.read()).status == SERVING
            await llm.generate(MODEL, "7", max_tokens=8)
            children = psutil.Process(service.process.pid).children()
            (core,) = [child for child in children if "EngineCore" in child.name()]
            sockets = [path for path in temporary.rglob("*") if path.is_socket()]
            assert {path.parent.name[:11] for path in sockets} == {"arena-vllm-"}
            os.killpg(core.pid, signal.SIGSTOP)
            with pytest.raises(UnavailableError, match="has hung for 5 s") as caught:
                await llm.generate(MODEL, "7", **ENDLESS)
            assert caught.value.retry_after
            assert (await watch.read()).status == NOT_SERVING
            watch.cancel()
        await eventually(lambda: service.process.poll() is not None)
        assert service.process.returncode == 1
        assert re.search(f"event=failed .*the engine of {MODEL} has hung for 5 s", service.log())
        assert not core.is_running()
        assert not [*temporary.glob("arena-vllm-*")]
