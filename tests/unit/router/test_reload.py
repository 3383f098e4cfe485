"""Configurations, tokens and keys that change while calls run."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import grpc
import pytest

from router.backends import Backends
from router.config import RouterConfig
from router.servicer import Router
from router.usage import UsageBook
from services.common import environment, reload
from services.common.config import ConfigError, load_config
from services.common.reload import Reloader, list_changes
from services.common.servicer import LlmServicer
from services.openrouter.backend import OpenRouterBackend
from services.openrouter.config import OpenRouterConfig
from tests.support.scripted import ScriptedBackend, scripted, serving
from tests.support.waiting import eventually
from tests.support.wire import failure, reason, request, stub

#: By hand: ARENA_TEST_CALLS=10000 ARENA_TEST_RELOADS=50
CALLS = int(os.environ.get("ARENA_TEST_CALLS", "1000"))
RELOADS = int(os.environ.get("ARENA_TEST_RELOADS", "10"))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Look at files often, and have no .env of this checkout."""
    monkeypatch.setattr(reload, "_PAUSE", 0.01)
    monkeypatch.setattr(reload, "_STILL", 0.001)
    monkeypatch.setattr(environment, "_from_file", {})
    monkeypatch.chdir(tmp_path)


@asynccontextmanager
async def following(
    path: Path, config_type: Any, build: Callable[[Any], Any]
) -> AsyncIterator[Any]:
    """Serve a configuration's file, and follow it. Yields the stub."""
    load = partial(load_config, path, config_type)
    reloader = Reloader(path, load, ("ARENA_*", "OPENROUTER_*"))
    config = load()
    service = build(config)
    async with serving(service) as server, stub(server.address) as llm:
        task = asyncio.create_task(reloader.follow(service, config))
        try:
            yield llm
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


def write(path: Path, **settings: Any) -> None:
    path.write_text(json.dumps({"listen": "127.0.0.1:0", **settings}))


async def says(capfd: pytest.CaptureFixture[str], seen: list[str], *words: str) -> str:
    """Wait until the log has a line with all these words, and return it."""
    found: list[str] = []

    def look() -> bool:
        seen.extend(capfd.readouterr().err.splitlines())
        found.extend(line for line in seen if all(word in line for word in words))
        return bool(found)

    await eventually(look)
    seen.clear()
    return found[-1]


async def test_no_call_fails_while_the_configuration_changes(tmp_path: Path) -> None:
    """Routes move between two services, and tokens and limits change."""
    path, tokens = tmp_path / "router.yaml", tmp_path / "tokens.yaml"
    hashes = [sha256(text.encode()).hexdigest() for text in ("arena-a", "arena-b")]
    async with scripted() as (first, one), scripted() as (second, two):

        def change(turn: int) -> None:
            entries = {f"t{turn}": {"sha256": hashes[0]}, "other": {"sha256": hashes[1]}}
            tokens.write_text(json.dumps({"tokens": entries}))
            targets = [(one, two)[turn % 2].address]
            routes: dict[str, Any] = {"hf_": {"targets": targets}}
            if turn % 3 == 0:
                routes["openrouter_"] = {"targets": ["127.0.0.1:1"]}
            limits = {"max_calls_in_flight": 100 + turn, "tokens": str(tokens)}
            write(path, routes=routes, usage=str(tmp_path / "usage.sqlite"), **limits)

        reloads = 0

        class CountingRouter(Router):
            async def reconfigure(self, config: RouterConfig) -> None:
                nonlocal reloads
                await super().reconfigure(config)
                reloads += 1

        change(0)
        async with following(path, RouterConfig, CountingRouter) as llm:
            metadata = (("authorization", "Bearer arena-a"),)
            calls, done = 0, False

            async def play() -> None:
                nonlocal calls
                while not done:
                    calls += 1
                    assert (await llm.Generate(request(), metadata=metadata)).text == "ok"

            async def reconfigure() -> None:
                nonlocal done
                for turn in range(1, RELOADS + 1):
                    change(turn)
                    await eventually(lambda: reloads >= turn)  # noqa: B023 - awaited here
                    await eventually(lambda: calls >= turn * CALLS // RELOADS)  # noqa: B023
                done = True

            await asyncio.gather(reconfigure(), *(play() for _ in range(10)))
        assert len(first.history) + len(second.history) == calls
        assert min(len(first.history), len(second.history)) > CALLS / 4


async def test_routes_and_tokens_change_and_wrong_files_do_not(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path, tokens, seen = tmp_path / "router.yaml", tmp_path / "tokens.yaml", []  # type: ignore[var-annotated]
    entry = {"sha256": sha256(b"arena-a").hexdigest()}
    tokens.write_text(json.dumps({"tokens": {"alice": entry}}))
    settings = {"tokens": str(tokens), "usage": str(tmp_path / "usage.sqlite")}
    metadata = (("authorization", "Bearer arena-a"),)
    async with scripted() as (_, server):
        route = {"targets": [server.address]}
        good = {"listen": "127.0.0.1:0", **settings}
        secret = {"targets": ["localhost:1"], "tls": {"ca": "none.crt"}}
        write(path, routes={"hf_": route}, **settings)
        async with following(path, RouterConfig, Router) as llm:
            ask = partial(llm.Generate, request(), metadata=metadata)
            assert (await ask()).text == "ok"
            for wrong, problem in (
                ("{", "not valid YAML"),
                (json.dumps({"listen": "127.0.0.1:0", "routes": {}}), "routes"),
                (
                    json.dumps({**good, "routes": {"hf_": secret}}),
                    "routes.hf_: TLS: none.crt cannot",
                ),
            ):
                path.write_text(wrong)
                await says(capfd, seen, "configuration not reloaded", problem)
                assert (await ask()).text == "ok"
            write(path, routes={"hf_": route, "vllm_": route}, max_streams=7, **settings)
            await says(capfd, seen, "a change needs a restart", "max_streams")
            tokens.write_text(json.dumps({"tokens": {}}))
            await says(capfd, seen, "configuration reloaded", "tokens.yaml", "=tokens.-alice")
            assert reason(await failure(ask())) == "TOKEN_REJECTED"
            tokens.write_text("tokens: [")
            await says(capfd, seen, "configuration not reloaded", "tokens.yaml")
            assert reason(await failure(ask())) == "TOKEN_REJECTED"


async def test_a_change_takes_effect_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While routes are prepared, and after they cannot be, the old tokens hold."""
    paths = {}
    for name in ("old", "new"):
        entry = {"sha256": sha256(name.encode()).hexdigest()}
        paths[name] = tmp_path / f"{name}.yaml"
        paths[name].write_text(json.dumps({"tokens": {name: entry}}))
    prepare, preparing, go_on = Backends.prepare, asyncio.Event(), asyncio.Event()

    async def slow(self: Backends, routes: Any) -> Any:
        preparing.set()
        await go_on.wait()
        if "bad_" in routes:
            raise ConfigError("no such file")
        return await prepare(self, routes)

    async with scripted() as (_, server):

        def make(name: str, *prefixes: str) -> RouterConfig:
            routes: Any = {prefix: {"targets": [server.address]} for prefix in ("hf_", *prefixes)}
            usage = tmp_path / "usage.sqlite"
            return RouterConfig(
                listen="127.0.0.1:0", routes=routes, tokens=paths[name], usage=usage
            )

        router = Router(make("old"))
        async with serving(router) as front, stub(front.address) as llm:

            async def accepted() -> list[str]:
                found = []
                for name in paths:
                    metadata = (("authorization", f"Bearer {name}"),)
                    call = llm.Generate(request(), metadata=metadata)
                    if await call.code() is grpc.StatusCode.OK:
                        found.append(name)
                return found

            monkeypatch.setattr(Backends, "prepare", slow)
            for prefixes, after in ((["bad_"], "old"), ([], "new")):
                change = asyncio.create_task(router.reconfigure(make("new", *prefixes)))
                await preparing.wait()
                assert await accepted() == ["old"]
                go_on.set()
                await asyncio.gather(change, return_exceptions=True)
                assert await accepted() == [after]
                preparing.clear()
                go_on.clear()


async def test_tokens_begin_and_end(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path, usage = tmp_path / "router.yaml", tmp_path / "usage.sqlite"
    seen: list[str] = []
    for name in ("a", "b"):
        entry = {"sha256": sha256(name.encode()).hexdigest(), "calls_per_day": 2}
        (tmp_path / f"{name}.yaml").write_text(json.dumps({"tokens": {"alice": entry}}))
    async with scripted() as (backend, server):
        settings = {"routes": {"hf_": {"targets": [server.address]}}, "usage": str(usage)}
        write(path, **settings)
        async with following(path, RouterConfig, Router) as llm:

            async def ask(token: str = "") -> str:
                """Return the text, or why there is none."""
                metadata = (("authorization", f"Bearer {token}"),) if token else ()
                try:
                    return str((await llm.Generate(request(), metadata=metadata)).text)
                except grpc.aio.AioRpcError as error:
                    return reason(error)

            async def change(**tokens: str) -> None:
                write(path, **settings, **tokens)
                await says(capfd, seen, "configuration reloaded", "tokens")

            assert await ask() == "ok"
            changed = asyncio.Event()

            async def wait() -> str:
                await changed.wait()
                return "of before"

            backend.enqueue(wait)
            running = asyncio.create_task(ask())
            await eventually(lambda: len(backend.history) == 2)
            await change(tokens="a.yaml")
            changed.set()
            assert await running == "of before"
            assert [await ask(), await ask("b"), await ask("a")] == [
                *("TOKEN_MISSING", "TOKEN_REJECTED", "ok")
            ]
            await change(tokens="b.yaml")
            # What alice has used stays.
            assert [await ask("a"), await ask("b"), await ask("b")] == [
                *("TOKEN_REJECTED", "ok", "QUOTA_EXCEEDED")
            ]
            await change()
            assert await ask() == "ok"
            await change(tokens="b.yaml")
            assert [await ask(), await ask("b")] == ["TOKEN_MISSING", "QUOTA_EXCEEDED"]
            write(path, **settings, tokens="none.yaml")
            await says(capfd, seen, "configuration not reloaded", "none.yaml")
            assert await ask() == "TOKEN_MISSING"
    await (book := UsageBook(usage)).exchange()
    assert book.today("alice").calls == 2


async def test_the_cache_begins_changes_and_ends(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path, seen = tmp_path / "router.yaml", []  # type: ignore[var-annotated]
    async with scripted() as (backend, server):
        settings = {"routes": {"hf_": {"targets": [server.address]}}}
        write(path, **settings)
        async with following(path, RouterConfig, Router) as llm:

            async def count_new_calls() -> int:
                """Ask twice; return how many calls have reached the service."""
                before = len(backend.history)
                for _ in range(2):
                    await llm.Generate(request(config={"temperature": 0}))
                return len(backend.history) - before

            assert await count_new_calls() == 2
            cache = {"store": str(tmp_path / "replies.sqlite")}
            for change, calls in (
                ({"cache": cache}, 1),
                ({"cache": cache | {"max_age_seconds": 60}}, 0),
                ({"cache": cache | {"mode": "record"}}, 2),
                ({}, 2),
            ):
                write(path, **settings, **change)
                await says(capfd, seen, "configuration reloaded", "cache")
                assert await count_new_calls() == calls, change
            write(path, **settings, cache={"store": str(path / "in-a-file.sqlite")})
            await says(capfd, seen, "configuration not reloaded", "in-a-file.sqlite")
            assert await count_new_calls() == 2


async def test_models_and_keys_of_a_hosted_service_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("OPENROUTER_API_KEY", raising=False)
    path, seen = tmp_path / "openrouter_models.yaml", []  # type: ignore[var-annotated]
    settings = {"base_url": "http://127.0.0.1:9/v1", "allow_unlisted": False, "max_attempts": 1}
    write(path, models=["openrouter_a/b"], **settings)
    services: list[LlmServicer] = []

    def build(config: OpenRouterConfig) -> LlmServicer:
        services.append(LlmServicer(OpenRouterBackend(config)))
        return services[0]

    async with following(path, OpenRouterConfig, build) as llm:
        ask = partial(llm.Generate, request("openrouter_a/b"))
        assert reason(await failure(ask())) == "API_KEY_MISSING"
        (tmp_path / ".env").write_text("OPENROUTER_API_KEY=sk-or-first-secret\nOTHER_API_KEY=x\n")
        line = await says(capfd, seen, "configuration reloaded", "changed=OPENROUTER_API_KEY")
        assert "first-secret" not in line
        assert "OTHER_API_KEY" not in os.environ
        assert reason(await failure(ask())) == "UPSTREAM_UNAVAILABLE"
        write(path, models=["openrouter_c/d"], **settings)
        await says(capfd, seen, "models.-openrouter_a/b, models.+openrouter_c/d")
        assert reason(await failure(ask())) == "MODEL_NOT_FOUND"
        (tmp_path / ".env").write_text("OPENROUTER_API_KEY='open\n")
        await says(capfd, seen, "configuration not reloaded", ".env", "quote")
        assert os.environ["OPENROUTER_API_KEY"] == "sk-or-first-secret"
        (tmp_path / ".env").unlink()
        await says(capfd, seen, "configuration reloaded", "changed=OPENROUTER_API_KEY")
        assert reason(await failure(partial(llm.Generate, request("openrouter_c/d"))())) == (
            "API_KEY_MISSING"
        )
    assert "OPENROUTER_API_KEY" not in os.environ


async def test_what_the_environment_sets_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENROUTER_API_KEY", "of-the-environment")
    (tmp_path / ".env").write_text("OPENROUTER_API_KEY=of-the-file\n")
    assert not environment.read_dotenv_again(("OPENROUTER_*",)).names
    assert os.environ["OPENROUTER_API_KEY"] == "of-the-environment"


async def test_a_backend_that_cannot_change_keeps_its_configuration() -> None:
    service = LlmServicer(ScriptedBackend())
    with pytest.raises(ConfigError, match="only at its start"):
        await service.reconfigure(None)


def test_the_changes_are_named_and_not_shown() -> None:
    def make(**settings: Any) -> OpenRouterConfig:
        return OpenRouterConfig.model_validate({"listen": "127.0.0.1:0", **settings})

    old = make(models=["openrouter_a", {"name": "openrouter_b", "rpm": 1}], timeout_seconds=5)
    new = make(models=[{"name": "openrouter_b", "rpm": 2}, "openrouter_c"], timeout_seconds=6)
    assert list(list_changes(old, new)) == [
        "timeout_seconds",
        "models.-openrouter_a",
        "models.openrouter_b",
        "models.+openrouter_c",
    ]


@pytest.mark.integration
def test_sighup_reaches_every_worker(tmp_path: Path) -> None:
    path = tmp_path / "router.yaml"
    write(path, routes={"hf_": {"targets": ["127.0.0.1:1"]}}, workers=2)
    root = Path(__file__).parents[3]
    environ = os.environ | {"PYTHONPATH": os.pathsep.join([str(root), *sys.path])}
    command = [sys.executable, "-m", "router", "--config", str(path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environ) as process:
        assert process.stderr is not None
        counts = {"event=serving": 0, 'event="configuration reloaded"': 0}
        try:
            for line in process.stderr:
                for word in counts:
                    counts[word] += word in line
                if counts["event=serving"] == 2 and "event=serving" in line:
                    process.send_signal(signal.SIGHUP)
                if counts['event="configuration reloaded"'] == 2:
                    break
        finally:
            process.terminate()
    assert counts['event="configuration reloaded"'] == 2
