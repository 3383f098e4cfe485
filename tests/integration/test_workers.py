"""`workers: 2`: several processes on one port behave as one service."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
import pytest_asyncio
from prometheus_client.parser import text_string_to_metric_families

from arena_llm import ArenaError, AsyncClient, Completion
from services.common.config import ConfigError, load_config
from services.common.service_info import make_limits
from services.openrouter.config import OpenRouterConfig
from tests.support.ports import free_ports
from tests.support.processes import ServiceProcess, run_to_end
from tests.support.providers import PROVIDERS
from tests.support.upstreams.openrouter import OpenRouterUpstream
from tests.support.upstreams.server import Fault, Reply
from tests.support.waiting import eventually

MODEL = "openrouter_a/b"
Pair = tuple[ServiceProcess, OpenRouterUpstream]


@pytest_asyncio.fixture
async def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pair]:
    monkeypatch.setenv("OPENROUTER_API_KEY", PROVIDERS["openrouter"].key)
    monkeypatch.setenv("ARENA_CONFIG_DIR", str(tmp_path))
    async with OpenRouterUpstream() as upstream:
        address, metrics = (f"127.0.0.1:{port}" for port in free_ports(2))
        monkeypatch.setenv("METRICS", metrics)
        config = {
            "listen": address,
            "metrics": metrics,
            "base_url": upstream.url,
            "models": [],
            "workers": 2,
        }
        (tmp_path / "openrouter_models.yaml").write_text(json.dumps(config))
        process = ServiceProcess(address, "-m", "services.openrouter")
        await asyncio.to_thread(process.start)
        try:
            await eventually(lambda: process.log().count("event=serving") == 2)
            yield process, upstream
        finally:
            process.__exit__()


def workers(process: ServiceProcess) -> list[int]:
    return [child.pid for child in psutil.Process(process.process.pid).children()]


def calls_of(process: ServiceProcess) -> float:
    """The calls of the model that Prometheus counts."""
    with urllib.request.urlopen(f"http://{os.environ['METRICS']}/metrics") as answer:
        text = answer.read().decode()
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "arena_llm_calls_total"
        and sample.labels["code"] == "OK"
        and sample.labels["gen_ai_request_model"] == MODEL
    )


async def ask(address: str, request_id: str) -> Completion:
    """Call over a new connection, which leads to any worker; clients of one time share it."""
    async with AsyncClient(address, timeout=30) as llm:
        return await llm.generate(MODEL, "move", request_id=request_id)


async def stream(address: str, request_id: str) -> str:
    async with AsyncClient(address, timeout=30) as llm:
        return "".join([text async for text in llm.stream(MODEL, "move", request_id=request_id)])


async def test_two_workers_are_one_service(service: Pair) -> None:
    process, upstream = service
    address = process.address
    hold = asyncio.Event()

    # The same request, from many connections, is one call: while it runs and afterwards.
    upstream.enqueue(Reply("a1", hold=hold))
    calls = [asyncio.create_task(ask(address, "same")) for _ in range(12)]
    await eventually(lambda: len(upstream.history) == 1)
    hold.set()
    replies = [*await asyncio.gather(*calls), await ask(address, "same")]
    assert {reply.text for reply in replies} == {"a1"}
    assert sorted(reply.replayed for reply in replies) == [False] + [True] * 12
    streams = 0
    async with asyncio.timeout(60):
        while streams < 6 or "handed_over=True" not in process.log():
            assert await stream(address, "same") == "a1"
            streams += 1
    assert len(upstream.history) == 1
    # Each call counts once, whichever workers had it and whichever shows the figures. The workers
    # exchange them once a second; so many readings are hardly all from the one that counted.
    await eventually(lambda: {calls_of(process) for _ in range(24)} == {13 + streams})

    # A failure of the other worker's call is the caller's failure.
    upstream.default = Fault(401, "no user")
    errors = [await error_reason(address, f"bad-{n}") for n in range(6) for _ in range(2)]
    assert set(errors) == {"API_KEY_REJECTED"}

    # A killed worker is replaced, and no id is lost for good.
    upstream.default = Reply("b2")
    killed, other = workers(process)
    os.kill(killed, signal.SIGKILL)
    for number in range(8):
        assert (await eventually_answered(address, f"id-{number}")).text == "b2"
    assert (await eventually_answered(address, "same")).text in ("a1", "b2")
    await eventually(lambda: len(workers(process)) == 2 and killed not in workers(process))
    assert other in workers(process)
    await eventually(lambda: process.log().count("event=serving") == 3)
    # Those of the killed worker, too. A call that it had counted may have been asked again.
    await eventually(lambda: calls_of(process) >= 13 + streams + 9)

    # Both finish their calls after SIGTERM.
    hold = asyncio.Event()
    upstream.default = Reply("last", hold=hold)
    upstream.history.clear()
    calls = [asyncio.create_task(ask(address, f"last-{n}")) for n in range(12)]
    await eventually(lambda: len(upstream.history) == 12)
    process.signal(signal.SIGTERM)
    await eventually(lambda: process.log().count("event=stopping") == 2)
    hold.set()
    assert {reply.text for reply in await asyncio.gather(*calls)} == {"last"}
    assert await asyncio.to_thread(process.process.wait, 30) == 0
    assert process.log().count("event=stopped") == 2


async def error_reason(address: str, request_id: str) -> str:
    with pytest.raises(ArenaError) as caught:
        await ask(address, request_id)
    return caught.value.reason


async def eventually_answered(address: str, request_id: str) -> Completion:
    """The answer of the other worker, or of the replacement."""
    for _ in range(50):
        try:
            return await ask(address, request_id)
        except ArenaError:
            await asyncio.sleep(0.1)
    raise AssertionError("no answer")


async def test_the_workers_end_with_the_process_that_started_them(service: Pair) -> None:
    process, _ = service
    started = workers(process)
    second = await asyncio.to_thread(run_to_end, "-m", "services.openrouter")
    assert second.returncode == 1
    assert f"cannot listen on {process.address}" in second.stderr
    process.signal(signal.SIGKILL)
    await eventually(lambda: not any(map(psutil.pid_exists, started)))


def test_each_worker_gets_its_part_of_the_bounds(tmp_path: Path) -> None:
    file = tmp_path / "openrouter_models.yaml"
    model = {"name": MODEL, "rpm": 30, "tpm": 1000, "max_concurrency": 5}
    limits = [{"models": "openrouter_*", "rpm": 60}]
    whole = {"listen": "127.0.0.1:0", "models": [model], "limits": limits, "max_concurrency": 9}
    file.write_text(json.dumps({**whole, "max_calls_in_flight": 0, "workers": 2}))
    own = load_config(file, OpenRouterConfig).of_worker()
    assert (own.max_concurrency, own.max_calls_in_flight) == (4, 0)
    assert [(limit.rpm, limit.tpm) for limit in own.limits] == [(30, None)]
    assert own.request_id_bytes == 32 * 2**20
    assert make_limits(own).max_bytes_in_flight == 512 * 2**20
    (entry,) = own.models
    assert (entry.rpm, entry.tpm, entry.max_concurrency) == (15, 500, 2)

    file.write_text(json.dumps({**whole, "workers": 8}))
    with pytest.raises(
        ConfigError, match=f"{MODEL}: max_concurrency 5 cannot be divided among 8 workers"
    ):
        load_config(file, OpenRouterConfig)
