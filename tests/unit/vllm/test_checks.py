"""What is missing is named, with what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.common.errors import ModelMisconfigured
from services.vllm.checks import check_adapter, check_files, failed_start
from services.vllm.config import LoraAdapter, VllmModel


def entry(folder: Path, **more: Path) -> VllmModel:
    return VllmModel(name="vllm_a", model_path=folder, **more)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The names of a model's files, which is what is looked at before a start."""
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "tokenizer.json"):
        (folder / name).touch()
    return folder


def test_a_whole_folder_will_do(folder: Path) -> None:
    check_files(entry(folder))


@pytest.mark.parametrize(
    ("missing", "why"),
    [("config.json", "holds no model"), ("tokenizer.json", "set tokenizer_path")],
)
def test_a_file_is_missing(folder: Path, missing: str, why: str) -> None:
    (folder / missing).unlink()
    with pytest.raises(ModelMisconfigured, match=why) as caught:
        check_files(entry(folder))
    assert "vllm_a" in caught.value.message
    assert str(folder) in caught.value.message


def test_a_tokenizer_from_elsewhere(folder: Path, tmp_path: Path) -> None:
    (folder / "tokenizer.json").rename(tmp_path / "tokenizer.json")
    check_files(entry(folder, tokenizer_path=tmp_path))


def test_a_chat_template_is_missing(folder: Path) -> None:
    with pytest.raises(ModelMisconfigured, match=r"no\.jinja is no file"):
        check_files(entry(folder, chat_template=folder / "no.jinja"))


def test_an_adapter_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ModelMisconfigured, match=r"vllm_b: .* holds no LoRA adapter"):
        check_adapter(LoraAdapter(name="vllm_b", path=tmp_path))


#: What vLLM 0.32 says on a GPU, and what its user is told to do.
SAID = {
    "ValueError: Free memory on device cuda:0 (3.1/79.1 GiB) on startup is less than desired "
    "GPU memory utilization (0.92, 72.8 GiB).": "gpu_memory_utilization",
    "ValueError: To serve at least one request with the model's max seq len (131072), 16.0 GiB "
    "KV cache is needed, which is larger than the available KV cache memory": "max_model_len",
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB.": "larger GPU",
}


@pytest.mark.parametrize("said", SAID)
def test_what_an_engine_process_said_comes_with_a_remedy(tmp_path: Path, said: str) -> None:
    root_cause = tmp_path / "error"
    root_cause.write_text(said)
    told = RuntimeError("Engine core initialization failed. See root cause above.")
    message = failed_start(entry(tmp_path), "does not start", told, root_cause).message
    assert said in message
    assert SAID[said] in message.removeprefix(f"vllm_a: its engine does not start: {said}")
    assert "initialization failed" not in message


def test_an_error_that_no_process_has_explained(tmp_path: Path) -> None:
    error = failed_start(entry(tmp_path), "does not start", ValueError("odd"), tmp_path / "none")
    assert "ValueError: odd" in error.message
