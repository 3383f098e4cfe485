"""The litellm service in this process, on a real socket, before real HTTP upstreams."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from arena_llm import ArenaError, AsyncClient
from services.common.servicer import LlmServicer
from services.litellm.backend import LiteLlmBackend
from services.litellm.config import LiteLlmConfig
from services.litellm.quiet import NEVER_AWAITED
from tests.support.scripted import serving
from tests.support.upstreams import anthropic, gemini, openai
from tests.support.upstreams.server import UpstreamServer

#: Starts a service with these settings; the fixtures' usual one has none.
Start = Callable[..., AbstractAsyncContextManager[AsyncClient]]


@dataclass(frozen=True)
class Provider:
    """A wire format: its fake, a model of it, and where its key is looked for."""

    upstream: type[UpstreamServer]
    model: str
    variable: str
    key: str


PROVIDERS = {
    "openai": Provider(
        openai.OpenAIUpstream, "litellm_openai/gpt-4o-mini", "OPENAI_API_KEY", openai.KEY
    ),
    "anthropic": Provider(
        anthropic.AnthropicUpstream,
        "litellm_anthropic/claude-sonnet-4-5",
        "ANTHROPIC_API_KEY",
        anthropic.KEY,
    ),
    "gemini": Provider(
        gemini.GeminiUpstream, "litellm_gemini/gemini-2.5-flash", "GEMINI_API_KEY", gemini.KEY
    ),
}
OPENAI = PROVIDERS["openai"]


@pytest.fixture(params=["openai"])
def provider(request: pytest.FixtureRequest) -> Provider:
    """OpenAI, unless a test asks for others: @pytest.mark.parametrize(..., indirect=True)."""
    return PROVIDERS[request.param]


@pytest.fixture
async def upstream(provider: Provider) -> AsyncIterator[Any]:
    async with provider.upstream() as server:
        yield server


@pytest.fixture
def start(upstream: Any, provider: Provider, monkeypatch: pytest.MonkeyPatch) -> Start:
    """A service that tries again at once, so that no test waits."""
    for name in list(os.environ):
        if name.endswith(("_API_KEY", "_API_BASE")):
            monkeypatch.delenv(name)

    @asynccontextmanager
    async def started(
        entry: dict[str, Any] | None = None, key: str = provider.key, **settings: Any
    ) -> AsyncIterator[AsyncClient]:
        monkeypatch.setenv(provider.variable, key)
        listed = {"name": provider.model, "api_base": upstream.url, **(entry or {})}
        config = LiteLlmConfig.model_validate(
            {
                "listen": "127.0.0.1:0",
                "backoff_seconds": 0.001,
                "max_backoff_seconds": 0.002,
                "models": [listed],
                **settings,
            }
        )
        async with (
            serving(LlmServicer(LiteLlmBackend(config))) as server,
            AsyncClient(server.address, timeout=30) as llm,
        ):
            yield llm

    return started


@pytest.fixture
async def llm(start: Start) -> AsyncIterator[AsyncClient]:
    async with start() as client:
        yield client


async def drained(stream: Any) -> tuple[list[str], Any]:
    """The deltas of a stream and its completion."""
    return [delta async for delta in stream], stream.completion


async def call(llm: AsyncClient, streamed: bool, model: str = OPENAI.model, **options: Any) -> str:
    if not streamed:
        return (await llm.generate(model, "hi", **options)).text
    return "".join([delta async for delta in llm.stream(model, "hi", **options)])


async def failed(llm: AsyncClient, streamed: bool = False, **options: Any) -> ArenaError:
    with pytest.raises(ArenaError) as caught:
        await call(llm, streamed, **options)
    return caught.value


#: What litellm does in this process makes pydantic warn: its types, and how it reads them;
#: and Python, of calls that were cancelled as they began.
_LITELLMS = (
    f"ignore:{NEVER_AWAITED}:RuntimeWarning",
    "ignore:Item '.*' on TypedDict class '.*:UserWarning",
    "ignore:Accessing the 'model_.*fields' attribute on the instance:DeprecationWarning",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(os.path.dirname(__file__)):
            for warning in _LITELLMS:
                item.add_marker(pytest.mark.filterwarnings(warning))
