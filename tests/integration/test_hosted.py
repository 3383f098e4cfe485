"""Client, router, and both hosted services as processes, in front of fake providers.

The services have the shipped configurations. Most tests share one fleet of processes.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from arena_llm import ArenaError, AsyncClient, Client, Message
from arena_llm.types import Tool, ToolResult
from tests.support.ports import free_ports
from tests.support.processes import ServiceProcess, router_process
from tests.support.providers import PROVIDERS as FAKES
from tests.support.upstreams.openrouter import listing
from tests.support.upstreams.server import Fault, Reply, UpstreamServer
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

PROMPT = "the secret prompt"


#: The models are those of the shipped configurations.
PROVIDERS = {
    **FAKES,
    "openrouter": replace(FAKES["openrouter"], model="openrouter_openai/gpt-4o-mini"),
}


@dataclass(frozen=True)
class Fleet:
    """The running processes and the fake providers. upstreams: by the names of PROVIDERS."""

    address: str
    services: dict[str, ServiceProcess]
    router: ServiceProcess
    upstreams: dict[str, Any]

    def logs(self) -> str:
        return "".join(process.log() for process in (*self.services.values(), self.router))


@asynccontextmanager
async def start_fleet(folder: Path, keys: bool = True, **variables: str) -> AsyncIterator[Fleet]:
    """Start the services and a router. variables: more of the environment."""
    async with AsyncExitStack() as stack:
        environment = stack.enter_context(pytest.MonkeyPatch.context())
        for name in list(os.environ):
            if name.endswith("_API_KEY"):
                environment.delenv(name)
        upstreams: dict[str, UpstreamServer] = {}
        for name, provider in PROVIDERS.items():
            upstreams[name] = await stack.enter_async_context(provider.upstream())
            environment.setenv(provider.address, upstreams[name].url)  # type: ignore[attr-defined]
            if keys:
                environment.setenv(provider.variable, provider.key)
        listed = listing("openai/gpt-4o-mini", "structured_outputs", "response_format")
        upstreams["openrouter"].models.append(listed)  # type: ignore[attr-defined]
        for name, value in variables.items():
            environment.setenv(name, value)
        *ports, route = free_ports(3)
        lines = [f"listen: 127.0.0.1:{route}", "ask_timeout_seconds: 5", "routes:"]
        services = {}
        for name, port in zip(("openrouter", "litellm"), ports, strict=True):
            address = f"127.0.0.1:{port}"
            environment.setenv(f"ARENA_{name.upper()}_PORT", str(port))
            services[name] = ServiceProcess(address, "-m", f"services.{name}")
            lines.append(f"  {name}_: {{targets: ['{address}']}}")
        config = folder / "router.yaml"
        config.write_text("\n".join(lines))
        for service in services.values():
            await asyncio.to_thread(stack.enter_context, service)
        router = router_process(f"127.0.0.1:{route}", config)
        await asyncio.to_thread(stack.enter_context, router)
        yield Fleet(router.address, services, router, upstreams)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    async with start_fleet(tmp_path_factory.mktemp("fleet")) as running:
        yield running


@pytest.fixture
def fleet(shared: Fleet) -> Fleet:
    """The shared fleet. Its providers answer "ok" and have no history."""
    for upstream in shared.upstreams.values():
        upstream.history.clear()
        upstream.default = Reply()
    return shared


@pytest.fixture(params=PROVIDERS)
def provider(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def call(llm: AsyncClient, model: str, streamed: bool, begun: asyncio.Event) -> None:
    if streamed:
        async for _ in llm.stream(model, PROMPT):
            begun.set()
    else:
        await llm.generate(model, PROMPT)


async def test_a_call_of_every_kind(fleet: Fleet, provider: str) -> None:
    """No key and no prompt is in any reply, error or log."""
    upstream, tested = fleet.upstreams[provider], PROVIDERS[provider]
    upstream.enqueue(Fault(503), Reply("b2", reasoning="why"), Reply("a1"))
    upstream.enqueue(Reply('{"choice": "a1"}'), Fault(401, f"no user for {tested.key}"))
    service = fleet.services[tested.model.partition("_")[0]]
    rejections = service.log().count("API_KEY_REJECTED")
    async with AsyncClient(fleet.address) as llm:
        listed = {model.name: model for model in await llm.list_models()}
        assert tested.model in listed
        reply = await llm.generate(tested.model, PROMPT, temperature=0.1, max_tokens=200)
        assert (reply.text, reply.reasoning, reply.model) == ("b2", "why", tested.model)
        assert [attempt.http_status for attempt in reply.attempts] == [503, 200]
        assert reply.usage.cost_usd
        stream = llm.stream(tested.model, PROMPT)
        assert [delta async for delta in stream] == ["a", "1"]
        assert stream.completion is not None
        assert stream.completion.usage.cost_usd == reply.usage.cost_usd
        assert (await llm.generate(tested.model, PROMPT, choices=["a1", "b2"])).text == "a1"
        with pytest.raises(ArenaError) as caught:
            await llm.generate(tested.model, PROMPT)
        assert caught.value.reason == "API_KEY_REJECTED"
    # The line is written after the answer is sent.
    await eventually(lambda: service.log().count("API_KEY_REJECTED") > rejections)
    shown = f"{reply}{listed}{caught.value!r}{vars(caught.value)}{fleet.logs()}"
    for secret in (tested.key, tested.key[-8:], PROMPT):
        assert secret not in shown
    lines = fleet.services["litellm"].log().splitlines()
    assert not [line for line in lines if "event=" not in line], "litellm itself writes nothing"


@pytest.mark.parametrize("streamed", [False, True], ids=["unary", "streamed"])
async def test_a_tool_is_called_and_answered(fleet: Fleet, provider: str, streamed: bool) -> None:
    """The reply's message goes back unchanged, with the provider's signature."""
    upstream, model = fleet.upstreams[provider], PROVIDERS[provider].model
    call = ("call_1", "move", '{"to": "e4"}')
    upstream.enqueue(Reply("", "because", calls=[call], signature="signed-1"), Reply("done"))
    move = Tool("move", parameters_json_schema='{"type": "object"}')
    messages = [Message("user", "Your move?")]
    async with AsyncClient(fleet.address) as llm:
        if streamed:
            stream = llm.stream(model, messages=messages, tools=[move])
            _ = [event async for event in stream.events()]
            reply = stream.completion
        else:
            reply = await llm.generate(model, messages=messages, tools=[move])
        (asked,) = reply.tool_calls
        assert (asked.name, asked.arguments) == ("move", call[2])
        messages += [reply.message, Message("tool", ToolResult(asked.id, "legal"))]
        assert (await llm.generate(model, messages=messages, tools=[move])).text == "done"
    sent = str(upstream.history[1].body)
    assert "legal" in sent
    assert ("signed-1" in sent) == (provider != "openai")  # whose chat has no signatures


async def test_availability_has_credits_and_prices(fleet: Fleet) -> None:
    async with AsyncClient(fleet.address) as llm:
        answer = await llm.is_available(PROVIDERS["openrouter"].model)
        assert answer.available, answer
        assert answer.credits is not None
        assert answer.credits.limit_remaining_usd == 20.5
        answer = await llm.is_available(PROVIDERS["openai"].model)
    assert answer.available
    assert answer.model is not None
    assert answer.model.price is not None


async def test_a_cancelled_stream_ends_the_providers_request(fleet: Fleet, provider: str) -> None:
    upstream = fleet.upstreams[provider]
    upstream.default = Reply("ab", hold=asyncio.Event())
    begun = asyncio.Event()
    async with AsyncClient(fleet.address) as llm:
        task = asyncio.create_task(call(llm, PROVIDERS[provider].model, True, begun))
        await eventually(begun.is_set)
        task.cancel()
        await asyncio.wait([task])
        await eventually(upstream.history[0].dropped.is_set)


async def test_a_cancelled_call_is_finished_and_not_bought_again(
    fleet: Fleet, provider: str
) -> None:
    """It is billed anyway. The same request_id gets its reply."""
    upstream, model = fleet.upstreams[provider], PROVIDERS[provider].model
    gate = asyncio.Event()
    upstream.default = Reply("ab", hold=gate)
    options = {"request_id": f"cancelled-{provider}"}
    async with AsyncClient(fleet.address) as llm:
        task = asyncio.create_task(llm.generate(model, PROMPT, **options))  # type: ignore[arg-type]
        await eventually(lambda: upstream.running)
        task.cancel()
        await asyncio.wait([task])
        gate.set()
        reply = await llm.generate(model, PROMPT, **options)  # type: ignore[arg-type]
    assert reply.text == "ab"
    assert len(upstream.history) == 1


@pytest.mark.parametrize(("name", "calls"), [("openrouter", 500), ("openai", 200)])
async def test_many_concurrent_calls(fleet: Fleet, name: str, calls: int) -> None:
    gate = asyncio.Event()
    upstream = fleet.upstreams[name]
    upstream.default = lambda call: Reply(call.body["messages"][0]["content"], hold=gate)
    async with AsyncClient(fleet.address, timeout=90) as llm:
        model = PROVIDERS[name].model
        replies = asyncio.gather(*(llm.generate(model, f"{n}") for n in range(calls)))
        await eventually(lambda: upstream.running == calls, 60)
        gate.set()
        assert [reply.text for reply in await replies] == [str(n) for n in range(calls)]


async def test_threads_of_a_game_process(fleet: Fleet) -> None:
    """The synchronous client, as in README's quick start."""

    def play() -> list[str]:
        with Client(fleet.address) as llm:
            return [llm.generate(PROVIDERS["openrouter"].model, PROMPT).text for _ in range(10)]

    assert await asyncio.gather(*(asyncio.to_thread(play) for _ in range(4))) == [["ok"] * 10] * 4
    assert len(fleet.upstreams["openrouter"].history) == 40


async def test_without_a_key_the_services_run_and_name_the_variable(tmp_path: Path) -> None:
    """The litellm service does not get the openrouter service's key, even from the shell."""
    planted = {"OPENROUTER_API_KEY": "planted-key-of-another-service"}
    async with (
        start_fleet(tmp_path, keys=False, **planted) as fleet,
        AsyncClient(fleet.address) as llm,
    ):
        for name in ("openai", "anthropic", "gemini"):
            tested = PROVIDERS[name]
            with pytest.raises(ArenaError) as caught:
                await llm.generate(tested.model, PROMPT)
            assert caught.value.reason == "API_KEY_MISSING"
            assert caught.value.metadata["variable"] == tested.variable
            assert (await llm.is_available(tested.model)).reason == "API_KEY_MISSING"
            assert not fleet.upstreams[name].history
        answer = await llm.is_available("litellm_openrouter/a/b")
        assert (answer.available, answer.reason) == (False, "API_KEY_MISSING")
        assert "openrouter service" in answer.detail


def is_serving(service: ServiceProcess) -> bool:
    """Whether the service accepts new calls."""
    options = (("grpc.use_local_subchannel_pool", 1),)
    with grpc.insecure_channel(service.address, options=options) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=5
            )
        except grpc.RpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


async def test_stopping(tmp_path: Path) -> None:
    """A stopping service finishes its calls, stops quickly, and leaves nothing open."""
    async with start_fleet(tmp_path, PYTHONWARNINGS="default::ResourceWarning") as fleet:
        await stop_with_calls(fleet)
        await stop_after_calls_of_every_kind(fleet)


async def stop_with_calls(fleet: Fleet) -> None:
    service, upstream = fleet.services["openrouter"], fleet.upstreams["openrouter"]
    model = PROVIDERS["openrouter"].model
    gate = asyncio.Event()
    upstream.default = Reply("ab", hold=gate)
    async with AsyncClient(fleet.address) as llm:
        unary = asyncio.create_task(llm.generate(model, PROMPT))
        stream = llm.stream(model, PROMPT)
        assert await anext(aiter(stream)) == "a"
        await eventually(lambda: upstream.running == 2)
        service.signal(signal.SIGTERM)
        await eventually(lambda: not is_serving(service))
        gate.set()
        assert (await unary).text == "ab"
        assert [delta async for delta in stream] == ["b"]
    assert await asyncio.to_thread(service.process.wait, 30) == 0


async def stop_after_calls_of_every_kind(fleet: Fleet) -> None:
    """One channel stays open and watches the service's health."""
    service = fleet.services["litellm"]
    async with (
        AsyncClient(service.address) as llm,
        grpc.aio.insecure_channel(service.address) as probe,
    ):
        for name in ("openai", "anthropic", "gemini"):
            model = PROVIDERS[name].model
            steps = (Reply(), Reply(), Fault(400), Reply(hold=asyncio.Event()))
            fleet.upstreams[name].enqueue(*steps)
            assert (await llm.generate(model, PROMPT)).text == "ok"
            assert [delta async for delta in llm.stream(model, PROMPT)] == ["o", "k"]
            with pytest.raises(ArenaError):
                await llm.generate(model, PROMPT)
            with pytest.raises(ArenaError):
                await llm.generate(model, PROMPT, timeout=0.2)
        watching = health_pb2_grpc.HealthStub(probe).Watch(health_pb2.HealthCheckRequest())
        await watching.read()
        service.signal(signal.SIGTERM)
        # Less than the time that running calls get to finish.
        assert await asyncio.to_thread(service.process.wait, 15) == 0
    lines = service.log().splitlines()
    assert "event=stopped" in lines[-1]
    assert not [line for line in lines if "event=" not in line]
