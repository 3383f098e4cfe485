"""Which models are dropped when memory is short, and which requests never fit."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import services.hf.pool
from arena_llm.types import Completion, Progress, ProgressState
from services.common.errors import ContextTooLong, ModelMisconfigured, Overloaded
from tests.support.waiting import eventually
from tests.unit.hf.pool_driver import ask, backend, request, states

#: memory_budget_gb for one and for two tiny llamas, which have 0.5 MB of weights, and for a row of
#: 400 tokens, which takes 0.2 MB.
ONE_MODEL, TWO_MODELS = 0.0009, 0.0014


async def test_the_least_recently_used_model_is_dropped(entry: Any) -> None:
    models = [entry(f"hf_{name}") for name in "abc"]
    async with backend(*models, memory_budget_gb=TWO_MODELS) as running:
        await ask(running, "hf_a")
        await ask(running, "hf_b")
        await ask(running, "hf_a")
        await ask(running, "hf_c")
        assert await states(running) == "rnr"
        await ask(running, "hf_b")
        assert await states(running) == "nrr"


async def test_a_model_in_use_is_not_dropped(entry: Any) -> None:
    async with backend(entry("hf_a"), entry("hf_b"), memory_budget_gb=ONE_MODEL) as running:
        events = running.stream_response(request("hf_a", max_tokens=400))
        assert await anext(events) == Progress(ProgressState.LOADING)
        first = await anext(events)
        with pytest.raises(Overloaded, match="no memory for hf_b") as caught:
            await ask(running, "hf_b")
        assert caught.value.retry_after
        assert (await running.is_model_available("hf_b")).available, "it is not broken"
        rest = [event async for event in events]
        assert isinstance((rest or [first])[-1], Completion)
        assert (await ask(running, "hf_b")).model == "hf_b"
        assert await states(running) == "nr"


async def test_a_model_that_gets_a_call_while_another_is_dropped_stays_loaded(
    entry: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = [entry(f"hf_{name}") for name in "ab"]
    async with backend(*models, entry("hf_c"), memory_budget_gb=TWO_MODELS) as running:
        await ask(running, "hf_a")
        await ask(running, "hf_b")
        # c is as large as both, so both must be dropped.
        monkeypatch.setattr(services.hf.pool, "weight_bytes", lambda folder: 1_100_000)
        pool, dropped = running._pool, asyncio.Event()
        drop = pool._unload

        async def slow(slot: Any) -> None:
            await drop(slot)
            dropped.set()
            await eventually(lambda: pool.slot("hf_b").users)

        monkeypatch.setattr(pool, "_unload", slow)
        loading = asyncio.ensure_future(ask(running, "hf_c"))
        await dropped.wait()
        events = running.stream_response(request("hf_b", max_tokens=400))
        await anext(events)
        with pytest.raises(Overloaded):
            await loading
        monkeypatch.setattr(pool, "_unload", drop)
        assert [event async for event in events][-1:] != []
        assert await states(running) == "nrn"


@pytest.mark.parametrize("estimate", [None, 1], ids=["by its files", "by its weights"])
async def test_a_model_over_the_whole_budget_is_misconfigured(
    entry: Any, estimate: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if estimate:
        monkeypatch.setattr(services.hf.pool, "weight_bytes", lambda folder: estimate)
    async with backend(entry("hf_a"), memory_budget_gb=0.0001) as running:
        with pytest.raises(ModelMisconfigured, match="over memory_budget_gb"):
            await ask(running, "hf_a")
        assert await states(running) == "m"


async def test_a_request_that_can_never_fit_is_refused_with_the_figures(entry: Any) -> None:
    async with backend(entry("hf_a"), memory_budget_gb=0.0006) as running:
        assert (await ask(running, "hf_a")).usage.completion_tokens == 2
        with pytest.raises(ContextTooLong, match=r"401 tokens .* hf_a can have .*lower max_tokens"):
            await running.generate_response(request("hf_a", max_tokens=400))


async def test_prefixes_take_at_most_a_quarter_of_what_weights_leave(entry: Any) -> None:
    async with backend(entry("hf_a", prefix_cache_gb=5.0), memory_budget_gb=0.0021) as running:
        await ask(running, "hf_a")
        engine = running._pool.slot("hf_a").running
        assert engine is not None
        assert 0.0003e9 < engine.model.entry.prefix_cache_gb * 1e9 < 0.0005e9
