"""arena validate and the scripts against the running system."""

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
    """Run a command line in which python3 is the environment's Python."""
    return system.run(
        ["env", f"PATH={Path(sys.executable).parent}:/usr/bin:/bin", "bash", "-c", command]
    )


def test_the_embedded_model_can_run(system: System) -> None:
    done = shell(system, f"arena validate --models {MODEL}")
    assert (done.returncode, done.stderr) == (0, "")
    header, row, last = done.stdout.splitlines()
    assert header.split()[:3] == ["MODEL", "BACKEND", "STATUS"]
    assert row.split()[:4] == [MODEL, "hf", "ok", "0"]
    assert last == "1 of 1 models can run"


def test_models_that_nobody_serves(system: System) -> None:
    done = shell(system, f"arena validate --json --models {MODEL} hf_no-such-model nobody_x")
    assert done.returncode == 1, done.stderr
    checks = json.loads(done.stdout)["models"]
    assert [(check["status"], check["reason"]) for check in checks] == [
        ("ok", ""),
        ("fail", "MODEL_NOT_FOUND"),
        ("fail", "UNKNOWN_PREFIX"),
    ]


def test_the_scripts(system: System, tmp_path: Path) -> None:
    script = "python3 scripts/utils/model_validator.py"
    hosted = ["litellm_groq/llama-3.1-8b-instant", "openrouter_openai/gpt-4o-mini"]
    done = shell(system, f"{script} --models {' '.join(hosted)}")
    rows = [line.split() for line in done.stdout.splitlines()[1:3]]
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
    assert "(in models[1])" in done.stdout


def test_the_estimate_of_the_documentation(system: System, tmp_path: Path) -> None:
    section = (ROOT / "docs/experiments.md").read_text().partition("## Budget")[2]
    blocks = re.findall(r"```yaml\n(.*?)```", section, re.DOTALL)
    file = tmp_path / "experiment.yaml"
    file.write_text(next(block for block in blocks if "estimate:" in block))
    done = shell(system, f"arena validate --config {file} --estimate --json")
    assert done.returncode == 0, done.stderr
    (model,) = json.loads(done.stdout)["estimate"]["models"]
    # One seat of two: 5 x 7.6 / 2 and 20 x 20.7 / 2 moves.
    assert (model["calls"], model["picousd"]) == (226, 0)
    assert model["prompt_tokens"] == 226 * 400
