"""Client, router and the litellm service as processes, before real HTTP upstreams."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from arena_llm import ArenaError, AsyncClient
from services.common.server import GRACE
from tests.support.processes import ServiceProcess, router_process
from tests.support.system import free_ports
from tests.support.upstreams import anthropic, gemini, openai
from tests.support.upstreams.server import Fault, Reply, UpstreamServer
from tests.support.waiting import eventually

#: Models that the shipped configuration lists, by the start of their upstream's variables.
MODELS = {
    "OPENAI": "litellm_openai/gpt-4o-mini",
    "ANTHROPIC": "litellm_anthropic/claude-sonnet-4-5",
    "GEMINI": "litellm_gemini/gemini-2.5-flash",
}
KEYS = {"OPENAI": openai.KEY, "ANTHROPIC": anthropic.KEY, "GEMINI": gemini.KEY}
PROMPT = "the secret prompt"


class Fleet:
    """The service with the shipped configuration, behind a router."""

    def __init__(self, service: ServiceProcess, router: ServiceProcess) -> None:
        self.service = service
        self.router = router

    def logs(self) -> str:
        return self.service.log() + self.router.log()


@pytest.fixture
async def upstreams() -> AsyncIterator[dict[str, UpstreamServer]]:
    async with (
        openai.OpenAIUpstream() as one,
        anthropic.AnthropicUpstream() as two,
        gemini.GeminiUpstream() as three,
    ):
        yield {"OPENAI": one, "ANTHROPIC": two, "GEMINI": three}


@pytest.fixture
def fleet(
    upstreams: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[bool], Fleet]]:
    for name in list(os.environ):
        if name.endswith("_API_KEY"):
            monkeypatch.delenv(name)
    with contextlib.ExitStack() as stack:

        def start(keys: bool = True) -> Fleet:
            serve, route = free_ports(2)
            monkeypatch.setenv("ARENA_LITELLM_PORT", str(serve))
            for provider, upstream in upstreams.items():
                monkeypatch.setenv(f"{provider}_API_BASE", upstream.url)
                if keys:
                    monkeypatch.setenv(f"{provider}_API_KEY", KEYS[provider])
            config = tmp_path / "router.yaml"
            config.write_text(
                f"listen: 127.0.0.1:{route}\nask_timeout_seconds: 5\n"
                f"routes:\n  litellm_: {{targets: ['127.0.0.1:{serve}']}}\n"
            )
            service = ServiceProcess(f"127.0.0.1:{serve}", "-m", "services.litellm")
            router = router_process(f"127.0.0.1:{route}", config)
            return Fleet(stack.enter_context(service), stack.enter_context(router))

        yield start


async def test_the_whole_way_to_three_providers(
    fleet: Callable[[], Fleet], upstreams: dict[str, UpstreamServer]
) -> None:
    running = fleet()
    shown = ""
    async with AsyncClient(running.router.address) as llm:
        listed = {model.name: model for model in await llm.list_models()}
        for provider, model in MODELS.items():
            upstream = upstreams[provider]
            upstream.enqueue(Fault(503), Reply("b2", reasoning="why"), Reply("a1"))
            upstream.enqueue(Reply('{"choice": "a1"}'), Fault(401, f"no user for {KEYS[provider]}"))
            reply = await llm.generate(model, PROMPT, temperature=0.1, max_tokens=200)
            assert (reply.text, reply.reasoning, reply.model) == ("b2", "why", model)
            assert reply.attempts == 2
            assert reply.usage.cost_usd
            stream = llm.stream(model, PROMPT)
            assert [delta async for delta in stream] == ["a", "1"]
            assert stream.completion is not None
            assert stream.completion.usage == reply.usage or stream.completion.usage.cost_usd
            assert (await llm.generate(model, PROMPT, choices=["a1", "b2"])).text == "a1"
            answer = await llm.is_available(model)
            assert (answer.available, answer.price) == (True, listed[model].price)
            with pytest.raises(ArenaError) as caught:
                await llm.generate(model, PROMPT)
            assert caught.value.reason == "API_KEY_REJECTED"
            shown += f"{reply}{answer}{caught.value!r}{vars(caught.value)}"
    assert "litellm_groq/llama-3.1-8b-instant" in listed
    # Each provider's; a line is written once the answer is on its way.
    await eventually(lambda: running.service.log().count("API_KEY_REJECTED") == len(MODELS))
    for secret in (*KEYS.values(), *(key[-8:] for key in KEYS.values()), PROMPT):
        assert secret not in running.logs() + shown
    others = [line for line in running.service.log().splitlines() if "event=" not in line]
    assert not others  # litellm itself writes nothing


async def test_without_a_key_it_serves_and_says_what_is_missing(
    fleet: Callable[[bool], Fleet], upstreams: dict[str, UpstreamServer]
) -> None:
    async with AsyncClient(fleet(False).router.address) as llm:
        for provider, model in MODELS.items():
            with pytest.raises(ArenaError) as caught:
                await llm.generate(model, PROMPT)
            assert caught.value.reason == "API_KEY_MISSING"
            assert caught.value.metadata["variable"] == f"{provider}_API_KEY"
            answer = await llm.is_available(model)
            assert (answer.available, answer.reason) == (False, "API_KEY_MISSING")
    assert not any(upstream.history for upstream in upstreams.values())


async def test_it_does_not_use_the_openrouter_services_key(
    fleet: Callable[[bool], Fleet], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although the shell that started it has it."""
    monkeypatch.setenv("OPENROUTER_API_KEY", "planted-key-of-another-service")
    async with AsyncClient(fleet(False).router.address) as llm:
        answer = await llm.is_available("litellm_openrouter/a/b")
    assert (answer.available, answer.reason) == (False, "API_KEY_MISSING")
    assert "openrouter service" in answer.detail


async def test_it_stops_at_once_and_leaves_nothing_open(
    fleet: Callable[[], Fleet], upstreams: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a channel open that watches its health, after calls of every kind."""
    monkeypatch.setenv("PYTHONWARNINGS", "default::ResourceWarning")
    service = fleet().service
    async with (
        AsyncClient(service.address) as llm,
        grpc.aio.insecure_channel(service.address) as probe,
    ):
        for provider, model in MODELS.items():
            upstreams[provider].enqueue(Reply(), Reply(), Fault(400), Reply(hold=asyncio.Event()))
            assert (await llm.generate(model, PROMPT)).text == "ok"
            assert [delta async for delta in llm.stream(model, PROMPT)] == ["o", "k"]
            with pytest.raises(ArenaError):
                await llm.generate(model, PROMPT)
            with pytest.raises(ArenaError):
                await llm.generate(model, PROMPT, timeout=0.2)
        watching = health_pb2_grpc.HealthStub(probe).Watch(health_pb2.HealthCheckRequest())
        await watching.read()
        service.signal(signal.SIGTERM)
        # Less than the grace that calls in flight are given.
        assert await asyncio.to_thread(service.process.wait, GRACE / 2) == 0
    lines = service.log().splitlines()
    assert "event=stopped" in lines[-1]
    assert not [line for line in lines if "event=" not in line]


@pytest.mark.parametrize("streamed", [False, True], ids=["unary", "streamed"])
async def test_a_cancelled_call_reaches_the_provider(
    fleet: Callable[[], Fleet], upstreams: dict[str, UpstreamServer], streamed: bool
) -> None:
    async with AsyncClient(fleet().router.address) as llm:
        for provider, model in MODELS.items():
            upstream = upstreams[provider]
            upstream.default = Reply("ab", hold=asyncio.Event())
            begun = asyncio.Event()
            task = asyncio.create_task(_call(llm, model, streamed, begun))
            await eventually(begun.is_set if streamed else lambda up=upstream: up.running)
            task.cancel()
            await asyncio.wait([task])
            await eventually(upstream.history[0].dropped.is_set)


async def _call(llm: AsyncClient, model: str, streamed: bool, begun: asyncio.Event) -> None:
    if streamed:
        async for _ in llm.stream(model, PROMPT):
            begun.set()
    else:
        await llm.generate(model, PROMPT)


async def test_200_calls_are_held_at_once(
    fleet: Callable[[], Fleet], upstreams: dict[str, UpstreamServer]
) -> None:
    gate = asyncio.Event()
    upstream = upstreams["OPENAI"]
    upstream.default = lambda call: Reply(call.body["messages"][0]["content"], hold=gate)
    async with AsyncClient(fleet().router.address, timeout=90) as llm:
        calls = asyncio.gather(*(llm.generate(MODELS["OPENAI"], f"{n}") for n in range(200)))
        await eventually(lambda: upstream.running == 200, 60)
        gate.set()
        assert [reply.text for reply in await calls] == [str(n) for n in range(200)]
