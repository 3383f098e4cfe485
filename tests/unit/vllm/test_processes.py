"""The folder of the engines' files, and the detection of hangs."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.vllm.processes import ScratchFolder, Watchdog

pytestmark = pytest.mark.integration  # starts processes

HOLDS = (
    "from services.vllm.processes import ScratchFolder; "
    "print(ScratchFolder().path, flush=True); input()"
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The temporary folder of this test, and of the processes that it starts."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def other() -> Iterator[subprocess.Popen[str]]:
    """Another process with such a folder."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.kill()


def test_the_folder_is_removed_with_its_content(folder: Path) -> None:
    scratch = ScratchFolder()
    (scratch.path / "deep").mkdir()
    (scratch.path / "deep" / "file").touch()
    assert [*folder.iterdir()] == [scratch.path]
    scratch.close()
    assert not [*folder.iterdir()]


def test_only_the_folder_of_a_killed_process_is_removed(
    folder: Path, other: subprocess.Popen[str]
) -> None:
    assert other.stdout is not None
    theirs = Path(other.stdout.readline().strip())
    (theirs / "socket").touch()
    ScratchFolder().close()
    assert (theirs / "socket").exists()
    other.kill()
    other.wait()
    ours = ScratchFolder()
    assert [*folder.iterdir()] == [ours.path]


def test_other_folders_are_not_touched(folder: Path) -> None:
    (folder / "arena-other").mkdir()
    (folder / "arena-vllm-file").touch()
    ScratchFolder().close()
    assert sorted(os.listdir(folder)) == ["arena-other", "arena-vllm-file"]


#: (requests, steps) at each check, and the check at which the engine counts as hung.
CHECKS = {
    "idle": ([(0, 7)] * 99, None),
    "every check sees a step": ([(1, step) for step in range(99)], None),
    "a step at every fourth check": ([(1, step // 4) for step in range(99)], None),
    "no step at all": ([(1, 0)] * 99, 4),
    "it stops while it works": ([(2, 1), (2, 2), (2, 3)] + [(2, 3)] * 9, 7),
    "idle, then stopped": ([(0, 3)] * 50 + [(1, 3)] * 9, 54),
    "callers time out and new ones come": ([(1, 3), (1, 3), (0, 3)] * 9, 7),
    "a step just in time": ([(1, 3)] * 5 + [(1, 4)] + [(1, 4)] * 4, None),
}


@pytest.mark.parametrize("case", CHECKS)
def test_an_engine_with_requests_and_no_steps_hangs(case: str) -> None:
    checks, expected = CHECKS[case]
    watchdog = Watchdog(0.5, 0.1)
    hung = [at for at, check in enumerate(checks) if watchdog.hangs(*check)]
    assert (hung[0] if hung else None) == expected
