"""The router as a process; its backends are killed, stopped and restarted."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from arena_llm.v1 import models_pb2
from arena_llm.v1.error_pb2 import ERROR_REASON_BACKEND_DOWN
from tests.support.processes import (
    ServiceProcess,
    listens,
    router_process,
    run_to_end,
    scripted_process,
)
from tests.support.system import free_ports
from tests.support.waiting import eventually
from tests.support.wire import failure, reason, request, stub, until_running


class Fleet:
    """A router with its configuration, and a backend process for each name."""

    def __init__(
        self, router: ServiceProcess, backends: dict[str, ServiceProcess], config: Path
    ) -> None:
        self.router = router
        self.backends = backends
        self.config = config

    def restore(self) -> None:
        """Continue the processes that are stopped, and restart those that have ended."""
        for process in (self.router, *self.backends.values()):
            if process.process.poll() is None:
                process.signal(signal.SIGCONT)
            else:
                process.start()


Start = Callable[[str], Fleet]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Start a fleet; "hf vllm" are two backends, "hf*2" two replicas of one."""
    with contextlib.ExitStack() as stack:

        def start(names: str) -> Fleet:
            backends, lines = {}, []
            for name, _, count in (word.partition("*") for word in names.split()):
                addresses = [f"127.0.0.1:{port}" for port in free_ports(int(count or 1))]
                policy = "session" if count else "round_robin"
                lines.append(f"  {name}_: {{targets: {addresses}, policy: {policy}}}")
                for index, address in enumerate(addresses):
                    key = f"{name}{index}" if count else name
                    process = scripted_process(address, name, key, quick_pings=True)
                    backends[key] = stack.enter_context(process)
            address = f"127.0.0.1:{free_ports(1)[0]}"
            config = tmp_path_factory.mktemp("router") / "router.yaml"
            config.write_text(
                f"listen: {address}\nask_timeout_seconds: 1\nroutes:\n" + "\n".join(lines) + "\n"
            )
            router = router_process(address, config, quick_pings=True)
            return Fleet(stack.enter_context(router), backends, config)

        yield start


@pytest.fixture(scope="module")
def started_pair(start: Start) -> Fleet:
    return start("hf vllm")


@pytest.fixture
def pair(started_pair: Fleet) -> Iterator[Fleet]:
    """A router with an hf and a vllm backend, running again after each test."""
    yield started_pair
    started_pair.restore()


@pytest.fixture(scope="module")
def started_replicas(start: Start) -> Fleet:
    return start("hf*2 vllm")


@pytest.fixture
def replicas(started_replicas: Fleet) -> Iterator[Fleet]:
    """A router with two replicas of hf and one of vllm, running again after each test."""
    yield started_replicas
    started_replicas.restore()


async def until_answers(llm: Any, model: str) -> str:
    """Return the text of a reply, once the backend answers again."""
    async with asyncio.timeout(30):
        while await llm.Generate(request(model)).code() is not grpc.StatusCode.OK:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return str((await llm.Generate(request(model))).text)


async def test_kill_9_of_a_backend_fails_only_its_own_calls(pair: Fleet) -> None:
    hf, vllm = pair.backends["hf"], pair.backends["vllm"]
    async with stub(pair.router.address) as llm:
        other = llm.StreamGenerate(request("vllm_x", prompt="drip"))
        events = aiter(other)
        await anext(events)
        unary = asyncio.ensure_future(failure(llm.Generate(request("hf_x", prompt="hang"))))
        stream = llm.StreamGenerate(request("hf_x", prompt="drip"))
        await anext(aiter(stream))
        await until_running(hf.address, 2)
        hf.kill()
        for error in (await unary, await failure(stream)):
            assert error.code().name == "UNAVAILABLE"
            assert reason(error) == "BACKEND_DOWN"
            assert "connection broke" in error.details()
            assert hf.address in error.details()
        later = await failure(llm.Generate(request("hf_x")))
        assert reason(later) == "BACKEND_DOWN"
        for _ in range(20):
            await anext(events)
        assert (await llm.Generate(request("vllm_x"))).text == "vllm"
        hf.start()
        assert await until_answers(llm, "hf_x") == "hf"
        other.cancel()
        await until_running(vllm.address, 0, "vllm_x")


@pytest.mark.parametrize("rpc", ["Generate", "StreamGenerate"])
async def test_a_cancelled_call_stops_the_backends_work(rpc: str, pair: Fleet) -> None:
    backend = pair.backends["hf"].address
    async with stub(pair.router.address) as llm:
        prompt = "hang" if rpc == "Generate" else "drip"
        call = getattr(llm, rpc)(request(prompt=prompt))
        await until_running(backend, 1)
        call.cancel()
        await until_running(backend, 0)


async def test_a_lost_connection_to_the_caller_stops_the_backends_work(pair: Fleet) -> None:
    backend = pair.backends["hf"].address
    async with stub(pair.router.address) as llm:
        llm.Generate(request(prompt="hang"))
        await until_running(backend, 1)
    await until_running(backend, 0)


async def test_sessions_keep_their_replica_move_and_return(replicas: Fleet) -> None:
    sessions = [f"game-{i}" for i in range(40)]

    async with stub(replicas.router.address) as llm:

        async def homes() -> dict[str, str]:
            answers = await asyncio.gather(
                *(llm.Generate(request(session=session)) for session in sessions)
            )
            return {s: answer.text for s, answer in zip(sessions, answers, strict=True)}

        async def settled(wanted: set[str]) -> dict[str, str]:
            async with asyncio.timeout(30):
                while set((found := await homes()).values()) != wanted:
                    pass
            return found

        first = await settled({"hf0", "hf1"})
        assert await homes() == first == await homes()
        assert min(Counter(first.values()).values()) >= 4
        replicas.backends["hf0"].kill()
        await settled({"hf1"})
        replicas.backends["hf0"].start()
        await settled({"hf0", "hf1"})
        assert await homes() == first


async def test_another_replica_answers_a_call_whose_replica_is_lost(
    replicas: Fleet, tmp_path: Path
) -> None:
    finish = tmp_path / "finish"
    async with stub(replicas.router.address) as llm:
        home = (await llm.Generate(request(session="game"))).text
        call = llm.Generate(request(prompt=f"until {finish}", session="game"))
        other = ({"hf0", "hf1"} - {home}).pop()
        await until_running(replicas.backends[home].address, 1)
        replicas.backends[home].kill()
        await until_running(replicas.backends[other].address, 1)
        finish.touch()
        reply = await call
    assert reply.text == other
    assert reply.served_by.replica == replicas.backends[other].address
    # The line is written after the reply.
    await eventually(lambda: f"id={reply.request_id}" in replicas.router.log())
    log = replicas.router.log()
    assert "a replica was lost; another one is asked" in log
    (line,) = [one for one in log.splitlines() if f"id={reply.request_id}" in one]
    assert f"replica={reply.served_by.replica}" in line


async def test_a_stopped_backend_is_named_and_delays_no_other(pair: Fleet) -> None:
    vllm = pair.backends["vllm"]
    async with stub(pair.router.address) as llm:
        await llm.Generate(request("vllm_x"))
        vllm.signal(signal.SIGSTOP)
        listed = await llm.ListModels(models_pb2.ListModelsRequest(), timeout=60)
        assert [m.name for m in listed.models] == ["hf_model"]
        assert [(u.backend, *u.addresses) for u in listed.unreachable] == [("vllm", vllm.address)]
        answer = await llm.IsAvailable(models_pb2.IsAvailableRequest(model="vllm_x"), timeout=60)
        assert (answer.available, answer.reason) == (False, ERROR_REASON_BACKEND_DOWN)
        vllm.signal(signal.SIGCONT)
        assert await until_answers(llm, "vllm_x") == "vllm"


async def test_calls_of_a_hanging_backend_end_and_others_continue(replicas: Fleet) -> None:
    """Its process is stopped (SIGSTOP), so its connections stay open."""
    async with stub(replicas.router.address) as llm:
        homes = {
            (await llm.Generate(request(session=session))).text: session
            for session in map(str, range(40))
        }
        calls = [
            llm.Generate(request("vllm_x", prompt="hang")),
            llm.StreamGenerate(request("vllm_x", prompt="hang")),
            llm.Generate(request(prompt="hang", session=homes["hf0"])),
        ]
        ended = [asyncio.ensure_future(failure(call)) for call in calls]
        await until_running(replicas.backends["vllm"].address, 2, "vllm_model")
        await until_running(replicas.backends["hf0"].address, 1)
        for name in ("hf0", "vllm"):
            replicas.backends[name].signal(signal.SIGSTOP)
        async with asyncio.timeout(40):  # without pings, grpc needs more than a minute
            errors = await asyncio.gather(*ended[:2])
        assert [reason(error) for error in errors] == ["BACKEND_DOWN"] * 2
        # The other replica of hf has got the third call, which had no reply yet.
        await until_running(replicas.backends["hf1"].address, 1)
        ended[2].cancel()
        await until_running(replicas.backends["hf1"].address, 0)
        assert reason(await failure(llm.Generate(request("vllm_x")))) == "BACKEND_DOWN"
        assert (await llm.Generate(request(session=homes["hf0"]))).text == "hf1"
        for name in ("hf0", "vllm"):
            replicas.backends[name].signal(signal.SIGCONT)
        assert await until_answers(llm, "vllm_x") == "vllm"


@pytest.mark.parametrize("stopped", ["router", "hf"])
async def test_sigterm_during_50_calls_fails_none_of_them(
    stopped: str, start: Start, tmp_path: Path
) -> None:
    finish = tmp_path / "finish"
    asked = request(prompt=f"until {finish}")
    running = start("hf")
    backend = running.backends["hf"]
    async with stub(running.router.address) as llm:
        calls = [asyncio.ensure_future(llm.Generate(asked)) for _ in range(50)]
        await until_running(backend.address, 50)
        process = running.router if stopped == "router" else backend
        process.signal(signal.SIGTERM)
        await eventually(lambda: not listens(process.address))
        finish.touch()
        assert [(await call).text for call in calls] == ["hf"] * 50
    assert await asyncio.to_thread(process.process.wait, 20) == 0  # well within the grace period


async def test_garbage_on_the_routers_port_disturbs_no_call(pair: Fleet) -> None:
    async with stub(pair.router.address) as llm:
        host, port = pair.router.address.split(":")
        for garbage in (b"\x00" * 9999, b"GET / HTTP/1.1\r\n\r\n"):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(garbage)
            with contextlib.suppress(ConnectionError):
                await asyncio.wait_for(reader.read(1000), 10)
            writer.close()
        assert (await llm.Generate(request())).text == "hf"


async def test_a_prompt_of_5_mb_is_forwarded(pair: Fleet) -> None:
    async with stub(pair.router.address) as llm:
        assert (await llm.Generate(request(prompt="x" * 5_000_000))).text == "hf"


@pytest.mark.parametrize("called", ["router", "hf"])
async def test_a_compressed_message_is_refused_before_it_is_unpacked(
    called: str, pair: Fleet
) -> None:
    """A small message can be unpacked to gigabytes."""
    service = pair.router if called == "router" else pair.backends["hf"]
    before = service.peak_memory()
    channel = grpc.aio.insecure_channel(service.address, compression=grpc.Compression.Gzip)
    async with channel:
        call: Any = channel.unary_unary("/arena_llm.v1.LlmService/Generate")
        error = await failure(call(bytes(300 * 2**20)))
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED
    assert "gzip" in (error.details() or "")
    assert service.peak_memory() - before < 100 * 2**20
    async with stub(service.address) as llm:
        assert (await llm.Generate(request())).text == "hf"


def test_a_configuration_that_cannot_be_used_stops_it(tmp_path: Path) -> None:
    config = tmp_path / "router.yaml"
    config.write_text("listen: 127.0.0.1:0\nroutes:\n  hf_: {targets: []}\n")
    ended = run_to_end("-m", "router", "--config", str(config))
    assert ended.returncode == 1
    assert f"{config}: routes.hf_.targets: " in ended.stderr
    assert "Traceback" not in ended.stderr


async def test_the_port_in_use_stops_it(pair: Fleet) -> None:
    ended = run_to_end("-m", "router", "--config", str(pair.config))
    assert ended.returncode == 1
    assert f"router: cannot listen on {pair.router.address}: the port is in use" in ended.stderr
