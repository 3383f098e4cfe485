"""Services on Ray Serve, without Ray: calls as its ingress makes them, and the configuration."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from pydantic import ValidationError

from arena_llm.v1 import reply_pb2
from deploy.ray.__main__ import main
from deploy.ray.cluster import count_gpus
from deploy.ray.config import RayConfig
from deploy.ray.replica import LlmReplica
from services.common.errors import RateLimited
from services.common.hops import describe_remaining, read_remaining
from services.common.servicer import LlmServicer
from services.common.trailers import read_reason
from tests.support.logs import capture_logs
from tests.support.scripted import ScriptedBackend, hang
from tests.support.waiting import eventually
from tests.support.wire import request

SECRET = "my prompt and my key"  # noqa: S105 - of no service


class Context:
    """Serve's context of a call: it has no deadline, and cannot end the call."""

    def __init__(self, *metadata: tuple[str, str]) -> None:
        self._metadata = metadata
        self.code: grpc.StatusCode | None = None
        self.details = ""
        self.trailers: list[tuple[str, Any]] = []

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return self._metadata

    def peer(self) -> str:
        return "ipv4:127.0.0.1:1"

    def set_code(self, code: grpc.StatusCode) -> None:
        self.code = code

    def set_details(self, details: str) -> None:
        self.details = details

    def set_trailing_metadata(self, trailers: list[tuple[str, Any]]) -> None:
        self.trailers = trailers


@pytest.fixture
def backend() -> ScriptedBackend:
    return ScriptedBackend()


@pytest.fixture
def replica(backend: ScriptedBackend) -> LlmReplica:
    replica = object.__new__(LlmReplica)  # its start needs Serve
    replica._servicer = LlmServicer(backend)
    return replica


async def call(replica: LlmReplica, rpc: str, context: Context) -> list[bytes]:
    """The messages of a call, as Serve serializes them."""
    data = request().SerializeToString()
    if rpc == "StreamGenerate":
        events = replica.StreamGenerate(data, context)
        return [event.SerializeToString() async for event in events]
    return [(await replica.Generate(data, context)).SerializeToString()]  # type: ignore[attr-defined]


async def test_a_reply(replica: LlmReplica, backend: ScriptedBackend) -> None:
    context = Context()
    backend.enqueue("to a4")
    (reply,) = await call(replica, "Generate", context)
    assert reply_pb2.GenerateResponse.FromString(reply).message.parts[0].text == "to a4"
    assert context.code is None


@pytest.mark.parametrize("rpc", ["Generate", "StreamGenerate"])
@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (RateLimited("slow down", retry_after=2), "RESOURCE_EXHAUSTED", "RATE_LIMITED"),
        (ValueError(SECRET), "INTERNAL", "INTERNAL"),
    ],
    ids=["error", "bug"],
)
async def test_an_error_is_that_of_the_contract(
    replica: LlmReplica,
    backend: ScriptedBackend,
    rpc: str,
    error: Exception,
    code: str,
    reason: str,
) -> None:
    """Serve would show the text of an exception, and drop its details."""
    context = Context()
    backend.enqueue(error)
    with capture_logs():
        messages = await call(replica, rpc, context)
    assert (context.code.name, read_reason(context.trailers)) == (code, reason)
    assert SECRET not in context.details + repr(context.trailers) + repr(messages)
    assert messages[0] == b"" or rpc == "StreamGenerate"


@pytest.mark.parametrize("rpc", ["Generate", "StreamGenerate"])
async def test_the_deadline_of_the_metadata_ends_a_call(
    replica: LlmReplica, backend: ScriptedBackend, rpc: str
) -> None:
    context = Context(describe_remaining(0.05))
    backend.enqueue(hang)
    with capture_logs():
        await call(replica, rpc, context)
    assert context.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert read_reason(context.trailers) == "DEADLINE_EXCEEDED"
    await eventually(lambda: backend.running == 0)


@pytest.mark.parametrize(
    ("values", "seconds"),
    [((), None), (("1500",), 1.5), (("9", "2000"), 2.0), (("-1",), None), (("x" * 99,), None)],
)
def test_the_remaining_time(values: tuple[str, ...], seconds: float | None) -> None:
    assert read_remaining([("arena-remaining-ms", value) for value in values]) == seconds


def test_an_ingress_without_encryption_stays_on_loopback() -> None:
    services = {"hf": {}}
    with pytest.raises(ValidationError, match="has no encryption"):
        RayConfig.model_validate({"listen": "0.0.0.0:50060", "services": services})
    RayConfig.model_validate({"listen": "0.0.0.0:50060", "insecure": True, "services": services})
    RayConfig.model_validate({"listen": "127.0.0.1:50060", "services": services})


@pytest.mark.parametrize(
    ("config", "has_gpus", "gpus"),
    [
        ({"device": "cpu", "models": [{}]}, True, 0),
        ({"device": "auto", "models": [{}, {}]}, False, 0),
        ({"device": "auto", "models": [{}, {}]}, True, 1),
        ({"device": "cuda", "models": [{}]}, False, 1),
        ({"models": [{"device": "cuda", "engine_args": {"tensor_parallel_size": 4}}]}, False, 4),
        ({"models": [{"device": "auto", "engine_args": {}}] * 2}, True, 2),
        ({}, True, 0),
    ],
)
def test_gpus_of_a_replica(config: dict[str, Any], has_gpus: bool, gpus: int) -> None:
    models = [SimpleNamespace(**model) for model in config.pop("models", ())]
    assert count_gpus(SimpleNamespace(**config, models=models), has_gpus) == gpus


def test_nothing_is_stopped_where_nothing_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ARENA_RUN_DIR", str(tmp_path))
    monkeypatch.setattr("sys.argv", ["deploy.ray", "down"])
    assert main() == 0
    assert capsys.readouterr().out == "nothing was up\n"
