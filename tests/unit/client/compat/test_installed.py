"""The distribution beside the original project: its files stay, and its other modules work."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]
SOURCE = ROOT / "client-compat/src"

PROGRAM = """
import arena_llm_compat  # as the .pth file does
import game_reasoning_arena.backends as backends
from game_reasoning_arena.backends.llm_registry import generate_response
assert backends.generate_response is generate_response
assert backends.__file__ == {backends!r}, backends.__file__
"""


def run(
    program: str, *folders: Path, options: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    """Run a program that finds the packages in these folders, and this distribution."""
    path = os.pathsep.join(map(str, (*folders, SOURCE, ROOT / "client/src")))
    return run_with(program, {"PYTHONPATH": path}, options)


def run_with(
    program: str, environ: dict[str, str], options: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *options, "-c", program],
        env=os.environ | environ,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def original(tmp_path: Path) -> Path:
    """A project with the original's name, its own backends, and another module."""
    for name in ("", "backends", "arena"):
        (folder := tmp_path / "game_reasoning_arena" / name).mkdir(exist_ok=True)
        (folder / "__init__.py").write_text(f"NAME = 'the original {name}'\n")
    (tmp_path / "game_reasoning_arena/arena/agent.py").write_text(
        "from game_reasoning_arena.backends import generate_response\n"
    )
    return tmp_path


def program() -> str:
    return PROGRAM.format(backends=str(SOURCE / "arena_llm_compat/backends/__init__.py"))


def test_without_the_original() -> None:
    done = run(program() + "import game_reasoning_arena.arena")
    assert "No module named 'game_reasoning_arena.arena'" in done.stderr


def test_beside_the_original(original: Path) -> None:
    done = run(
        program() + "import game_reasoning_arena, game_reasoning_arena.arena.agent as agent\n"
        "print(game_reasoning_arena.NAME, game_reasoning_arena.arena.NAME, sep=', ')\n"
        "assert agent.generate_response is generate_response",
        original,
    )
    assert (done.stderr, done.stdout) == ("", "the original , the original arena\n")


def test_no_file_of_the_distribution_has_the_name_of_a_file_of_the_original() -> None:
    assert not (SOURCE / "game_reasoning_arena").exists()
    # Python runs this line when it starts.
    assert (SOURCE.parent / "arena_llm_compat.pth").read_text() == "import arena_llm_compat\n"


def test_python_knows_the_names_when_it_starts() -> None:
    environ = {name: "" for name in os.environ if name.startswith("PYTHON")}
    done = run_with("from game_reasoning_arena.backends import generate_response", environ)
    assert done.stderr == ""


def test_the_start_of_python_stays_fast() -> None:
    look = (
        "import os, sys; before = set(sys.modules); import arena_llm_compat\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    done = run(look, options=["-S"])  # without the .pth file, which imports it before
    assert done.stdout == "__future__ arena_llm_compat\n"
