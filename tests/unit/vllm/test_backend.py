"""The backend without vLLM, which is not installed in this environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from arena_llm.types import ModelState
from services.common.config import ConfigError
from services.vllm.backend import VllmBackend
from services.vllm.config import LoraAdapter, VllmConfig, VllmModel


@pytest.fixture
def backend() -> VllmBackend:
    adapter = LoraAdapter(name="vllm_b", path=Path("/b"))
    model = VllmModel(name="vllm_a", model_path=Path("/a"), lora=[adapter])
    return VllmBackend(VllmConfig(listen="127.0.0.1:0", models=[model]))


async def test_a_missing_engine_names_the_command_to_install_it(backend: VllmBackend) -> None:
    with pytest.raises(ConfigError, match="make setup-vllm"):
        await backend.start()
    await backend.aclose()


async def test_models_are_loading_while_the_engine_is_imported(backend: VllmBackend) -> None:
    availability = await backend.is_model_available("vllm_a")
    assert (availability.available, availability.state) == (True, ModelState.LOADING)
    assert [model.name for model in await backend.get_available_models()] == ["vllm_a", "vllm_b"]
