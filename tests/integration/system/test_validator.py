"""The validator against the running system: the commands that people type."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from deploy.services import ROOT
from tests.support.system import System

MODEL = "hf_smollm2-135m-instruct"


def shell(system: System, command: str) -> subprocess.CompletedProcess[str]:
    """Run a command line in which python3 is the one of the environment."""
    return system.run(
        ["env", f"PATH={Path(sys.executable).parent}:/usr/bin:/bin", "bash", "-c", command]
    )


def test_the_embedded_model_can_run(system: System) -> None:
    done = shell(system, f"arena-llm validate --models {MODEL}")
    assert (done.returncode, done.stderr) == (0, "")
    header, row, last = done.stdout.splitlines()
    assert header.split()[:4] == ["MODEL", "BACKEND", "STATUS", "CREDITS"]
    assert row.split()[:5] == [MODEL, "hf", "ok", "-", "free"]
    assert last == "1 of 1 models can run"


def test_what_nobody_serves_cannot(system: System) -> None:
    done = shell(system, f"arena-llm validate --json --models {MODEL} hf_no-such-model nobody_x")
    assert done.returncode == 1, done.stderr
    found = [(one["status"], one["reason"]) for one in json.loads(done.stdout)["models"]]
    assert found == [("ok", ""), ("fail", "MODEL_NOT_FOUND"), ("fail", "UNKNOWN_PREFIX")]


def test_specs_commands(system: System, tmp_path: Path) -> None:
    script = "python3 scripts/utils/model_validator.py"
    hosted = ["litellm_groq/llama-3.1-8b-instant", "openrouter_openai/gpt-4o-mini"]
    done = shell(system, f"{script} --models {' '.join(hosted)}")
    rows = [line.split() for line in done.stdout.splitlines()[1:-1]]
    assert [row[0] for row in rows] == hosted, done.stderr
    # With or without keys on this machine: the exit code says what the table says.
    assert done.returncode == int("fail" in [row[2] for row in rows])

    config = tmp_path / "config.yaml"
    config.write_text(f"agents:\n  player_0:\n    type: llm\n    model: {MODEL}\n")
    done = shell(system, f"{script} --config {config}")
    assert (done.returncode, done.stderr) == (0, "")
    config.write_text(f"models:\n  - {MODEL}\n  - name: hf_no-such-model\n")
    done = shell(system, f"{script} --config {config}")
    assert done.returncode == 1
    assert "MODEL_NOT_FOUND" in done.stdout
    assert "(in models[1].name)" in done.stdout


def test_the_readmes_experiment(system: System, tmp_path: Path) -> None:
    section = (ROOT / "README.md").read_text().partition("## Before an expensive run")[2]
    block = re.search(r"```yaml\n(.*?)```", section, re.DOTALL)
    assert block is not None
    file = tmp_path / "experiment.yaml"
    file.write_text(block[1])
    done = shell(system, f"arena-llm validate --config {file} --estimate --json")
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout)["estimate"]["models"]
    # One seat of two: 5 x 7.6 / 2 and 20 x 20.7 / 2 moves.
    assert (found["calls"], found["usd"]) == (226, 0)
    assert found["prompt_tokens"] == 226 * 400
