"""When models are loaded, and how calls begin, stream and end with them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from arena_llm.types import (
    Capability,
    Choices,
    Completion,
    GenerationRequest,
    ModelState,
    Progress,
    ProgressState,
    Sampling,
)
from services.common.errors import ModelNotFound, UpstreamUnavailable
from services.hf.backend import HfBackend
from services.hf.config import HfConfig
from tests.support.waiting import eventually
from tests.unit.hf.conftest import Checkpoints
from tests.unit.hf.pool_driver import ask, backend, request, state


async def test_concurrent_calls_share_one_load(entry: Any, loads: list[str]) -> None:
    async with backend(entry("hf_a"), entry("hf_b")) as running:
        await asyncio.gather(*(ask(running, f"hf_{name}") for name in "aabbab"))
        assert sorted(loads) == ["hf_a", "hf_b"]


async def test_the_states_of_a_models_life(entry: Any) -> None:
    async with backend(entry("hf_a", description="A.")) as running:
        before = await running.is_model_available("hf_a")
        assert (before.available, before.state) == (True, ModelState.NOT_LOADED)
        call = asyncio.ensure_future(ask(running, "hf_a"))
        await asyncio.sleep(0)
        assert await state(running, "hf_a") == ModelState.LOADING
        await call
        after = await running.is_model_available("hf_a")
        assert (after.available, after.state) == (True, ModelState.READY)
        assert after.load
        assert after.load.generated_tokens > 0
        [listed] = await running.get_available_models()
        assert (listed.name, listed.description, listed.context_length) == ("hf_a", "A.", 512)
        assert Capability.CHOICES in listed.capabilities
        assert Capability.CHAT not in listed.capabilities


async def test_a_loaded_chat_model_lists_the_capability(checkpoint: Checkpoints) -> None:
    chat = {"name": "hf_a", "model_path": checkpoint("llama-chat"), "preload": True}
    async with backend(chat) as running:
        [listed] = await running.get_available_models()
        assert Capability.CHAT in listed.capabilities


async def test_an_unlisted_name_is_refused(entry: Any) -> None:
    async with backend(entry("hf_a")) as running:
        with pytest.raises(ModelNotFound, match="it lists: hf_a") as caught:
            await ask(running, "hf_b")
        assert caught.value.field == "model"
        availability = await running.is_model_available("hf_b")
        assert (availability.available, availability.reason) == (False, "MODEL_NOT_FOUND")


async def test_a_caller_who_leaves_does_not_end_the_load(entry: Any, loads: list[str]) -> None:
    async with backend(entry("hf_a")) as running:
        leaving = asyncio.ensure_future(ask(running, "hf_a"))
        staying = asyncio.ensure_future(ask(running, "hf_a"))
        await asyncio.sleep(0)
        leaving.cancel()
        assert (await staying).model == "hf_a"
        assert loads == ["hf_a"]


async def test_closing_ends_running_calls(entry: Any) -> None:
    async with backend(entry("hf_a", preload=True)) as running:
        events = running.stream_response(request("hf_a", max_tokens=400))
        await anext(events)
        await running.aclose()
        with pytest.raises(UpstreamUnavailable, match="unloaded"):
            _ = [event async for event in events]


async def test_calls_before_the_start_wait_for_it(entry: Any) -> None:
    running = HfBackend(HfConfig(listen="127.0.0.1:0", device="cpu", models=[entry("hf_a")]))
    early = asyncio.ensure_future(ask(running, "hf_a"))
    assert (await running.is_model_available("hf_a")).state == ModelState.LOADING
    assert [model.name for model in await running.get_available_models()] == ["hf_a"]
    await running.start()
    assert (await early).model == "hf_a"
    await running.aclose()


async def test_a_stream_is_the_completion_in_pieces(entry: Any) -> None:
    generation = GenerationRequest("hf_a", "7", Sampling(max_tokens=40, seed=3, stop=("zz",)))
    async with backend(entry("hf_a", preload=True)) as running:
        whole = await running.generate_response(generation)
        *deltas, last = [event async for event in running.stream_response(generation)]
    assert isinstance(last, Completion)
    assert last.text == whole.text == "".join(delta.text for delta in deltas)
    assert len(deltas) > 1
    assert last.timings.total_seconds >= last.timings.first_token_seconds > 0


async def test_a_stream_shows_that_its_model_is_being_loaded(entry: Any) -> None:
    async with backend(entry("hf_a")) as running:
        for first in (Progress(ProgressState.LOADING), None):
            events = [event async for event in running.stream_response(request("hf_a"))]
            shown = [event for event in events if isinstance(event, Progress)]
            assert shown == ([first] if first else [])
            assert not first or events[0] == first
        with pytest.raises(ModelNotFound):
            await anext(running.stream_response(request("hf_b")))


async def test_a_cancelled_call_frees_its_place(entry: Any) -> None:
    async with backend(entry("hf_a", preload=True), max_batch=1) as running:
        call = asyncio.ensure_future(running.generate_response(request("hf_a", max_tokens=400)))
        slot = running._pool.slot("hf_a")
        await eventually(lambda: slot.running.engine.load().generated_tokens)  # type: ignore[union-attr]
        call.cancel()
        choice = GenerationRequest("hf_a", "7", constraint=Choices(("4",)))
        assert (await running.generate_response(choice)).text == "4"
        assert slot.running.engine.load().generated_tokens < 400  # type: ignore[union-attr]
        assert not slot.users
