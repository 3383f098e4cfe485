"""The models of a pool change while it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from services.common.config import ConfigError, ModelEntry
from services.common.errors import ModelNotFound
from services.common.local.pool import ModelPool, ModelSlot
from tests.support.waiting import eventually


class CountingPool(ModelPool[ModelEntry, Any]):
    """Its models are strings."""

    failure_hold_seconds = 0.0
    unloads = True

    def __init__(self, entries: Sequence[ModelEntry]) -> None:
        super().__init__(entries, Path("models.yaml"), 16)
        self.events: list[str] = []

    async def _load(self, slot: ModelSlot[ModelEntry, Any]) -> Any:
        self.events.append(f"load {slot.entry.name}")
        return f"{slot.entry.name} {slot.entry.description}"

    async def _unload(self, slot: ModelSlot[ModelEntry, Any]) -> None:
        if slot.running is not None:
            self.events.append(f"unload {slot.running}")
            slot.running = None

    def _preloads(self, entry: ModelEntry) -> bool:
        return False

    def _describe_first_call(self, entry: ModelEntry, name: str) -> str:
        return ""


def entries(**descriptions: str) -> list[ModelEntry]:
    return [ModelEntry(name=name, description=text) for name, text in descriptions.items()]


async def call(pool: CountingPool, name: str) -> Any:
    async with pool.use(name) as running:
        return running


async def test_models_are_added_changed_and_removed_while_calls_run() -> None:
    pool = CountingPool(entries(a="1", b="1", c="1"))
    for name in "abc":
        await call(pool, name)
    async with pool.use("b") as old:
        pool.reconfigure(entries(a="1", b="2", d="1"))
        assert await call(pool, "a") == "a 1"  # it has stayed
        assert await call(pool, "b") == "b 2"
        assert await call(pool, "d") == "d 1"
        with pytest.raises(ModelNotFound):
            await call(pool, "c")
        await eventually(lambda: "unload c 1" in pool.events)
        await asyncio.sleep(0)
        assert (old, "unload b 1" in pool.events) == ("b 1", False)
    await eventually(lambda: "unload b 1" in pool.events)
    assert pool.events.count("load a") == 1
    await pool.aclose()


async def test_a_model_that_cannot_be_unloaded_refuses_the_change() -> None:
    class Lasting(CountingPool):
        unloads = False

    pool = Lasting(entries(a="1", b="1"))
    await call(pool, "a")
    with pytest.raises(ConfigError, match="restart"):
        pool.reconfigure(entries(a="2", b="1"))
    assert await call(pool, "a") == "a 1"
    pool.reconfigure(entries(a="1", b="2", c="1"))  # b has not been loaded
    assert await call(pool, "b") == "b 2"
    await pool.aclose()
