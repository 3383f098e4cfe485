"""The hosted services in this process, on real sockets, in front of fake providers.

The contract suite in this folder runs over every provider of PROVIDERS. The folders openrouter and
litellm hold what only one of the two services does.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from arena_llm import ArenaError, AsyncClient
from services.common.backend import BaseLLMBackend
from services.common.servicer import LlmServicer
from services.litellm.setup import import_litellm
from services.openrouter import account
from tests.support.providers import LITELLM_WARNINGS, PROVIDERS, Provider
from tests.support.scripted import serving

#: Starts a service. See `make_start` below.
Start = Callable[..., AbstractAsyncContextManager[AsyncClient]]


OPENAI = PROVIDERS["openai"]

STREAMED = pytest.mark.parametrize("streamed", [False, True], ids=["unary", "streamed"])
#: Tests of OpenAI's format, which two of the fakes speak.
OPENAI_FORMAT = pytest.mark.parametrize("provider", ["openrouter", "openai"], indirect=True)
LITELLM = pytest.mark.parametrize("provider", ["openai", "anthropic", "gemini"], indirect=True)


@pytest.fixture(params=PROVIDERS)
def provider(request: pytest.FixtureRequest) -> Provider:
    """Every provider, unless the test names some: @pytest.mark.parametrize(..., indirect=True)."""
    return PROVIDERS[request.param]


@pytest.fixture
async def upstream(provider: Provider) -> AsyncIterator[Any]:
    async with provider.upstream() as server:
        yield server


@pytest.fixture
def start(upstream: Any, provider: Provider, monkeypatch: pytest.MonkeyPatch) -> Start:
    return make_start(upstream, provider, monkeypatch)


def make_start(upstream: Any, provider: Provider, monkeypatch: pytest.MonkeyPatch) -> Start:
    """A function that starts the service in front of the fake provider. Retries do not wait.

    entry: more keys of the model's entry. key: the API key. url: of another provider.
    Further arguments are settings of the configuration file.
    """
    for name in list(os.environ):
        if name.endswith(("_API_KEY", "_API_BASE")):
            monkeypatch.delenv(name)
    # OpenRouter is asked what a failed call cost, and asked again, without a pause.
    monkeypatch.setattr(account, "LOOK_UPS", (0, 0, 0))

    @asynccontextmanager
    async def started(
        entry: dict[str, Any] | None = None,
        *,
        key: str = provider.key,
        url: str = "",
        **settings: Any,
    ) -> AsyncIterator[AsyncClient]:
        monkeypatch.setenv(provider.variable, key)
        if provider.service == "litellm":  # else the first call would have to wait for it
            await asyncio.to_thread(import_litellm)
        quick = {"backoff_seconds": 0.001, "max_backoff_seconds": 0.002}
        # A cancelled call would run to its end for the sake of its request_id.
        quick["request_id_seconds"] = 0
        backend: BaseLLMBackend[Any] = provider.make_backend(
            url or upstream.url, entry or {}, {"listen": "127.0.0.1:0", **quick, **settings}
        )
        async with (
            serving(LlmServicer(backend)) as server,
            AsyncClient(server.address, timeout=30) as llm,
        ):
            yield llm

    return started


@pytest.fixture
async def llm(start: Start) -> AsyncIterator[AsyncClient]:
    """A client of a service with the default settings."""
    async with start() as client:
        yield client


async def read_stream(stream: Any) -> tuple[list[str], Any]:
    """The deltas of a stream, and its completion."""
    return [delta async for delta in stream], stream.completion


async def call(llm: AsyncClient, streamed: bool, model: str, **options: Any) -> str:
    """The text of one call."""
    if not streamed:
        return (await llm.generate(model, "hi", **options)).text
    return "".join([delta async for delta in llm.stream(model, "hi", **options)])


async def fail(llm: AsyncClient, streamed: bool, model: str, **options: Any) -> ArenaError:
    """The error of one call."""
    with pytest.raises(ArenaError) as caught:
        await call(llm, streamed, model, **options)
    return caught.value


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(os.path.dirname(__file__)):
            for warning in LITELLM_WARNINGS:
                item.add_marker(pytest.mark.filterwarnings(warning))
