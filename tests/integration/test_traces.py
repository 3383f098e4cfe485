"""One trace from a client to the provider, as a receiver of OTLP gets it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from arena_llm import Client
from arena_llm.tracing import is_requested
from tests.support.ports import free_ports
from tests.support.processes import ServiceProcess, router_process
from tests.support.providers import PROVIDERS
from tests.support.tiny_models import make_checkpoint
from tests.support.traces import Receiver, attributes, receiving
from tests.support.upstreams.openrouter import OpenRouterUpstream
from tests.support.upstreams.server import Fault
from tests.support.waiting import eventually

PROMPT = "the-secret-prompt"
CALL = f"""
from arena_llm import Client
with Client() as llm:
    llm.generate("openrouter_a/b", {PROMPT!r}, session="game-7",
                 labels={{"experiment": "one", "game": "game-7", "ply": "3"}})
"""


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    with receiving() as (found, environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        yield found


async def test_one_move_is_one_trace(
    receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = PROVIDERS["openrouter"].key
    monkeypatch.setenv("OPENROUTER_API_KEY", key)
    target, service = (f"127.0.0.1:{port}" for port in free_ports(2))
    monkeypatch.setenv("ARENA_LLM_TARGET", target)
    async with OpenRouterUpstream() as upstream:
        upstream.enqueue(Fault(503, "busy"))
        models = tmp_path / "openrouter_models.yaml"
        models.write_text(
            json.dumps(
                {"listen": service, "base_url": upstream.url, "models": [], "backoff_seconds": 0.01}
            )
        )
        config = tmp_path / "router.yaml"
        config.write_text(
            json.dumps({"listen": target, "routes": {"openrouter_": {"targets": [service]}}})
        )
        processes = [
            ServiceProcess(service, "-m", "services.openrouter", "--config", str(models)),
            router_process(target, config),
        ]
        try:
            for process in processes:
                await asyncio.to_thread(process.start)
            done = await asyncio.to_thread(
                subprocess.run, [sys.executable, "-c", CALL], capture_output=True, text=True
            )
            assert done.returncode == 0, done.stderr
            await eventually(lambda: len(receiver.spans) >= 7)
        finally:
            for process in processes:
                process.__exit__()

    by_place = {(who, span.name): span for who, span in receiver.spans}
    client = by_place["arena-llm-client", "Generate"]
    router = by_place["arena-llm-router", "Generate"]
    hosted = by_place["arena-llm-openrouter", "Generate"]
    assert {span.trace_id for _, span in receiver.spans} == {client.trace_id}
    assert not client.parent_span_id
    assert router.parent_span_id == client.span_id
    assert hosted.parent_span_id == router.span_id
    inside = [span for _, span in receiver.spans if span.parent_span_id == hosted.span_id]
    names = ["generation", "provider request", "provider request", "queue"]
    assert sorted(span.name for span in inside) == names

    # One move of one game can be found, and what it took.
    for span in (router, hosted):
        found = attributes(span)
        assert (found["arena.game"], found["arena.ply"]) == ("game-7", "3")
        assert found["gen_ai.request.model"] == "openrouter_a/b"
        assert found["gen_ai.usage.output_tokens"] > 0
    problems = [attributes(span).get("error.type") for span in inside if "request" in span.name]
    assert sorted(problems, key=str) == [None, "UPSTREAM_UNAVAILABLE"]

    # Never a key, nor what was said: no service of this test has `capture_content`.
    sent = "".join(str(span) for _, span in receiver.spans)
    assert PROMPT not in sent
    assert "messages" not in sent
    assert key not in sent


async def test_a_local_call_has_its_parts_and_what_was_said_if_that_is_wanted(
    receiver: Receiver, tmp_path: Path
) -> None:
    tiny = make_checkpoint(tmp_path / "tiny", "llama", chat=True)
    service = f"127.0.0.1:{free_ports(1)[0]}"
    config = tmp_path / "hf_models.yaml"
    models = [{"name": "hf_tiny", "model_path": str(tiny)}]
    config.write_text(json.dumps({"listen": service, "models": models, "capture_content": True}))
    process = ServiceProcess(service, "-m", "services.hf", "--config", str(config))
    with process, Client(service) as llm:
        whole = await asyncio.to_thread(llm.generate, "hf_tiny", PROMPT, max_tokens=4)
        with llm.stream("hf_tiny", PROMPT, max_tokens=4) as stream:
            streamed = await asyncio.to_thread(lambda: [*stream] and stream.completion)
        await eventually(lambda: len(receiver.spans) >= 8)
    spans = [span for _, span in receiver.spans]
    for rpc, reply in (("Generate", whole), ("StreamGenerate", streamed)):
        (call,) = [span for span in spans if span.name == rpc]
        parts = [span for span in spans if span.parent_span_id == call.span_id]
        assert [part.name for part in parts] == ["queue", "prefill", "decode"]
        times = [time for part in parts for time in _times(part)]
        began, ended = _times(call)
        assert [began, *times, ended] == sorted([began, *times, ended])
        assert min(end - begin for begin, end in map(_times, parts[1:])) > 0

        found = attributes(call)
        (asked,) = json.loads(found["gen_ai.input.messages"])
        (answered,) = json.loads(found["gen_ai.output.messages"])
        assert asked == {"role": "user", "parts": [{"type": "text", "content": PROMPT}]}
        assert answered["parts"] == [{"type": "text", "content": reply.text}]
        assert answered["finish_reason"] == reply.finish_reason.value


def _times(span: Any) -> tuple[int, int]:
    return span.start_time_unix_nano, span.end_time_unix_nano


def test_traces_are_opt_in() -> None:
    assert not is_requested({})
    receiver = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4317"}
    assert is_requested(receiver)
    assert not is_requested({**receiver, "OTEL_SDK_DISABLED": "true"})
    assert not is_requested({**receiver, "OTEL_TRACES_EXPORTER": "none"})
    code = "import sys, arena_llm.aio, router.servicer, services.common.hosted.retry; "
    code += "print(any(name.startswith('opentelemetry') for name in sys.modules))"
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    done = subprocess.run([sys.executable, "-c", code], env=clean, capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr
