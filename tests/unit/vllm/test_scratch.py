"""The engines' folder: one's own, and none that a dead process had."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.vllm.scratch import Scratch

pytestmark = pytest.mark.integration  # starts processes

HOLDS = "from services.vllm.scratch import Scratch; print(Scratch().path, flush=True); input()"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The temporary folder of this test, and of the processes that it starts."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def other() -> Iterator[subprocess.Popen[str]]:
    """Another process, which has such a folder."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.kill()


def test_it_goes_with_all_that_is_in_it(folder: Path) -> None:
    scratch = Scratch()
    (scratch.path / "deep").mkdir()
    (scratch.path / "deep" / "file").touch()
    assert [*folder.iterdir()] == [scratch.path]
    scratch.close()
    assert not [*folder.iterdir()]


def test_that_of_a_living_process_stays_and_that_of_a_killed_one_goes(
    folder: Path, other: subprocess.Popen[str]
) -> None:
    assert other.stdout is not None
    theirs = Path(other.stdout.readline().strip())
    (theirs / "socket").touch()
    Scratch().close()
    assert (theirs / "socket").exists()
    other.kill()
    other.wait()
    ours = Scratch()
    assert [*folder.iterdir()] == [ours.path]


def test_others_folders_are_left_alone(folder: Path) -> None:
    (folder / "arena-other").mkdir()
    (folder / "arena-vllm-file").touch()
    Scratch().close()
    assert sorted(os.listdir(folder)) == ["arena-other", "arena-vllm-file"]
