"""Broken entries and failed starts are reported with a fix."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError, model_validator
from pydantic.dataclasses import dataclass
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from tokenizers.models import BPE

from services.common.errors import ModelMisconfigured
from services.vllm.config import LoraAdapter, VllmModel
from services.vllm.errors import (
    check_adapter_folder,
    check_adapter_shapes,
    check_files,
    explain_start_failure,
)


def entry(folder: Path, **more: Path) -> VllmModel:
    return VllmModel(name="vllm_a", model_path=folder, **more)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with empty files of the right names, which is all that is checked before a start."""
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "tokenizer.json"):
        (folder / name).touch()
    return folder


def test_a_complete_folder_is_accepted(folder: Path) -> None:
    check_files(entry(folder))


@pytest.mark.parametrize(
    ("missing", "why"),
    [("config.json", "not a model folder"), ("tokenizer.json", "set tokenizer_path")],
)
def test_a_file_is_missing(folder: Path, missing: str, why: str) -> None:
    (folder / missing).unlink()
    with pytest.raises(ModelMisconfigured, match=why) as caught:
        check_files(entry(folder))
    assert "vllm_a" in caught.value.message
    assert str(folder) in caught.value.message


def test_a_tokenizer_from_another_folder(folder: Path, tmp_path: Path) -> None:
    (folder / "tokenizer.json").rename(tmp_path / "tokenizer.json")
    check_files(entry(folder, tokenizer_path=tmp_path))


def test_a_chat_template_is_missing(folder: Path) -> None:
    with pytest.raises(ModelMisconfigured, match=r"there is no file .*no\.jinja"):
        check_files(entry(folder, chat_template=folder / "no.jinja"))


def test_an_adapter_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ModelMisconfigured, match=r"vllm_b: .* is not a LoRA adapter"):
        check_adapter_folder(LoraAdapter(name="vllm_b", path=tmp_path))


#: An error of vLLM 0.32 on a GPU -> a part of its fix.
SAID = {
    "ValueError: Free memory on device cuda:0 (3.1/79.1 GiB) on startup is less than desired "
    "GPU memory utilization (0.92, 72.8 GiB).": "gpu_memory_utilization",
    "ValueError: To serve at least one request with the model's max seq len (131072), 16.0 GiB "
    "KV cache is needed, which is larger than the available KV cache memory": "max_model_len",
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB.": "larger GPU",
}


@pytest.mark.parametrize("said", SAID)
def test_the_error_of_an_engine_process_comes_with_a_fix(tmp_path: Path, said: str) -> None:
    root_cause = tmp_path / "error"
    root_cause.write_text(said)
    error = RuntimeError("Engine core initialization failed. See root cause above.")
    message = explain_start_failure(entry(tmp_path), "does not start", error, root_cause).message
    assert said in message
    assert SAID[said] in message.removeprefix(f"vllm_a: its engine does not start: {said}")
    assert "initialization failed" not in message


def explained(folder: Path, error: Exception) -> str:
    """The message for an error that no process has logged."""
    nothing = folder.parent / "nothing"
    nothing.touch()
    return explain_start_failure(entry(folder), "does not start", error, nothing).message


def test_an_error_that_no_process_has_logged(tmp_path: Path) -> None:
    assert "ValueError: odd" in explained(tmp_path, ValueError("odd"))


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
@pytest.mark.parametrize("text", ['{"a": ', "\udc80"], ids=["cut", "no text"])
def test_a_broken_file_is_reported(folder: Path, name: str, text: str) -> None:
    for path in folder.iterdir():
        path.write_text("{}")
    Tokenizer(BPE()).save(str(folder / "tokenizer.json"))
    assert "cannot be read" not in explained(folder, ValueError("odd"))
    (folder / name).write_bytes(text.encode(errors="surrogateescape"))
    message = explained(folder, ValueError("odd"))
    assert f"ValueError: odd: {folder / name} cannot be read (" in message


def test_json_that_is_not_a_tokenizer_is_reported(folder: Path) -> None:
    for path in folder.iterdir():
        path.write_text("{}")
    assert f"{folder / 'tokenizer.json'} cannot be read" in explained(folder, KeyError("model"))


def test_the_noise_of_pydantic_errors_is_left_out(tmp_path: Path) -> None:
    @dataclass
    class Config:
        dtype: int

        @model_validator(mode="after")
        def check(self) -> Config:
            raise ValueError("too odd")

    with pytest.raises(ValidationError) as simple:
        Config(dtype="float77")  # type: ignore[arg-type] # the error under test
    assert "https://" in str(simple.value)
    message = explained(tmp_path, simple.value)
    assert "https://" not in message
    assert "input_value='float77'" in message
    with pytest.raises(ValidationError, match=r"input_value=ArgsKwargs\(") as all_of_it:
        Config(dtype=7)
    message = explained(tmp_path, all_of_it.value)
    assert message.endswith(" too odd")
    assert "Value error" not in message


#: The module of the adapter in these tests, with 64 inputs and 32 outputs.
MODULE = "model.layers.0.self_attn.o_proj"

#: How a checkpoint stores its weights -> the tensors of the module.
STORED = {
    "plain": {"weight": np.zeros((32, 64), np.float16)},
    "fp8": {"weight": np.zeros((32, 64), np.uint8), "weight_scale": np.zeros(1, np.float32)},
    "awq": {
        "qweight": np.zeros((64, 4), np.int32),
        "qzeros": np.zeros((2, 4), np.int32),
        "scales": np.zeros((2, 32), np.float16),
    },
    "gptq": {
        "qweight": np.zeros((8, 32), np.int32),
        "qzeros": np.zeros((2, 4), np.int32),
        "scales": np.zeros((2, 32), np.float16),
    },
    "gptq with 3 bits": {
        "qweight": np.zeros((6, 32), np.int32),
        "qzeros": np.zeros((2, 3), np.int32),
        "scales": np.zeros((2, 32), np.float16),
    },
    "compressed-tensors": {
        "weight_packed": np.zeros((32, 8), np.int32),
        "weight_shape": np.array([32, 64]),
    },
}


def write_base(folder: Path, tensors: dict[str, np.ndarray]) -> Path:
    folder.mkdir()
    named = {f"{MODULE}.{name}": tensor for name, tensor in tensors.items()}
    save_file(named, folder / "model.safetensors")
    return folder


def write_adapter(folder: Path, inputs: int = 64, outputs: int = 32) -> LoraAdapter:
    folder.mkdir(exist_ok=True)
    matrices = {"A": np.zeros((4, inputs), np.float32), "B": np.zeros((outputs, 4), np.float32)}
    save_file(
        {f"base_model.model.{MODULE}.lora_{side}.weight": m for side, m in matrices.items()},
        folder / "adapter_model.safetensors",
    )
    return LoraAdapter(name="vllm_b", path=folder)


@pytest.mark.parametrize("stored", STORED)
def test_an_adapter_fits_a_base_however_its_weights_are_stored(tmp_path: Path, stored: str) -> None:
    base = write_base(tmp_path / "base", STORED[stored])
    check_adapter_shapes(write_adapter(tmp_path / "lora"), base)
    with pytest.raises(ModelMisconfigured, match="64 inputs, the adapter 48"):
        check_adapter_shapes(write_adapter(tmp_path / "lora", inputs=48), base)
    with pytest.raises(ModelMisconfigured, match="32 outputs, the adapter 16"):
        check_adapter_shapes(write_adapter(tmp_path / "lora", outputs=16), base)


@pytest.mark.parametrize(
    "tensors",
    [
        {
            "weight": np.zeros((1024, 1), np.uint8),
            "weight.absmax": np.zeros(8, np.uint8),
            "weight.quant_map": np.zeros(16, np.float32),
        },
        {"weight_of_a_later_method": np.zeros(8, np.uint8)},
    ],
    ids=["bitsandbytes", "unknown"],
)
def test_a_size_that_the_base_does_not_tell_is_not_checked(
    tmp_path: Path, tensors: dict[str, np.ndarray]
) -> None:
    base = write_base(tmp_path / "base", tensors)
    check_adapter_shapes(write_adapter(tmp_path / "lora", inputs=48), base)


def test_an_adapter_of_a_module_that_the_base_lacks(tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    save_file({"model.norm.weight": np.zeros(64, np.float32)}, base / "model.safetensors")
    with pytest.raises(ModelMisconfigured, match=f"the base has no {MODULE}"):
        check_adapter_shapes(write_adapter(tmp_path / "lora"), base)
