"""The memory of all models has one bound, and what a forward pass announces is what it takes."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from services.hf import budget
from services.hf.budget import MemoryBudget, default_budget
from services.hf.cache import CacheSize, WindowCache
from services.hf.openvino.blocks import BlockPool
from services.hf.openvino.forward import PagedForward
from tests.unit.hf.conftest import Checkpoints
from tests.unit.hf.engine_driver import load_tiny


def test_what_does_not_fit_changes_nothing() -> None:
    whole = MemoryBudget(100)
    first, second = whole.open(30), whole.open(10)
    assert (first.most, second.most) == (70, 90)
    assert first.resize(50)
    assert not second.resize(11)
    assert whole.free == 10
    assert second.resize(10)
    assert first.resize(20), "a smaller size always fits"
    assert second.resize(40)
    first.close()
    second.close()
    assert whole.free == 100


@pytest.mark.parametrize(("limit", "gigabytes"), [("1000000000", 0.7), ("max", None)])
def test_the_default_is_a_share_of_the_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, gigabytes: float | None
) -> None:
    file = tmp_path / "memory.max"
    file.write_text(limit + "\n")
    monkeypatch.setattr(budget, "_LIMITS", (str(file), str(tmp_path / "missing")))
    if gigabytes is None:
        assert default_budget("cpu") > 1e9
    else:
        assert default_budget("cpu") == gigabytes * 1e9


@pytest.mark.parametrize("seed", range(20))
def test_a_window_grows_to_no_more_than_it_announces(seed: int) -> None:
    draw = random.Random(seed)  # noqa: S311 - test data
    size, cache = CacheSize(), WindowCache()
    size.token_bytes = 8  # keys and values of one number each
    widths: list[int] = []
    before = 0
    for _ in range(300):
        if len(widths) < draw.choice([1, 3, 33]):
            length = draw.choice([1, 5, 200])
            cache.make_room([length])
            cache.insert(read_prompt(length), 0, length)
            widths.append(length + draw.choice([1, 20, 900]))
        count = draw.choice([1, 1, 1, 4])
        cache.reserve(count)
        states = torch.zeros(len(widths), 1, count, 1)
        cache.update(states, states, 0)
        cache.advance(count)
        if cache.allocated_bytes > before:
            assert cache.allocated_bytes <= size.bound(widths, 0)
        before = cache.allocated_bytes
        for row in reversed(range(len(widths))):
            if cache.window.lengths[row] + 4 >= widths[row] or draw.random() < 0.02:
                cache.remove(row)
                widths[row] = widths[-1]
                widths.pop()
        if not widths:
            cache, before = WindowCache(), 0


def read_prompt(length: int) -> WindowCache:
    """The cache of a prompt of one layer."""
    prompt = WindowCache()
    prompt.begin([0], length)
    states = torch.zeros(1, 1, length, 1)
    prompt.update(states, states, 0)
    prompt.advance(length)
    prompt.expose()
    return prompt


def test_unused_blocks_give_their_memory_back(checkpoint: Checkpoints) -> None:
    loaded = load_tiny(checkpoint("llama"), engine="openvino").forward
    assert isinstance(loaded, PagedForward)
    forward = PagedForward(loaded.model, 64)
    pool: BlockPool = forward._pool
    blocks = pool.take(pool.available)
    for block in blocks:
        for cache in forward.model._caches:
            cache[block] = 1
    pool.release(blocks[3:])
    assert forward.held_bytes == len(blocks) * forward.model.block_bytes
    forward.return_memory()
    assert forward.held_bytes == 3 * forward.model.block_bytes
    for cache in forward.model._caches:
        assert cache[blocks[0]].all()
        # The page that a returned block shares with a used one may stay.
        assert not cache[blocks[5:-1]].any()
        cache[:] = 0
    assert not set(blocks[:3]) & {*pool.take(pool.available)}
