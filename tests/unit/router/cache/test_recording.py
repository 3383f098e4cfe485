"""The router records every call of a client, and replays it without a backend."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from arena_llm import AsyncClient, AsyncStream, CacheUse, NotFoundError
from arena_llm.types import Availability, Delta, Model, ModelState
from router.config import RouterConfig
from router.servicer import Router
from services.common import errors
from services.common.config import ConfigError
from tests.support.caching_router import routing
from tests.support.ports import free_ports
from tests.support.scripted import ScriptedBackend, scripted

MODEL = "hf_model"


@asynccontextmanager
async def routed(address: str, mode: str, store: Path) -> AsyncIterator[AsyncClient]:
    async with routing(address, store, mode=mode) as (router, _), AsyncClient(router) as llm:
        yield llm


@asynccontextmanager
async def replayed(store: Path) -> AsyncIterator[AsyncClient]:
    """A client of a router that replays: nothing listens where its backend should be."""
    (port,) = free_ports(1)
    async with routed(f"127.0.0.1:{port}", "replay", store) as llm:
        yield llm


async def read(stream: AsyncStream) -> list[str]:
    """Return the deltas of a stream."""
    return [delta async for delta in stream]


async def play(llm: AsyncClient) -> list[Any]:
    """What some client does, with every method that a backend answers."""
    stream = llm.stream(MODEL, "stream it", session="s")
    return [
        (await llm.list_models()).models,
        await llm.is_available(MODEL),
        *[(await llm.generate(MODEL, "roll", temperature=1)).text for _ in range(3)],
        await read(stream),
        stream.completion.text,
        [score.logprob for score in await llm.score(MODEL, "p", ["a", "b"])],
        await llm.count_tokens(MODEL, "p"),
        (await llm.generate(MODEL, "no", cache_use=CacheUse.BYPASS)).text,
    ]


def prepare(backend: ScriptedBackend) -> None:
    model = Model(MODEL, model_revision="r1", supported_fields=("config.seed",))
    backend.models = [model]
    backend.availability = Availability(True, ModelState.READY, model=model)


async def test_a_client_is_replayed_without_a_backend(tmp_path: Path) -> None:
    """Equal requests get their replies in the recorded order, again and again."""
    store = tmp_path / "recording.sqlite"
    async with scripted() as (backend, server), routed(server.address, "record", store) as llm:
        prepare(backend)
        await llm.list_models()  # a later answer replaces an earlier one
        rolls = iter("416")

        async def roll() -> str:
            return next(rolls, "ok")

        backend.default = roll
        recorded = await play(llm)
    assert recorded[2:5] == ["4", "1", "6"]
    async with replayed(store) as llm:
        for _ in range(2):
            assert await play(llm) == recorded
        hit = await llm.generate(MODEL, "roll", temperature=1, labels={"k": "v"})
        assert (hit.text, hit.cached, hit.usage.cost_usd) == ("4", True, 0)


async def test_each_session_gets_its_own_replies(tmp_path: Path) -> None:
    """Two games ask the same, in another order; a session that was not recorded gets them all."""
    store = tmp_path / "recording.sqlite"
    async with scripted() as (backend, server), routed(server.address, "record", store) as llm:
        backend.enqueue("a", "b")
        for session in ("one", "two"):
            await llm.generate(MODEL, "hi", session=session)
    async with replayed(store) as llm:
        texts = [
            (await llm.generate(MODEL, "hi", session=session)).text
            for session in ("two", "one", "two", "other", "other")
        ]
    assert texts == ["b", "a", "b", "a", "b"]


async def test_what_was_not_recorded_is_refused_by_a_clear_error(tmp_path: Path) -> None:
    store = tmp_path / "recording.sqlite"
    async with scripted() as (backend, server), routed(server.address, "record", store) as llm:
        await llm.generate(MODEL, "hi")
        backend.enqueue(
            errors.UpstreamUnavailable("down"), [Delta(text="x"), errors.RateLimited("x")]
        )
        with pytest.raises(Exception, match="down"):
            await llm.generate(MODEL, "failed")
        with pytest.raises(Exception, match="RATE_LIMITED"):
            await read(llm.stream(MODEL, "failed"))
    async with replayed(store) as llm:
        calls = [
            lambda: llm.generate(MODEL, "hi", seed=1),
            lambda: llm.generate(MODEL, "failed"),
            lambda: read(llm.stream(MODEL, "failed")),
            lambda: llm.score(MODEL, "hi", ["a"]),
            lambda: llm.is_available(MODEL),
            lambda: llm.list_models(),
        ]
        for call in calls:
            with pytest.raises(NotFoundError, match=r"no reply to this request.*recording") as e:
                await call()
            assert e.value.reason == "NOT_RECORDED"
        assert (await llm.generate(MODEL, "hi")).text == "ok"


async def test_recording_calls_the_backend_each_time(tmp_path: Path) -> None:
    store = tmp_path / "recording.sqlite"
    async with scripted() as (backend, server), routed(server.address, "record", store) as llm:
        backend.enqueue("a", "b")
        texts = [(await llm.generate(MODEL, "hi", temperature=0)).text for _ in range(2)]
    assert texts == ["a", "b"]


async def test_a_recording_that_does_not_exist_is_named(tmp_path: Path) -> None:
    config = RouterConfig.model_validate(
        {
            "listen": "127.0.0.1:0",
            "routes": {"hf_": {"targets": ["127.0.0.1:1"]}},
            "cache": {"mode": "replay", "store": str(tmp_path / "none.sqlite")},
        }
    )
    cache = Router(config).cache
    assert cache is not None
    with pytest.raises(ConfigError, match=r"cache\.store: .*none\.sqlite cannot be opened"):
        await cache.start()
    assert await asyncio.to_thread(os.listdir, tmp_path) == []
