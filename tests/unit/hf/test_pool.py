"""When models are loaded and dropped, tested through the backend with real models."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import services.hf.pool
from arena_llm.types import (
    Capability,
    Choices,
    Completion,
    Continuation,
    GenerationRequest,
    ModelState,
    Progress,
    ProgressState,
    Regex,
    Sampling,
    ScoringRequest,
)
from services.common.errors import (
    ContextTooLong,
    ModelMisconfigured,
    ModelNotFound,
    Overloaded,
    UpstreamUnavailable,
)
from services.hf.backend import HfBackend
from services.hf.config import HfConfig
from tests.support.broken_models import remove_weights
from tests.support.waiting import eventually
from tests.unit.hf.conftest import Checkpoints

#: memory_budget_gb for one and for two tiny llamas, which have 0.5 MB of weights, and for a row of
#: 400 tokens, which takes 0.2 MB.
ONE_MODEL, TWO_MODELS = 0.0009, 0.0014


@asynccontextmanager
async def backend(*models: dict[str, Any], **config: Any) -> AsyncIterator[HfBackend]:
    running = HfBackend(HfConfig(listen="127.0.0.1:0", device="cpu", models=list(models), **config))
    await running.start()
    try:
        yield running
    finally:
        await running.aclose()


@pytest.fixture
def entry(checkpoint: Checkpoints) -> Callable[..., dict[str, Any]]:
    """An entry with this name. All are the same tiny llama."""

    def make(name: str, **more: Any) -> dict[str, Any]:
        prefixes = {"prefix_cache_gb": 0.0}
        return {"name": name, "model_path": checkpoint("llama"), **prefixes, **more}

    return make


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the models that were loaded, in order."""
    names: list[str] = []
    real = services.hf.pool.load

    def counted(entry: Any, *arguments: Any) -> Any:
        names.append(entry.name)
        return real(entry, *arguments)

    monkeypatch.setattr(services.hf.pool, "load", counted)
    return names


def request(model: str, max_tokens: int = 2) -> GenerationRequest:
    """A request that does not end before max_tokens."""
    return GenerationRequest(model, "7", Sampling(max_tokens=max_tokens), Regex("[78]{900}"))


def ask(running: HfBackend, model: str) -> Awaitable[Completion]:
    return running.generate_response(request(model))


async def state(running: HfBackend, model: str) -> ModelState:
    return (await running.is_model_available(model)).state


async def states(running: HfBackend) -> str:
    """The initials of the models' states, such as "r" for ready."""
    names = [entry.name for entry in running.config.models]
    return "".join([(await state(running, name)).value[0] for name in names])


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


async def test_a_failed_load_is_reported_and_retried_later(
    entry: Any, tmp_path: Path, loads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(entry("hf_a")["model_path"], tmp_path / "model"))
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[:-9])
    async with backend(entry("hf_a", model_path=folder), entry("hf_b")) as running:
        for _ in range(2):
            with pytest.raises(ModelMisconfigured, match="hf_a"):
                await ask(running, "hf_a")
        assert loads == ["hf_a"], "the second call gets the same error without another load"
        availability = await running.is_model_available("hf_a")
        assert (availability.available, availability.state) == (False, ModelState.MISCONFIGURED)
        assert availability.reason == "MODEL_MISCONFIGURED"
        assert "hf_a" in availability.detail
        assert (await ask(running, "hf_b")).model == "hf_b", "the other models still work"

        (folder / "model.safetensors").write_bytes(weights)
        monkeypatch.setattr(services.hf.pool.HfPool, "failure_hold_seconds", 0.0)
        assert (await ask(running, "hf_a")).model == "hf_a"
        assert await state(running, "hf_a") == ModelState.READY


async def test_a_missing_folder_is_reported_before_any_call(entry: Any) -> None:
    async with backend(entry("hf_a", model_path=Path("/nowhere"))) as running:
        availability = await running.is_model_available("hf_a")
        assert (availability.available, availability.state) == (False, ModelState.MISCONFIGURED)
        assert "/nowhere" in availability.detail
        assert "(configured in " in availability.detail


async def test_preloading_continues_after_a_failure(
    entry: Any, checkpoint: Checkpoints, tmp_path: Path
) -> None:
    gone = remove_weights(Path(shutil.copytree(checkpoint("llama"), tmp_path / "gone")))
    models = [
        entry("hf_gone", preload=True, model_path=gone),
        entry("hf_a", preload=True, model_path=Path("/nowhere")),
        entry("hf_b", preload=True),
        entry("hf_c"),
    ]
    async with backend(*models) as running:
        assert await states(running) == "mmrn"


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


@pytest.fixture
def dying(monkeypatch: pytest.MonkeyPatch) -> Callable[[HfBackend], None]:
    """A function that makes every pass of hf_a fail until it is loaded again."""

    def break_(running: HfBackend) -> None:
        forward = running._pool.slot("hf_a").running.model.forward  # type: ignore[union-attr]
        monkeypatch.setattr(forward, "prefill", lambda prompts: 1 / 0)

    return break_


async def test_a_dead_engine_ends_only_its_own_model(
    entry: Any, loads: list[str], dying: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with backend(entry("hf_a", preload=True), entry("hf_b")) as running:
        watching = asyncio.ensure_future(running.failed())
        beside = running.stream_response(request("hf_b", max_tokens=400))
        await anext(beside)
        dying(running)
        for _ in range(4):
            with pytest.raises(ModelMisconfigured, match=r"hf_a cannot run .*ZeroDivisionError"):
                await ask(running, "hf_a")
        now = await running.is_model_available("hf_a")
        assert (now.available, now.state) == (False, ModelState.MISCONFIGURED)
        assert "ZeroDivisionError" in now.detail
        assert isinstance([event async for event in beside][-1], Completion)
        assert await states(running) == "mr"
        assert running._pool.slot("hf_a").running is None
        assert not watching.done()

        # As after a failed load, a later call loads it again.
        monkeypatch.setattr(services.hf.pool.HfPool, "failure_hold_seconds", 0.0)
        assert (await ask(running, "hf_a")).model == "hf_a"
        assert await states(running) == "rr"
        assert loads == ["hf_a", "hf_b", "hf_a"]
        watching.cancel()


class Panic(BaseException):
    """A BaseException, as a Rust library raises it."""


@pytest.mark.parametrize("kind", [Panic, SystemExit])
async def test_a_panic_fails_only_its_own_call(
    entry: Any, kind: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    def tokenize(*_: Any, **__: Any) -> Any:
        raise kind("of a library")

    async with backend(entry("hf_a", preload=True)) as running:
        reader = running._pool.slot("hf_a").running.model.reader  # type: ignore[union-attr]
        with monkeypatch.context() as patch:
            patch.setattr(reader, "read", tokenize)
            with pytest.raises(RuntimeError, match=kind.__name__):
                await ask(running, "hf_a")
            with pytest.raises(RuntimeError, match=kind.__name__):
                await running.score(ScoringRequest("hf_a", "7", (Continuation("a"),)))
        assert (await ask(running, "hf_a")).model == "hf_a"


async def test_model_code_that_exits_does_not_end_the_service(
    entry: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = "transformers.dynamic_module_utils.HF_MODULES_CACHE"
    monkeypatch.setattr(copies, str(tmp_path / "modules"))
    folder = Path(shutil.copytree(entry("hf_a")["model_path"], tmp_path / "model"))
    (folder / "own.py").write_text("raise SystemExit('bye')")
    config = folder / "config.json"
    own = {"model_type": "own", "auto_map": {"AutoConfig": "own.Config"}}
    config.write_text(json.dumps(json.loads(config.read_text()) | own))
    models = [entry("hf_a", model_path=folder, trust_remote_code=True), entry("hf_b")]
    async with backend(*models) as running:
        with pytest.raises(ModelMisconfigured, match="SystemExit: bye"):
            await ask(running, "hf_a")
        assert (await ask(running, "hf_b")).model == "hf_b"


async def test_a_lost_device_ends_the_service(
    entry: Any, dying: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After some errors, CUDA is unusable for the rest of the process."""
    monkeypatch.setattr(services.hf.pool, "is_device_lost", lambda device: True)
    async with backend(entry("hf_a", preload=True)) as running:
        dying(running)
        with pytest.raises(ModelMisconfigured):
            await ask(running, "hf_a")
        assert "can no longer use cpu" in await running.failed()


async def test_a_model_that_cannot_read_a_test_conversation_is_not_ready(
    entry: Any, tmp_path: Path
) -> None:
    template = tmp_path / "chat.jinja"
    template.write_text("{{ '' }}")
    models = [entry("hf_a", preload=True, chat_template=template), entry("hf_b", preload=True)]
    async with backend(*models) as running:
        assert await states(running) == "mr"
        assert "renders nothing" in (await running.is_model_available("hf_a")).detail


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
