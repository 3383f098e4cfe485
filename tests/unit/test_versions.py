"""`--version` of each command."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import pytest

from arena_llm.v1 import REVISION

pytestmark = pytest.mark.integration  # starts processes

ARENA_LLM = "import sys; from arena_llm.cli import main; sys.exit(main())"
SERVICES = "arena-llm-services"


@pytest.mark.parametrize(
    ("command", "distribution"),
    [
        (["-c", ARENA_LLM], "arena-llm"),
        (["-m", "arena.cli"], SERVICES),
        (["-m", "router"], SERVICES),
        (["-m", "services.openrouter"], SERVICES),
        (["-m", "gateway"], SERVICES),
        (["-m", "deploy"], SERVICES),
    ],
    ids=["arena-llm", "arena", "router", "openrouter", "gateway", "deploy"],
)
def test_the_version(command: list[str], distribution: str) -> None:
    done = subprocess.run(
        [sys.executable, *command, "--version"], capture_output=True, text=True, timeout=60
    )
    shown = f"{distribution} {version(distribution)} (contract revision {REVISION})\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, shown, "")
