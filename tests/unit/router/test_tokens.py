"""A router with tokens: who may call, what, and how much of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from arena_llm import AsyncClient, Client, UnauthenticatedError
from arena_llm.cli import main
from arena_llm.types import Completion, Delta, FinishReason, Message, Usage
from arena_llm.v1 import models_pb2
from router.config import RouterConfig
from router.servicer import Router
from router.tokens import TokensFile, TokenTable
from router.usage import UsageBook, seconds_to_midnight
from services.common.config import ConfigError
from tests.support.scripted import ScriptedBackend, hang, scripted, serving
from tests.support.waiting import eventually
from tests.support.wire import count_request, details, failure, reason, request, score_request, stub

ALICE, BOB = "arena-alice-secret", "arena-bob-secret"
UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED


def entry(token: str, **limits: Any) -> dict[str, Any]:
    return {"sha256": sha256(token.encode()).hexdigest(), **limits}


def write(folder: Path, **entries: dict[str, Any]) -> Path:
    """Write a file of tokens; JSON is YAML."""
    path = folder / "tokens.yaml"
    path.write_text(TokensFile(tokens=entries).model_dump_json(exclude_defaults=True))
    return path


class Line:
    """A stub whose calls have a token."""

    def __init__(self, address: str, llm: Any, backend: ScriptedBackend) -> None:
        self.address, self._llm, self.backend = address, llm, backend

    def call(self, rpc: str, message: Any, token: str | None) -> Any:
        metadata = () if token is None else (("authorization", f"Bearer {token}"),)
        return getattr(self._llm, rpc)(message, metadata=metadata)

    def generate(self, token: str = ALICE, **fields: Any) -> Any:
        return self.call("Generate", request(**fields), token)


@asynccontextmanager
async def guarded(folder: Path, settings: dict[str, Any], **entries: Any) -> AsyncIterator[Line]:
    async with scripted() as (backend, server):
        config = RouterConfig(
            listen="127.0.0.1:0",
            routes={"hf_": {"targets": [server.address]}},  # type: ignore[dict-item]
            tokens=write(folder, **entries),
            usage=folder / "usage.sqlite",
            **settings,
        )
        async with serving(Router(config)) as front, stub(front.address) as llm:
            yield Line(front.address, llm, backend)


def answer(prompt: int, generated: int, usd: str) -> Completion:
    usage = Usage(prompt, generated, cost_picousd=int(Decimal(usd) * 10**12))
    return Completion(Message("assistant", "ok"), FinishReason.STOP, usage)


async def test_every_method_needs_a_token(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    asked = {
        "Generate": request(),
        "StreamGenerate": request(),
        "Score": score_request(),
        "CountTokens": count_request(),
        "IsAvailable": models_pb2.IsAvailableRequest(model="hf_model"),
        "ListModels": models_pb2.ListModelsRequest(),
    }
    async with guarded(tmp_path, {}, alice=entry(ALICE)) as line:
        for rpc, message in asked.items():
            for token, why in ((None, "TOKEN_MISSING"), ("arena-wrong", "TOKEN_REJECTED")):
                error = await failure(line.call(rpc, message, token))
                assert (error.code(), reason(error)) == (UNAUTHENTICATED, why), rpc
                assert "arena-llm token new" in (error.details() or "")
        assert not line.backend.history
        assert (await line.generate()).text == "ok"
        assert [m.name for m in (await line.call("ListModels", asked["ListModels"], ALICE)).models]
    log = capfd.readouterr().err
    assert "token=alice" in log
    assert "reason=TOKEN_REJECTED" in log
    assert not [secret for secret in (ALICE, "arena-wrong") if secret in log]


@pytest.mark.parametrize("settings", [{}, {"open_health": False, "open_reflection": True}])
async def test_health_and_reflection_are_open_or_closed_by_configuration(
    tmp_path: Path, settings: dict[str, bool]
) -> None:
    async def check(metadata: Any) -> None:
        health = health_pb2_grpc.HealthStub(channel).Check
        await health(health_pb2.HealthCheckRequest(), metadata=metadata)

    async def reflect(metadata: Any) -> None:
        ask = reflection_pb2.ServerReflectionRequest(list_services="*")
        method = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo
        async for _ in method(iter([ask]), metadata=metadata):
            pass

    authorization = (("authorization", f"bearer {ALICE}"),)  # the scheme has no case
    async with (
        guarded(tmp_path, settings, alice=entry(ALICE)) as line,
        grpc.aio.insecure_channel(line.address) as channel,
    ):
        for ask, is_open in ((check, not settings), (reflect, bool(settings))):
            await ask(authorization)
            if is_open:
                await ask(())
            else:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await ask(())
                assert caught.value.code() is UNAUTHENTICATED


async def test_a_token_calls_and_sees_its_own_models_only(tmp_path: Path) -> None:
    alice, bob = entry(ALICE, models=["openrouter_", "hf_mod"]), entry(BOB, models=["hf_other"])
    async with guarded(tmp_path, {}, alice=alice, bob=bob) as line:
        assert (await line.generate(ALICE)).text == "ok"
        for rpc, message in (
            ("Generate", request()),
            ("StreamGenerate", request()),
            ("IsAvailable", models_pb2.IsAvailableRequest(model="hf_model")),
        ):
            error = await failure(line.call(rpc, message, BOB))
            assert error.code() is grpc.StatusCode.PERMISSION_DENIED
            info: Any = details(error)["ErrorInfo"]
            assert info.reason == "MODEL_NOT_ALLOWED"
            assert dict(info.metadata) == {"token": "bob", "prefixes": "hf_other"}
        listing = models_pb2.ListModelsRequest()
        found = [len((await line.call("ListModels", listing, t)).models) for t in (ALICE, BOB)]
        assert found == [1, 0]


@pytest.mark.parametrize(
    ("quota", "limit", "calls"),
    [
        ("calls_per_day", 2, 2),
        ("tokens_per_day", 21, 3),  # each call takes 10
        ("usd_per_day", Decimal("0.5"), 2),  # each call costs 0.25
    ],
)
@pytest.mark.parametrize("rpc", ["Generate", "StreamGenerate"])
async def test_a_used_up_quota_refuses_until_midnight(
    tmp_path: Path, rpc: str, quota: str, limit: Any, calls: int
) -> None:
    entries = {"alice": entry(ALICE, **{quota: limit}), "bob": entry(BOB)}
    async with guarded(tmp_path, {}, **entries) as line:
        for _ in range(calls):
            paid = answer(7, 3, "0.25")
            line.backend.enqueue(paid if rpc == "Generate" else [Delta(text="ok"), paid])
            reply = line.call(rpc, request(), ALICE)
            if rpc == "Generate":
                await reply
            else:
                assert [event async for event in reply]
        error = await failure(line.generate())
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        found: Any = details(error)
        info = found["ErrorInfo"]
        assert (info.reason, info.metadata["quota"]) == ("QUOTA_EXCEEDED", quota)
        assert info.metadata["resets_at"].endswith("T00:00:00Z")
        assert abs(found["RetryInfo"].retry_delay.seconds - seconds_to_midnight_now()) < 60
        assert (await line.generate(BOB)).text == "ok"
    # A restart keeps what was used.
    async with guarded(tmp_path, {}, **entries) as line:
        assert reason(await failure(line.generate())) == "QUOTA_EXCEEDED"


def seconds_to_midnight_now() -> float:
    return seconds_to_midnight(time.time())


@pytest.mark.parametrize("rpc", ["Generate", "StreamGenerate"])
async def test_calls_in_flight_are_bounded_and_a_cancelled_call_counts(
    tmp_path: Path, rpc: str
) -> None:
    limits = {"max_in_flight": 1, "tokens_per_day": 2}
    async with guarded(tmp_path, {}, alice=entry(ALICE, **limits), bob=entry(BOB)) as line:
        line.backend.enqueue(hang)
        running = line.call(rpc, request(prompt="a prompt"), ALICE)
        await eventually(lambda: line.backend.running == 1)
        info: Any = details(await failure(line.generate()))["ErrorInfo"]
        assert (info.reason, info.metadata["quota"]) == ("QUOTA_EXCEEDED", "max_in_flight")
        assert (await line.generate(BOB)).text == "ok"
        running.cancel()

        async def is_counted() -> bool:
            await (book := UsageBook(tmp_path / "usage.sqlite")).exchange()
            return book.today("alice").tokens > 0

        await poll(is_counted)  # a moment after the call has ended
        info = details(await failure(line.generate()))["ErrorInfo"]
        assert info.metadata["quota"] == "tokens_per_day"


async def poll(ask: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while not await ask():  # noqa: ASYNC110 - asks the router
            await asyncio.sleep(0.01)


async def test_the_services_get_the_name_and_not_the_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    received: list[Any] = []
    monkeypatch.setattr(
        "services.common.servicer.check_client",
        lambda context: received.extend(context.invocation_metadata()),
    )
    async with guarded(tmp_path, {}, alice=entry(ALICE)) as line:
        metadata = (("authorization", f"Bearer {ALICE}"), ("arena-tenant", "somebody-else"))
        await line._llm.Generate(request(), metadata=metadata)
    pairs = [(key, value) for key, value in received if key in ("authorization", "arena-tenant")]
    assert pairs == [("arena-tenant", "alice")]


async def test_the_clients_send_the_token_and_never_show_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with guarded(tmp_path, {}, alice=entry(ALICE)) as line:

        def ask(client: Client) -> str:
            with client:
                return client.generate("hf_model", "hello").text

        assert await asyncio.to_thread(ask, Client(line.address, token=ALICE)) == "ok"
        with pytest.raises(UnauthenticatedError) as caught:
            await asyncio.to_thread(ask, Client(line.address))
        assert caught.value.reason == "TOKEN_MISSING"
        monkeypatch.setenv("ARENA_LLM_TOKEN", ALICE)
        assert await asyncio.to_thread(ask, Client(line.address)) == "ok"
        async with AsyncClient(line.address) as llm:
            assert (await llm.generate("hf_model", "hello")).text == "ok"
            assert ALICE not in repr(llm)
        command = ["--target", line.address, "generate", "hf_model", "hello"]
        assert await asyncio.to_thread(main, command) == 0
    assert capsys.readouterr().out == "ok\n"


@pytest.mark.parametrize("token", ["two words", "a\nb", "é", 7])
def test_a_token_that_no_header_can_hold_is_refused_without_being_shown(token: Any) -> None:
    with pytest.raises(ValueError, match="token") as caught:
        Client("localhost:1", token=token)
    assert str(token) not in str(caught.value)


def test_the_command_makes_lists_and_revokes_tokens(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "tokens.yaml"

    def run(*words: str, status: int = 0) -> str:
        assert main(["token", *words, "--file", str(path)]) == status
        shown = capsys.readouterr()
        return shown.out if not status else shown.err

    alice = run("new", "alice", "--models", "hf_", "openrouter_openai/", "--usd-per-day", "2.5")
    bob = run("new", "bob", "--calls-per-day", "10", "--max-in-flight", "2")
    path.write_text(path.read_text().replace("  bob:", "  # Bob's laptop\n  bob:"))
    table = TokenTable.load(path)
    found = [table.find(token.strip()) for token in (alice, bob, "arena-x")]
    assert [holder and holder.name for holder in found] == ["alice", "bob", None]
    assert table.entries["alice"].models == ("hf_", "openrouter_openai/")
    assert (table.entries["alice"].usd_per_day, table.entries["bob"].max_in_flight) == (
        Decimal("2.5"),
        2,
    )
    assert path.stat().st_mode & 0o777 == 0o600
    assert "already" in run("new", "bob", status=1)
    assert "NAME" in run("new", "-not a name", status=1)
    listed = run("list")
    assert "openrouter_openai/" in listed
    assert table.entries["alice"].sha256 not in listed
    run("revoke", "alice")
    assert TokenTable.load(path).entries.keys() == {"bob"}
    assert "# Bob's laptop" in path.read_text()
    run("revoke", "bob")
    assert not TokenTable.load(path).entries
    assert "no token bob" in run("revoke", "bob", status=1)


def test_the_command_keeps_links_modes_and_quotas_that_the_router_can_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    real, link = tmp_path / "shared.yaml", tmp_path / "tokens.yaml"

    def run(*words: str) -> int:
        return main(["token", *words, "--file", str(link)])

    assert run("list") == 0
    assert f"there is no file {link}" in capsys.readouterr().err
    assert run("new", "alice") == 0
    assert f"`tokens: {link}`" in link.read_text()
    link.rename(real)
    link.symlink_to(real)
    real.chmod(0o640)
    assert run("new", "bob", "--usd-per-day", "0.0000001") == 0
    for wrong in ("inf", "nan", "-1", "0"):
        assert run("new", "carol", f"--usd-per-day={wrong}") == 1
    assert link.is_symlink()
    assert real.stat().st_mode & 0o777 == 0o640
    entries = TokenTable.load(link).entries
    assert entries.keys() == {"alice", "bob"}
    assert entries["bob"].usd_per_day == Decimal("1e-7")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("tokens:\n  a b: {sha256: x}", "tokens"),
        ("tokens:\n  a: {sha256: xyz}", "sha256"),
        ("tokens:\n  a: {sha256: '%s', call_per_day: 1}", "calls_per_day"),
        ("tokens:\n  a: {sha256: '%s'}\n  b: {sha256: '%s'}", "same hash"),
    ],
)
def test_a_wrong_file_of_tokens_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "tokens.yaml"
    path.write_text(text.replace("%s", "0" * 64))
    with pytest.raises(ConfigError, match=problem):
        TokenTable.load(path)


def test_the_router_does_not_start_without_its_file_of_tokens(tmp_path: Path) -> None:
    config = RouterConfig(
        listen="127.0.0.1:0",
        routes={"hf_": {"targets": ["127.0.0.1:1"]}},  # type: ignore[dict-item]
        tokens=tmp_path / "missing.yaml",
    )
    with pytest.raises(ConfigError, match=r"missing\.yaml"):
        Router(config)


async def test_workers_share_the_day_and_a_full_disk_fails_no_call(tmp_path: Path) -> None:
    first, second = (UsageBook(tmp_path / "usage.sqlite") for _ in range(2))
    first.add("alice", 1, 5, 0)
    second.add("alice", 2, 0, 7)
    await first.exchange()
    await second.exchange()
    await first.exchange()
    for book in (first, second):
        used = book.today("alice")
        assert (used.calls, used.tokens, used.picousd) == (3, 5, 7)
    broken = UsageBook(tmp_path / "usage.sqlite" / "not-a-folder")
    broken.add("alice", 1, 0, 0)
    await broken.exchange()
    await broken.exchange()
    assert broken.today("alice").calls == 1


def test_a_new_day_begins_at_zero(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1_796_000_000.0]
    monkeypatch.setattr("router.usage.time.time", lambda: now[0])
    book = UsageBook(tmp_path / "usage.sqlite")
    book.add("alice", 3, 0, 0)
    assert book.today("alice").calls == 3
    now[0] += seconds_to_midnight(now[0])
    assert book.today("alice").calls == 0


async def test_a_flood_of_one_token_leaves_places_for_another(tmp_path: Path) -> None:
    settings = {"max_calls_in_flight": 4}
    async with guarded(tmp_path, settings, alice=entry(ALICE), bob=entry(BOB)) as line:
        line.backend.enqueue(*[hang] * 2)
        flood = [line.generate() for _ in range(2)]
        await eventually(lambda: line.backend.running == 2)
        assert reason(await failure(line.generate())) == "OVERLOADED"
        assert (await line.generate(BOB)).text == "ok"
        for call in flood:
            call.cancel()
