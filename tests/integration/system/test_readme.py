"""README.md: its commands and its code, run as they stand, in its order."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

import pytest

from deploy.services import ROOT
from tests.support.system import System, free_ports

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(bash|python)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)

#: These cannot run inside themselves; .ci/run runs them.
RUN_BY_CI = {"make lint", "make test"}


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A machine on which somebody follows the README: nothing is up yet."""
    reader = System(tmp_path_factory.mktemp("reader") / "run")
    yield reader
    reader.down()


def commands() -> Iterator[tuple[str, str]]:
    """("bash", one line) and ("python", one block), in order."""
    for language, block in BLOCKS:
        for part in block.splitlines() if language == "bash" else [block]:
            yield language, part


def test_every_command_runs(reader: System) -> None:
    # Each port that the README names is another one here.
    ports = {
        "50050": reader.ports["router"],
        "50054": reader.ports["hf"],
        "6000": free_ports(1)[0],
    }
    ran = 0
    for language, text in commands():
        if text in RUN_BY_CI:
            continue
        here = re.sub(r"\b(50050|50054|6000)\b", lambda match: str(ports[match[0]]), text)
        here = here.replace(".run/", f"{reader.run_dir}/")
        command = ["bash", "-c", here] if language == "bash" else [sys.executable, "-c", here]
        done = reader.run(command)
        assert done.returncode == 0, f"{text}\n{done.stdout}{done.stderr}{reader.logs()}"
        ran += 1
    assert ran > 15
    assert not reader.supervisor.members(), "the README ends with everything stopped"


def test_ci_runs_the_rest() -> None:
    assert set((ROOT / ".ci/run").read_text().splitlines()) >= RUN_BY_CI


def test_every_target_that_is_named_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"\bmake ([a-z]+)", "\n".join(re.findall(r"`[^`]+`", README)))):
        assert re.search(rf"^{target}:.*## ", makefile, re.MULTILINE), target


def test_every_path_that_is_named_exists() -> None:
    named = set(re.findall(r"`((?:[a-z_]+/)*[\w.]+\.(?:py|yaml|toml|example))`", README))
    assert {"configs/router.yaml", "deploy/services.py"} <= named
    assert not [path for path in named if "NAME" not in path and not (ROOT / path).exists()]
