"""Only the openrouter service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from arena_llm import AsyncClient
from tests.unit.hosted.conftest import PROVIDERS, Provider, Start

SCHEMA, MODEL = "openrouter_a/schema", "openrouter_a/plain"


@pytest.fixture
def provider() -> Provider:
    return PROVIDERS["openrouter"]


@pytest.fixture
def start(start: Start) -> Start:
    """Start a service that lists both models of the fake provider."""

    def started(**settings: Any) -> AbstractAsyncContextManager[AsyncClient]:
        return start(**{"models": [SCHEMA, MODEL], **settings})

    return started


@pytest.fixture
async def llm(start: Start) -> AsyncIterator[AsyncClient]:
    async with start() as client:
        yield client
