"""configs/vllm_models.yaml: valid entries, and errors that stop the service."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.common.config import ConfigError, load_config
from services.vllm.config import VllmConfig

HEAD = "listen: 127.0.0.1:0\nmodels:\n"


def loaded(folder: Path, text: str) -> VllmConfig:
    path = folder / "vllm_models.yaml"
    path.write_text(text)
    return load_config(path, VllmConfig)


def test_a_minimal_entry(tmp_path: Path) -> None:
    config = loaded(
        tmp_path,
        HEAD + "  - {name: vllm_a, model_path: /models/a, description: A}\n",
    )
    [model] = config.models
    assert (model.name, model.model_path, model.description) == ("vllm_a", Path("/models/a"), "A")
    assert model.preload
    assert not model.trust_remote_code
    assert config.metrics is None


def test_adapters_are_listed_after_their_base(tmp_path: Path) -> None:
    config = loaded(
        tmp_path,
        HEAD
        + "  - name: vllm_a\n    model_path: /a\n    lora: [{name: vllm_a-black, path: /b}]\n"
        + "  - {name: vllm_c, model_path: /c}\n",
    )
    assert [entry.name for entry in config.entries] == ["vllm_a", "vllm_a-black", "vllm_c"]


BROKEN = {
    "no path": ("  - vllm_a\n", "models[0].model_path: Field required"),
    "an unknown key": (
        "  - {name: vllm_a, model_path: /a, gpu: 1}\n",
        "models[0].gpu: unknown",
    ),
    "another prefix": (
        "  - {name: hf_a, model_path: /a}\n",
        "'hf_a' must be 'vllm_' followed by a name",
    ),
    "a name twice": (
        "  - name: vllm_a\n    model_path: /a\n    lora: [{name: vllm_a, path: /b}]\n",
        "'vllm_a' is listed twice",
    ),
    "an adapter's prefix": (
        "  - name: vllm_a\n    model_path: /a\n    lora: [{name: b, path: /b}]\n",
        "'b' must be 'vllm_' followed by a name",
    ),
    "an argument that the entry sets": (
        "  - {name: vllm_a, model_path: /a, engine_args: {tokenizer: /t}}\n",
        "'tokenizer' is set by the entry's own key 'tokenizer_path'",
    ),
    "code of a stranger": (
        "  - {name: vllm_a, model_path: /a, engine_args: {trust_remote_code: true}}\n",
        "own key 'trust_remote_code'",
    ),
    "no reports": (
        "  - {name: vllm_a, model_path: /a, engine_args: {disable_log_stats: true}}\n",
        "'disable_log_stats' cannot be set",
    ),
    "another device": ("  - {name: vllm_a, model_path: /a, device: tpu}\n", "models[0].device"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_an_invalid_file_is_reported(tmp_path: Path, case: str) -> None:
    text, message = BROKEN[case]
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, HEAD + text)
    assert message in str(caught.value)
    assert "vllm_models.yaml" in str(caught.value)
