"""The file or the Valkey server in which the cache keeps replies: shared, bounded, and absent."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from router.cache.sqlite import SqliteStore
from router.cache.valkey import ValkeyStore
from router.config import CacheConfig, RouterConfig
from services.common.config import ConfigError
from tests.support.caching_router import RPCS, Open, Stack
from tests.support.waiting import eventually


async def test_another_router_of_this_machine_reads_the_same_file(open_stack: Open) -> None:
    async with open_stack() as one, open_stack() as two:
        await one.ask()
        assert (await two.ask()).cached
    async with open_stack() as later:
        assert (await later.ask()).cached


async def test_only_this_user_can_read_the_file(stack: Stack, tmp_path: Path) -> None:
    await stack.ask()
    for path in (tmp_path / "folder").iterdir():
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600, path


@RPCS
async def test_a_store_that_fails_does_not_fail_calls(
    stack: Stack, tmp_path: Path, rpc: str
) -> None:
    with closing(sqlite3.connect(tmp_path / "folder/replies.sqlite")) as connection:
        connection.execute("DROP TABLE replies")
    assert [(await stack.ask(rpc)).text for _ in range(2)] == ["ok", "ok"]
    assert stack.router.cache.counts.errors == 4


class Clock:
    now = 1e9

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def stored(path: Path, clock: Clock, **settings: Any) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(CacheConfig(store=str(path / "r.sqlite"), **settings), clock)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def test_the_least_recently_used_replies_are_dropped(tmp_path: Path) -> None:
    clock = Clock()
    async with stored(tmp_path, clock, max_bytes=1000) as store:
        for number in range(10):
            await store.put(b"%d" % number, "", b"x" * 100)
            clock.now += 100
        assert await store.get(b"0", "") is not None  # used now
        await store.put(b"10", "", b"x" * 100)
        found = [n for n in range(11) if await store.get(b"%d" % n, "") is not None]
        assert found == [0, 3, 4, 5, 6, 7, 8, 9, 10]
        await store.put(b"10", "", b"y" * 100)  # in place of the one before
        with closing(sqlite3.connect(tmp_path / "r.sqlite")) as connection:
            assert connection.execute("SELECT bytes FROM total").fetchone() == (900,)


async def test_old_and_large_replies_are_not_returned(open_stack: Open, tmp_path: Path) -> None:
    clock = Clock()
    async with stored(tmp_path, clock, max_age_seconds=60) as store:
        await store.put(b"d", "", b"x")
        clock.now += 60
        assert await store.get(b"d", "") == b"x"
        clock.now += 1
        assert await store.get(b"d", "") is None
    async with open_stack(max_reply_bytes=1000) as stack:
        for length, cached in ((100, True), (2000, False)):
            stack.backend.default = "x" * length
            await stack.ask(prompt=str(length))
            assert (await stack.ask(prompt=str(length))).cached == cached


@pytest.mark.parametrize("content", [b"no database, but text", None], ids=["text", "other tables"])
async def test_a_file_of_another_program_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "r.sqlite"
    if content is None:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE t (x)")
    else:
        path.write_bytes(content * 100)
    before = path.read_bytes()
    with pytest.raises(ConfigError, match=f"cache.store: {path}"):
        async with stored(tmp_path, Clock()):
            pass
    assert path.read_bytes() == before


async def test_routers_share_a_valkey_server(
    open_stack: Open, valkey_client: Any, valkey_url: str
) -> None:
    async with (
        open_stack(store=valkey_url, max_age_seconds=1000) as one,
        open_stack(store=valkey_url) as two,
    ):
        await one.ask()
        assert (await two.ask()).cached
        (key,) = valkey_client.keys()
        assert 990_000 < valkey_client.pttl(key) <= 1_000_000
        valkey_client.flushall()
        assert not (await two.ask("StreamGenerate")).cached
        assert (await one.ask("StreamGenerate")).cached


async def test_calls_go_on_without_the_valkey_server(
    open_stack: Open, valkey_server_factory: Any
) -> None:
    server = valkey_server_factory()
    url = f"valkey://:secret@{server.host}:{server.port}"
    with pytest.raises(ConfigError, match=r"cache\.store: the Valkey server does not answer") as e:
        await ValkeyStore(CacheConfig(store=url)).open()
    assert "secret" not in str(e.value)
    async with open_stack(store=f"valkey://{server.host}:{server.port}") as stack:
        await stack.ask()
        await eventually(lambda: not stack.router.cache._releasing)
        server.stop()
        assert (await stack.ask()).text == "ok"
        assert stack.router.cache.counts.errors == 2


def test_a_recording_needs_a_file_and_one_process() -> None:
    routes = {"hf_": {"targets": ["127.0.0.1:1"]}}
    for cache, workers, problem in (
        ({"mode": "replay", "store": "valkey://h:1"}, 1, "needs a file"),
        ({"mode": "record"}, 2, "needs workers: 1"),
    ):
        with pytest.raises(ValidationError, match=problem):
            RouterConfig.model_validate(
                {"listen": "127.0.0.1:0", "routes": routes, "cache": cache, "workers": workers}
            )
