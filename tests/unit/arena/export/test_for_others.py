"""`arena export` for other programs: rollouts, Inspect's logs, shared schemas.

tests/doors has the programs themselves read these files.
"""

from __future__ import annotations

import json
from pathlib import Path
from zipfile import ZipFile

import pytest
import yaml

from arena.cli import main
from arena.export.source import split_name
from tests.support.exported import write_results


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return write_results(tmp_path / "games.sqlite")


def export(results: Path, kind: str, *options: str) -> Path:
    folder = results.parent / kind
    assert main(["export", str(results), "--format", kind, "--to", str(folder), *options]) == 0
    return folder


def test_rollouts(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = export(results, "rollouts") / "rollouts.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    first = rows[0]
    # A conversation is one sequence: the later prompt's own tokens are not trained.
    assert (first["prompt_ids"], first["completion_ids"]) == ([1, 2, 3], [4, 5, 6, 7, 8])
    assert first["env_mask"] == [1, 1, 0, 0, 1]
    assert first["logprobs"] == [-0.5, -0.25, 0.0, 0.0, -0.125]
    assert (first["reward"], first["seat"], first["agent"]) == (1.0, 0, "smol")
    assert (first["answers"], first["illegal"]) == (2, 1)
    # Unrelated prompts are a sequence each.
    forfeited = [row for row in rows if row["episode"] == "key1"]
    assert [row["prompt_ids"] for row in forfeited] == [[1, 2, 3], [9, 9]]
    assert {row["reward"] for row in forfeited} == {-1.0}
    assert {row["episode"] for row in rows} == {"key0", "key1", "key3"}
    said = " ".join(capsys.readouterr().err.split())
    assert "1 answer without ids or log-probabilities left out" in said
    assert "2 seats without a return left out" in said


def test_inspect(results: Path) -> None:
    folder = export(results, "inspect")
    assert sorted(path.name for path in folder.iterdir()) == ["gpt.eval", "smol.eval"]
    with ZipFile(folder / "smol.eval") as archive:
        header = json.loads(archive.read("header.json"))
        sample = json.loads(archive.read("samples/key0-0_epoch_1.json"))
        failed = json.loads(archive.read("samples/key2-0_epoch_1.json"))
    assert header["eval"]["model"] == "hf/smollm2-135m-instruct"
    assert header["results"]["total_samples"] == 4
    assert header["results"]["completed_samples"] == 3
    assert [score["name"] for score in header["results"]["scores"]] == ["tic_tac_toe"]
    assert [event["data"]["seat"] for event in sample["events"]] == [0, 1, 0]
    assert sample["scores"] == {"return": {"value": 1.0}, "outcome": {"value": "win"}}
    assert [message["role"] for message in sample["messages"]] == ["user", "assistant"] * 2
    assert failed["error"]["message"] == "UNAVAILABLE down"


def test_every_eval_ever(results: Path) -> None:
    folder = export(results, "every-eval-ever", "--organization", "Lab")
    (path,) = (folder / "data/lab_games/openai/gpt-4o").glob("*.json")
    record = json.loads(path.read_text())
    assert record["model_info"]["id"] == "openai/gpt-4o"
    assert record["source_metadata"]["source_organization_name"] == "Lab"
    samples = folder / record["detailed_evaluation_results"]["file_path"]
    assert len(samples.read_text().splitlines()) == 2
    (result,) = record["evaluation_results"]
    interval = result["score_details"]["uncertainty"]["confidence_interval"]
    assert interval["lower"] <= result["score_details"]["score"] <= interval["upper"]


def test_eval_results(results: Path) -> None:
    folder = export(results, "eval-results", "--dataset", "lab/games")
    (entry,) = yaml.safe_load((folder / "smol/.eval_results/lab_games.yaml").read_text())
    assert entry["dataset"] == {"id": "lab/games", "task_id": "tic_tac_toe"}
    assert 0 <= entry["value"] <= 1


def test_a_leaderboard_needs_its_dataset(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(results), "--format", "eval-results"]) == 2
    assert "--dataset" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("model", "parts"),
    [
        ("openrouter_openai/gpt-4o", ("openai", "gpt-4o")),
        ("litellm_azure/openai/gpt_4", ("openai", "gpt_4")),
        ("hf_smollm2-135m-instruct", ("unknown", "smollm2-135m-instruct")),
        ("plain", ("unknown", "plain")),
    ],
)
def test_the_developer_of_a_model(model: str, parts: tuple[str, str]) -> None:
    assert split_name(model) == parts
