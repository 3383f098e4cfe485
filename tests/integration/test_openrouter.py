"""Client, router and the openrouter service as processes, before a real HTTP upstream."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from arena_llm import ArenaError, AsyncClient, Client
from tests.support.processes import ServiceProcess, router_process
from tests.support.system import free_ports
from tests.support.upstreams.openrouter import COST, KEY, OpenRouterUpstream
from tests.support.upstreams.server import Call, Fault, Reply, Step
from tests.support.waiting import eventually

#: One that the shipped configuration lists.
MODEL = "openrouter_openai/gpt-4o-mini"
PROMPT = "the secret prompt"


class Fleet:
    """The service with the shipped configuration, behind a router."""

    def __init__(self, service: ServiceProcess, router: ServiceProcess) -> None:
        self.service = service
        self.router = router

    def logs(self) -> str:
        return self.service.log() + self.router.log()


@pytest.fixture
async def upstream() -> AsyncIterator[OpenRouterUpstream]:
    async with OpenRouterUpstream() as server:
        for model in server.models:
            model["id"] = model["id"].replace("a/schema", "openai/gpt-4o-mini")
        yield server


@pytest.fixture
def fleet(
    upstream: OpenRouterUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], Fleet]]:
    with contextlib.ExitStack() as stack:

        def start(key: str = KEY) -> Fleet:
            serve, route = free_ports(2)
            for name, value in {
                "OPENROUTER_API_KEY": key,
                "OPENROUTER_BASE_URL": upstream.url,
                "ARENA_OPENROUTER_PORT": str(serve),
            }.items():
                monkeypatch.setenv(name, value)
            config = tmp_path / "router.yaml"
            config.write_text(
                f"listen: 127.0.0.1:{route}\nask_timeout_seconds: 5\n"
                f"routes:\n  openrouter_: {{targets: ['127.0.0.1:{serve}']}}\n"
            )
            service = ServiceProcess(f"127.0.0.1:{serve}", "-m", "services.openrouter")
            router = router_process(f"127.0.0.1:{route}", config)
            return Fleet(stack.enter_context(service), stack.enter_context(router))

        yield start


async def test_the_whole_way(fleet: Callable[[], Fleet], upstream: OpenRouterUpstream) -> None:
    running = fleet()
    upstream.enqueue(Reply("b2", reasoning="why"), Reply("a1"), Reply('{"choice": "a1"}'))
    async with AsyncClient(running.router.address) as llm:
        reply = await llm.generate(MODEL, PROMPT, temperature=0.1, max_tokens=200)
        assert (reply.text, reply.reasoning, reply.model) == ("b2", "why", MODEL)
        assert reply.usage.cost_usd == COST
        stream = llm.stream(MODEL, PROMPT)
        assert [delta async for delta in stream] == ["a", "1"]
        assert stream.completion is not None
        assert stream.completion.usage.cost_usd == COST
        assert (await llm.generate(MODEL, PROMPT, choices=["a1", "b2"])).text == "a1"
        answer = await llm.is_available(MODEL)
        assert answer.credits is not None
        assert (answer.available, answer.credits.limit_remaining_usd) == (True, 20.5)
        listed = {model.name: model for model in await llm.list_models()}
        assert listed[MODEL].context_length == 8192
        assert "openrouter_anthropic/claude-3.5-sonnet" in listed
        upstream.enqueue(Fault(401, message=f"no user for {KEY}"))
        with pytest.raises(ArenaError) as caught:
            await llm.generate(MODEL, PROMPT)
        assert caught.value.reason == "API_KEY_REJECTED"
    # The line is written once the answer is on its way.
    await eventually(lambda: "API_KEY_REJECTED" in running.service.log())
    shown = f"{reply}{listed}{answer}{caught.value!r}{vars(caught.value)}"
    for secret in (KEY, KEY[-8:], PROMPT):
        assert secret not in running.logs() + shown


async def test_without_a_key_it_serves_and_says_what_is_missing(
    fleet: Callable[[str], Fleet], upstream: OpenRouterUpstream
) -> None:
    async with AsyncClient(fleet("").router.address) as llm:
        with pytest.raises(ArenaError) as caught:
            await llm.generate(MODEL, PROMPT)
        assert caught.value.reason == "API_KEY_MISSING"
        assert caught.value.metadata["variable"] == "OPENROUTER_API_KEY"
        assert not (await llm.is_available(MODEL)).available
    assert not upstream.history


async def test_500_calls_are_held_at_once(
    fleet: Callable[[], Fleet], upstream: OpenRouterUpstream
) -> None:
    gate = asyncio.Event()
    upstream.default = lambda call: Reply(call.body["messages"][0]["content"], hold=gate)
    async with AsyncClient(fleet().router.address, timeout=90) as llm:
        calls = asyncio.gather(*(llm.generate(MODEL, f"{n}") for n in range(500)))
        await eventually(lambda: upstream.running == 500, 60)
        gate.set()
        assert [reply.text for reply in await calls] == [str(n) for n in range(500)]


@pytest.mark.parametrize("streamed", [False, True], ids=["unary", "streamed"])
async def test_a_cancelled_call_reaches_the_provider(
    fleet: Callable[[], Fleet], upstream: OpenRouterUpstream, streamed: bool
) -> None:
    upstream.default = Reply("ab", hold=asyncio.Event())
    async with AsyncClient(fleet().router.address) as llm:

        async def call() -> None:
            if streamed:
                async for _ in llm.stream(MODEL, PROMPT):
                    pass
            else:
                await llm.generate(MODEL, PROMPT)

        task = asyncio.create_task(call())
        await eventually(lambda: upstream.running)
        task.cancel()
        await asyncio.wait([task])
        await eventually(upstream.history[0].dropped.is_set)


def serves(running: Fleet) -> bool:
    """Whether the service takes new calls."""
    with grpc.insecure_channel(
        running.service.address, options=(("grpc.use_local_subchannel_pool", 1),)
    ) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=5
            )
        except grpc.RpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


async def test_a_stopping_service_ends_what_it_has_begun(
    fleet: Callable[[], Fleet], upstream: OpenRouterUpstream
) -> None:
    running = fleet()
    gate = asyncio.Event()
    upstream.default = Reply("ab", hold=gate)
    async with AsyncClient(running.router.address) as llm:
        unary = asyncio.create_task(llm.generate(MODEL, PROMPT))
        stream = llm.stream(MODEL, PROMPT)
        assert await anext(aiter(stream)) == "a"
        await eventually(lambda: upstream.running == 2)
        running.service.signal(signal.SIGTERM)
        await eventually(lambda: not serves(running))
        gate.set()
        assert (await unary).text == "ab"
        assert [delta async for delta in stream] == ["b"]
    assert await asyncio.to_thread(running.service.process.wait, 30) == 0


async def test_random_faults_end_every_call_rightly(
    fleet: Callable[[], Fleet], upstream: OpenRouterUpstream
) -> None:
    dice = random.Random(3)  # noqa: S311 - the same faults each time
    faults = [
        Fault(429, headers={"Retry-After": "0"}),
        Fault(503, headers={"Retry-After": "0"}),
        Fault(reset=True),
        Fault(truncate=True),
    ]

    def step(call: Call) -> Step:
        if dice.random() < 0.1:
            return dice.choice(faults)
        return Reply(call.body["messages"][0]["content"])

    upstream.default = step
    async with AsyncClient(fleet().router.address, timeout=60) as llm:
        prompts = [f"move {n}" for n in range(1000)]
        replies = await llm.generate_many(MODEL, prompts, concurrency=50)
    errors = [reply for reply in replies if isinstance(reply, ArenaError)]
    assert {error.reason for error in errors} <= {"RATE_LIMITED", "UPSTREAM_UNAVAILABLE"}
    for prompt, reply in zip(prompts, replies, strict=True):
        assert isinstance(reply, ArenaError) or reply.text == prompt
    assert len(errors) < 10
    assert upstream.running == 0


async def test_threads_of_one_game_process(
    fleet: Callable[[], Fleet], upstream: OpenRouterUpstream
) -> None:
    """SPEC's Quick Start is synchronous."""
    address = fleet().router.address

    def play() -> list[str]:
        with Client(address) as llm:
            return [llm.generate(MODEL, PROMPT).text for _ in range(20)]

    played = await asyncio.gather(*(asyncio.to_thread(play) for _ in range(4)))
    assert played == [["ok"] * 20] * 4
    assert len(upstream.history) == 80
