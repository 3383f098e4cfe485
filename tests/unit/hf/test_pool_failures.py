"""A model that cannot be loaded or whose engine dies leaves the others alone."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import services.hf.pool
from arena_llm.types import Completion, Continuation, ModelState, ScoringRequest
from services.common.errors import ModelMisconfigured
from services.hf.backend import HfBackend
from tests.support.broken_models import remove_weights
from tests.unit.hf.conftest import Checkpoints
from tests.unit.hf.pool_driver import ask, backend, request, state, states


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
