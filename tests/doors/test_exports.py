"""Foreign programs read what `arena export` writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from arena.cli import main
from services.common.local.checks import embedded_folder
from services.hf.embedded import prepare
from tests.doors.conftest import RunProgram
from tests.support.exported import write_results

EPISODES = 4


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return write_results(tmp_path / "games.sqlite", EPISODES)


def export(results: Path, kind: str, *options: str) -> Path:
    folder = results.parent / kind
    assert main(["export", str(results), "--format", kind, "--to", str(folder), *options]) == 0
    return folder


def test_inspect_opens_a_log(results: Path, run_program: RunProgram) -> None:
    log = export(results, "inspect") / "smol.eval"
    output = run_program("inspect", str(log), str(EPISODES), file="inspect_reads.py")
    assert output.startswith("inspect-ai 0.3.")


def test_datasets_reads_rollouts_and_a_leaderboard_entry(
    results: Path, run_program: RunProgram
) -> None:
    rollouts = export(results, "rollouts") / "rollouts.jsonl"
    entries = export(results, "eval-results", "--dataset", "lab/games")
    entry = entries / "smol/.eval_results/lab_games.yaml"
    output = run_program("datasets", str(rollouts), str(entry), file="datasets_reads.py")
    assert output.startswith("datasets 5.")


def test_trl_trains_one_step_on_rollouts(results: Path, run_program: RunProgram) -> None:
    rollouts = export(results, "rollouts") / "rollouts.jsonl"
    folder = embedded_folder().resolve()
    prepare(folder, weights=False)
    output = run_program("trl", str(rollouts), str(folder), file="trl_step.py")
    assert output.startswith("trl 1.16.0")
    print(output)


def test_every_eval_ever_validates_records(results: Path, run_program: RunProgram) -> None:
    folder = export(results, "every-eval-ever", "--organization", "Lab")
    files = sorted((folder / "data/lab_games/openai/gpt-4o").iterdir())
    assert len(files) == 2
    code = "from every_eval_ever.cli import main; main()"
    words = [str(file.relative_to(folder)) for file in files]
    output = run_program("every_eval_ever", "-c", code, "validate", *words, cwd=folder)
    assert "2 passed" in output
