"""A scripted server, and the clients that call it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

import arena_llm
from arena_llm import _module
from tests.unit.client.scripted import Script, start


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def target(script: Script) -> Iterator[str]:
    """The address of a running server."""
    server, port = start(script, "127.0.0.1:0")
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


@pytest.fixture
def llm(target: str) -> Iterator[arena_llm.Client]:
    with arena_llm.Client(target) as client:
        yield client


@pytest.fixture(params=["sync", "async"])
async def either(
    request: pytest.FixtureRequest, target: str
) -> AsyncIterator[arena_llm.Client | arena_llm.AsyncClient]:
    """Both clients, one after the other: use with settle() and collect()."""
    if request.param == "sync":
        with arena_llm.Client(target) as client:
            yield client
    else:
        async with arena_llm.AsyncClient(target) as async_client:
            yield async_client


@pytest.fixture
def default_target(target: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The target of the functions of the package."""
    monkeypatch.setenv("ARENA_LLM_TARGET", target)
    _module._client.cache_clear()
    yield target
    _module._client().close()
    _module._client.cache_clear()
