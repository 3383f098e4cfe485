"""A router with a cache, and the calls of its callers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.caching_router import Open, Stack, routing
from tests.support.scripted import scripted
from tests.support.wire import stub


@pytest.fixture
async def open_stack(tmp_path: Path) -> AsyncIterator[Open]:
    async with scripted() as (backend, server):

        @asynccontextmanager
        async def opened(*, asks: bool = True, **cache: Any) -> AsyncIterator[Stack]:
            """asks: ask for the model's revision first, which takes no step of the script then."""
            store = cache.pop("store", tmp_path / "folder/replies.sqlite")
            async with (
                routing(server.address, store, **cache) as (address, router),
                stub(address) as llm,
            ):
                if asks:
                    await router.cache._find_revision("hf_model")
                yield Stack(llm, router, backend)

        yield opened


@pytest.fixture
async def stack(open_stack: Open) -> AsyncIterator[Stack]:
    async with open_stack() as made:
        yield made
