"""Two routers as processes that share the file of the cache: equal calls, and a killed router."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple

import pytest_asyncio

from arena_llm import AsyncClient, Completion
from services.common.servicer import LlmServicer
from tests.support.ports import free_ports
from tests.support.processes import ServiceProcess, router_process
from tests.support.scripted import PromptedBackend, serving
from tests.support.waiting import eventually


class Router(NamedTuple):
    process: ServiceProcess
    client: AsyncClient

    async def ask(self, prompt: str) -> Completion:
        return await self.client.generate("hf_model", prompt, temperature=0, timeout=60)


House = tuple[Router, Router, PromptedBackend]


@pytest_asyncio.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    store = tmp_path / "replies.sqlite"
    async with AsyncExitStack() as stack:
        backend = PromptedBackend("hf", "e4")
        server = await stack.enter_async_context(serving(LlmServicer(backend)))
        routers = []
        for port in free_ports(2):
            config = tmp_path / f"{port}.yaml"
            address = f"127.0.0.1:{port}"
            routes = {"hf_": {"targets": [server.address]}}
            settings = {"listen": address, "routes": routes, "cache": {"store": str(store)}}
            config.write_text(json.dumps(settings))
            process = router_process(address, config)
            stack.push(process.__exit__)
            client = await stack.enter_async_context(AsyncClient(address))
            routers.append(Router(process, client))
        await asyncio.gather(*(asyncio.to_thread(router.process.start) for router in routers))
        one, two = routers
        yield one, two, backend


async def test_equal_calls_of_two_processes_cost_one_and_a_killed_one_blocks_no_other(
    house: House, tmp_path: Path
) -> None:
    one, two, backend = house
    answer = tmp_path / "answer"
    equal = f"until {answer}"
    calls = [asyncio.create_task(one.ask(equal))]
    await eventually(lambda: backend.running)
    calls += [asyncio.create_task(router.ask(equal)) for router in (one, two)]
    # A later call of the same connections has been answered: those before it wait.
    for router in (one, two):
        assert not (await router.ask(router.process.address)).cached
    answer.touch()
    replies = await asyncio.gather(*calls)
    assert [(reply.text, reply.cached) for reply in replies] == [
        *(("e4", False), ("e4", True), ("e4", True))
    ]
    assert len(backend.history) == 3

    answer.unlink()
    killed = f"until  {answer}"
    lost = asyncio.create_task(one.ask(killed))
    await eventually(lambda: backend.running)
    waiting = asyncio.create_task(two.ask(killed))
    await asyncio.to_thread(one.process.kill)  # it cannot give up its claim, which expires
    await eventually(lambda: not backend.running)
    await eventually(lambda: backend.running)
    answer.touch()
    assert not (await waiting).cached
    assert (await two.ask(killed)).cached
    lost.cancel()
