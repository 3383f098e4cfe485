"""Envoy in front of the router: what goes straight to a service, and what only the router does."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from arena_llm import AsyncClient, PermissionDeniedError, UnauthenticatedError, UnavailableError
from arena_llm.errors import ArenaError, DeadlineExceededError
from arena_llm.tls import Tls
from deploy.certificates import make_certificates
from deploy.edge.envoy import Envoy
from router.config import RouterConfig
from router.servicer import Router
from router.targets import KnownReplicas
from router.tokens import TokensFile
from services.common.server import Server
from services.common.servicer import LlmServicer
from services.common.tenant import TENANT
from tests.support.edge import edge_before, make_resources, needs_envoy
from tests.support.ports import free_ports, refusing
from tests.support.processes import ServiceProcess
from tests.support.scripted import PromptedBackend, serving
from tests.support.waiting import eventually
from tests.support.wire import failure, reason, request, stub, until_running

pytestmark = needs_envoy
MODEL = "hf_model"


class System:
    """Services of one prefix, a router and Envoy, all on this machine."""

    def __init__(
        self,
        config: RouterConfig,
        envoy: Envoy,
        replicas: list[PromptedBackend],
        targets: list[str],
    ) -> None:
        self.config = config
        self.targets = targets
        self.envoy = envoy
        self.replicas = replicas
        self.address = config.edge or ""

    def client(self, **options: Any) -> AsyncClient:
        return AsyncClient(self.address, **options)

    async def use(self, *targets: str, held: bool = False) -> None:
        """Let Envoy know other replicas of hf."""
        first = self.config.routes["hf_"].targets[0]
        known = KnownReplicas(targets=list(targets) or [first], held=held)
        self.envoy.write(make_resources(self.config, {first: known}))
        await asyncio.to_thread(self.envoy.wait_applied)


@asynccontextmanager
async def running(
    folder: Path, replicas: int = 1, own_tls: Tls | None = None, **settings: Any
) -> AsyncIterator[System]:
    async with AsyncExitStack() as stack:
        backends = [PromptedBackend("hf", f"hf{number}") for number in range(replicas)]
        servers: list[Server] = [
            await stack.enter_async_context(serving(LlmServicer(one))) for one in backends
        ]
        listen, edge = (f"127.0.0.1:{port}" for port in free_ports(2))
        targets = [server.address for server in servers]
        route = {"targets": targets[:1]}  # the others are known as those of `make scale`
        config = RouterConfig.model_validate(
            {"listen": listen, "edge": edge, "routes": {"hf_": route}} | settings
        )
        await stack.enter_async_context(serving(Router(config), listen, config=config))
        envoy = await stack.enter_async_context(edge_before(config, folder / "edge", own_tls))
        yield System(config, envoy, backends, targets)


def count_routed(capfd: pytest.CaptureFixture[str]) -> int:
    """The calls that the router has made since the last time."""
    return sum("backend=hf" in line for line in capfd.readouterr().err.splitlines())


async def test_only_what_needs_the_router_goes_there(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    cache = {"models": ["hf_cached*"], "store": str(tmp_path / "cache.sqlite")}
    fallbacks = {"hf_weak": ["hf_strong"]}
    async with (
        running(tmp_path, cache=cache, fallbacks=fallbacks) as system,
        system.client() as llm,
    ):
        await until_straight(llm, capfd)
        asked: list[tuple[dict[str, Any], int]] = [
            ({"model": MODEL}, 0),
            ({"model": "hf_weak"}, 1),
            ({"model": "hf_weaker"}, 0),
            ({"model": "hf_cached-1", "temperature": 0}, 1),
            ({"model": MODEL, "fallback_models": ["hf_other"]}, 1),
            ({"model": MODEL, "fallback_models": []}, 0),
            ({"model": "hf_modèle"}, 1),  # no header can have it
        ]
        for options, expected in asked:
            count_routed(capfd)
            await llm.generate(prompt="hello", **options)
            assert count_routed(capfd) == expected, options
        stream = llm.stream(MODEL, "hello")
        assert [event async for event in stream]
        await llm.count_tokens(MODEL, "hello")
        assert count_routed(capfd) == 0
        # The router answers for all services.
        assert (await llm.is_available(MODEL)).available
        assert count_routed(capfd) == 1
        with pytest.raises(ArenaError, match="no backend serves 'gpt_x'"):
            await llm.generate("gpt_x", "hello")


async def until_straight(llm: AsyncClient, capfd: pytest.CaptureFixture[str]) -> None:
    """Wait until Envoy has found the replicas healthy."""
    async with asyncio.timeout(20):
        while True:
            count_routed(capfd)
            await llm.generate(MODEL, "hello")
            if not count_routed(capfd):
                return


def write_tokens(folder: Path, **entries: dict[str, Any]) -> str:
    path = folder / "tokens.yaml"
    tokens = {
        name: {"sha256": sha256(f"token-{name}".encode()).hexdigest(), **entry}
        for name, entry in entries.items()
    }
    path.write_text(
        TokensFile.model_validate({"tokens": tokens}).model_dump_json(exclude_defaults=True)
    )
    return str(path)


async def test_tokens_are_checked_and_quotas_are_kept(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tokens = write_tokens(
        tmp_path,
        free={"models": ["hf_"]},
        all={},
        limited={"calls_per_day": 2},
        narrow={"models": [MODEL]},
        other={"models": ["openrouter_"]},
    )
    async with running(tmp_path, tokens=tokens, usage=str(tmp_path / "usage.sqlite")) as system:

        async def ask(name: str, model: str = MODEL) -> int:
            count_routed(capfd)
            async with system.client(token=f"token-{name}") as llm:
                await llm.generate(model, "hello")
            return count_routed(capfd)

        async with system.client(token="token-all") as llm:  # noqa: S106
            await until_straight(llm, capfd)
        assert [await ask("free"), await ask("all")] == [0, 0]
        # The router counts those with quotas, and sees which model is really asked.
        assert [await ask("limited"), await ask("narrow"), await ask("limited")] == [1, 1, 1]
        with pytest.raises(ArenaError, match="has used its calls_per_day"):
            await ask("limited")
        with pytest.raises(PermissionDeniedError, match="the token other may not call"):
            await ask("other")
        with pytest.raises(UnauthenticatedError, match="the token is unknown"):
            await ask("wrong")
        async with system.client() as llm:
            with pytest.raises(UnauthenticatedError, match="needs a token"):
                await llm.generate(MODEL, "hello")
            with pytest.raises(UnauthenticatedError, match="needs a token"):
                await llm.list_models()


async def test_a_caller_cannot_name_another_tenant(tmp_path: Path) -> None:
    """Nor lead a call around the check: the headers of the edge are overwritten, or harmless."""
    tenants = []

    class Noting(PromptedBackend):
        async def generate_response(self, request: Any) -> Any:
            tenants.append(TENANT.get())
            return await super().generate_response(request)

    async with AsyncExitStack() as stack:
        service = await stack.enter_async_context(serving(LlmServicer(Noting("hf", "hf"))))
        listen, edge = (f"127.0.0.1:{port}" for port in free_ports(2))
        config = RouterConfig.model_validate(
            {
                "listen": listen,
                "edge": edge,
                "routes": {"hf_": {"targets": [service.address]}},
                "tokens": write_tokens(tmp_path, alice={}),
                "usage": str(tmp_path / "usage.sqlite"),
            }
        )
        await stack.enter_async_context(serving(Router(config), listen, config=config))
        await stack.enter_async_context(edge_before(config, tmp_path / "edge"))
        headers = (("arena-tenant", "bob"), ("arena-model", MODEL))
        token = ("authorization", "Bearer token-alice")
        async with stub(edge) as llm:
            for door in ((), (("arena-door", "router"),), (("arena-door", "straight"),)):
                await llm.Generate(request(), metadata=(*headers, token, *door))
                error = await failure(llm.Generate(request(), metadata=(*headers, *door)))
                assert reason(error) == "TOKEN_MISSING"
    assert set(tenants) == {"alice"}


async def test_every_hop_is_encrypted(tmp_path: Path) -> None:
    certs = tmp_path / "certs"
    make_certificates(certs, [])
    own = Tls(*(str(certs / name) for name in ("ca.crt", "client.crt", "client.key")))
    files = {"certificate": "server.crt", "key": "server.key", "client_ca": "ca.crt"}
    tls = {field: str(certs / name) for field, name in files.items()}
    async with running(tmp_path, own_tls=own, tls=tls) as system:
        for _ in range(2):
            async with system.client(tls=own) as llm:
                assert (await llm.generate(MODEL, "hello")).text == "hf0"
            make_certificates(certs, [])  # used without a restart
        async with system.client(tls=Tls(ca=own.ca), timeout=2) as stranger:
            with pytest.raises(ArenaError):
                await stranger.generate(MODEL, "hello")


async def test_without_a_replica_the_router_says_why_or_waits(tmp_path: Path) -> None:
    with refusing() as (dead,):
        async with running(tmp_path) as system, system.client(timeout=20) as llm:
            home = system.config.routes["hf_"].targets[0]
            await system.use(held=True)
            assert (await llm.generate(MODEL, "hello")).text == "hf0"  # by the router
            await system.use(home)
            assert (await llm.generate(MODEL, "hello")).text == "hf0"
        route = {"targets": [dead], "start": "make up"}
        async with running(tmp_path, routes={"hf_": route}) as system, system.client() as llm:
            with pytest.raises(UnavailableError, match="start it with `make up`") as caught:
                await llm.generate(MODEL, "hello")
    assert caught.value.reason == "BACKEND_DOWN"


async def test_cancelled_and_late_calls_end_in_the_service(tmp_path: Path) -> None:
    async with running(tmp_path) as system, system.client() as llm:
        (backend,) = system.replicas
        call = asyncio.create_task(llm.generate(MODEL, "hang"))
        await eventually(lambda: backend.running == 1)
        call.cancel()
        await eventually(lambda: backend.running == 0)
        with pytest.raises(DeadlineExceededError):
            await llm.generate(MODEL, "hang", timeout=0.2)
        await eventually(lambda: backend.running == 0)


async def test_sessions_stay_and_few_move_to_a_new_replica(tmp_path: Path) -> None:
    async with running(tmp_path, replicas=3) as system, system.client() as llm:
        targets = system.targets
        sessions = [f"game-{number}" for number in range(100)]

        async def homes() -> list[str]:
            return [(await llm.generate(MODEL, "?", session=name)).text for name in sessions]

        async def until(*found: str) -> list[str]:
            """Wait until exactly these replicas answer, each its own sessions."""
            last: list[str] = []
            async with asyncio.timeout(20):
                while {*(now := await homes())} != {*found} or now != last:
                    last = now
            return last

        await system.use(*targets[:2])
        before = await until("hf0", "hf1")
        await system.use(*targets)
        after = await until("hf0", "hf1", "hf2")
        moved = sum(old != new for old, new in zip(before, after, strict=True))
        assert moved <= 1.5 / 3 * len(sessions)
        await system.use(*targets[:2])
        assert await until("hf0", "hf1") == before


async def test_a_replica_that_is_killed_or_hangs_gets_no_more_calls(tmp_path: Path) -> None:
    listen, edge, *ports = free_ports(4)
    targets = [f"127.0.0.1:{port}" for port in ports]
    config = RouterConfig.model_validate(
        {
            "listen": f"127.0.0.1:{listen}",
            "edge": f"127.0.0.1:{edge}",
            "routes": {"hf_": {"targets": targets, "policy": "round_robin"}},
        }
    )
    async with AsyncExitStack() as stack:
        first, second = (
            stack.enter_context(ServiceProcess(one, "-m", "tests.support.scripted", one, "hf", one))
            for one in targets
        )
        await stack.enter_async_context(serving(Router(config), config.listen, config=config))
        await stack.enter_async_context(edge_before(config, tmp_path / "edge"))
        llm = await stack.enter_async_context(AsyncClient(config.edge, timeout=30))
        routed = await stack.enter_async_context(AsyncClient(config.listen, timeout=30))

        async def until_from(door: AsyncClient, *expected: str) -> None:
            async with asyncio.timeout(30):
                while {(await door.generate(MODEL, "?")).text for _ in range(6)} != {*expected}:
                    pass

        await until_from(llm, *targets)
        first.signal(signal.SIGSTOP)
        await until_from(llm, targets[1])
        first.signal(signal.SIGCONT)
        for door in (routed, llm):
            await until_from(door, *targets)
        # Its running call is repeated, because nobody bills it.
        finish = tmp_path / "finish"
        calls = [asyncio.create_task(llm.generate(MODEL, f"until {finish}")) for _ in range(2)]
        for target in targets:
            await until_running(target, 1)
        second.kill()
        await until_running(targets[0], 2)
        finish.touch()
        assert {(await call).text for call in calls} == {targets[0]}
