"""The openrouter service in this process, on a real socket, before a real HTTP upstream."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from arena_llm import ArenaError, AsyncClient
from services.common.servicer import LlmServicer
from services.openrouter.backend import OpenRouterBackend
from services.openrouter.config import OpenRouterConfig
from tests.support.scripted import serving
from tests.support.upstreams.openrouter import KEY, OpenRouterUpstream

MODEL = "openrouter_a/plain"

#: Starts a service with these settings; the fixtures' usual one has none.
Start = Callable[..., AbstractAsyncContextManager[AsyncClient]]


@pytest.fixture
async def upstream() -> AsyncIterator[OpenRouterUpstream]:
    async with OpenRouterUpstream() as server:
        yield server


@pytest.fixture
def start(upstream: OpenRouterUpstream, monkeypatch: pytest.MonkeyPatch) -> Start:
    """A service that tries again at once, so that no test waits."""

    @asynccontextmanager
    async def started(key: str = KEY, **settings: Any) -> AsyncIterator[AsyncClient]:
        monkeypatch.setenv("OPENROUTER_API_KEY", key)
        config = OpenRouterConfig.model_validate(
            {
                "listen": "127.0.0.1:0",
                "base_url": upstream.url,
                "backoff_seconds": 0.001,
                "max_backoff_seconds": 0.002,
                "models": ["openrouter_a/schema", "openrouter_a/plain"],
                **settings,
            }
        )
        async with (
            serving(LlmServicer(OpenRouterBackend(config))) as server,
            AsyncClient(server.address, timeout=30) as llm,
        ):
            yield llm

    return started


@pytest.fixture
async def llm(start: Start) -> AsyncIterator[AsyncClient]:
    async with start() as client:
        yield client


async def call(llm: AsyncClient, streamed: bool, model: str = MODEL, **options: Any) -> str:
    if not streamed:
        return (await llm.generate(model, "hi", **options)).text
    return "".join([delta async for delta in llm.stream(model, "hi", **options)])


async def failed(llm: AsyncClient, streamed: bool, **options: Any) -> ArenaError:
    with pytest.raises(ArenaError) as caught:
        await call(llm, streamed, **options)
    return caught.value
