"""Exports as CSV and Parquet."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest
from pyarrow import parquet

from arena.export.tables import TableFormat, export_tables
from arena.results.database import ResultsError
from arena.results.store import Store
from tests.support.result_rows import COST, EXPERIMENT, MODELS, MOVE, ROW


@pytest.fixture
def results(tmp_path: Path) -> Path:
    path = tmp_path / "one.sqlite"
    with Store(path, EXPERIMENT, MODELS) as store:
        store.put_episode(ROW, [MOVE])
    return path


def test_csv(results: Path, tmp_path: Path) -> None:
    files = export_tables(results, tmp_path / "new" / "csv", "csv")
    assert [file.name for file in files] == [
        "models.csv", "episodes.csv", "moves.csv", "failed_calls.csv", "seats.csv",
        "scores.csv", "quality.csv",
    ]  # fmt: skip
    tables = {file.stem: list(csv.DictReader(file.read_text().splitlines())) for file in files}
    assert [model["agent"] for model in tables["models"]] == ["dice", "hf_a"]
    (episode,), (move,) = tables["episodes"], tables["moves"]
    assert (episode["returns"], episode["reason"]) == ("[1.0,-1.0]", "")
    assert (move["latency_ms"], move["prompt"], move["action"]) == ("12.25", "", "3")
    seats = [(row["seat"], row["agent"], row["return"]) for row in tables["seats"]]
    assert seats == [("0", "hf_a", "1.0"), ("1", "dice", "-1.0")]
    counts = [(row["calls"], row["prompt_tokens"], row["cost_picousd"]) for row in tables["seats"]]
    assert counts == [("1", "10", str(COST)), ("0", "0", "0")]


FORMULAS = [
    "=1+1", "+1", "-1+1|cmd", "@SUM(A1)", "\t=1", "\r=1", '=HYPERLINK("http://x","y")',
    "\n=1", " =1", "\n x", "\u3000+1", "\ufeff=1", "\x00=1", "＝1", "＋1", "－1", "＠SUM(A1)",  # noqa: RUF001
]  # fmt: skip


@pytest.mark.parametrize("formula", FORMULAS)
def test_a_spreadsheet_runs_no_text_of_a_model(tmp_path: Path, formula: str) -> None:
    path = tmp_path / "one.sqlite"
    move = replace(MOVE, reply=formula, prompt="plain - text", action=-3, latency_ms=-1.5)
    with Store(path, EXPERIMENT, MODELS) as store:
        store.put_episode(ROW, [move])
    files = {file.stem: file for file in export_tables(path, tmp_path, "csv")}
    with files["moves"].open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["reply"] == f"'{formula}"
    assert (row["prompt"], row["action"], row["latency_ms"]) == ("plain - text", "-3", "-1.5")
    moves = parquet.read_table(export_tables(path, tmp_path, "parquet")[2]).to_pylist()
    assert moves[0]["reply"] == formula


def test_parquet(results: Path, tmp_path: Path) -> None:
    files = export_tables(results, tmp_path, "parquet")
    tables = {file.stem: parquet.read_table(file) for file in files}
    (move,) = tables["moves"].to_pylist()
    assert (move["latency_ms"], move["prompt"], move["action"]) == (12.25, None, 3)
    assert move["legal_actions"] == '[[3,"3"]]'
    (episode,) = tables["episodes"].to_pylist()
    assert (episode["seed"], episode["agents"]) == (2**63 - 1, ["hf_a", "dice"])
    assert episode["returns"] == [1.0, -1.0]
    assert tables["seats"].column("return").to_pylist() == [1.0, -1.0]
    schema = tables["moves"].schema
    types = {name: str(schema.field(name).type) for name in ("cost_picousd", "latency_ms")}
    assert types == {"cost_picousd": "int64", "latency_ms": "double"}
    assert move["cost_picousd"] == COST
    # A table without rows has the same columns.
    assert tables["moves"].num_rows == 1
    Store(tmp_path / "empty.sqlite", EXPERIMENT, []).close()
    empty = parquet.read_table(export_tables(tmp_path / "empty.sqlite", tmp_path, "parquet")[2])
    assert (empty.num_rows, empty.schema) == (0, tables["moves"].schema)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_failed_export_names_the_file(results: Path, tmp_path: Path, kind: TableFormat) -> None:
    with pytest.raises(ResultsError, match=r"^/.*/none: there is no such results file"):
        export_tables(tmp_path / "none", tmp_path, kind)
    with pytest.raises(ResultsError, match=rf"^{results}/models.{kind}: cannot be written"):
        export_tables(results, results, kind)


def test_an_export_is_possible_during_a_run(results: Path, tmp_path: Path) -> None:
    with Store(results, EXPERIMENT, MODELS) as store:
        store.put_episode(replace(ROW, episode="other"), [replace(MOVE, episode="other")])
        export_tables(results, tmp_path / "out", "csv")
    assert len((tmp_path / "out" / "moves.csv").read_text().splitlines()) == 3
