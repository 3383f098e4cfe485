"""Files of release 0.1 are read, resumed, replayed, reported and exported.

release_0_1/ holds what that release wrote: a finished episode of matrix_rps, two failed ones of
kuhn_poker, and the recording. Each reply took a cent.
"""

from __future__ import annotations

import csv
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from arena.experiment.file import Experiment
from arena.experiment.load import load_experiment
from arena.experiment.recording import RecordedModels, RecordingError
from arena.report.count import summarise
from arena.report.load import open_results
from arena.results.database import ResultsError, connect
from arena.results.export import export
from arena.results.rows import CallKey, convert_old_reply
from arena.results.store import Store, check_results
from tests.support.scripted_experiment import CENT, Script, run

OLD = Path(__file__).parent / "release_0_1"

#: The replies of the file: 2 of the finished episode, and 2 of each failed one.
STORED = 6


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "old.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript((OLD / "old.sql").read_text())
    return path


@pytest.fixture
def experiment(tmp_path: Path) -> Experiment:
    return load_experiment(Path(shutil.copy(OLD / "experiment.yaml", tmp_path)))


def test_a_report_reads_it_and_leaves_it_alone(path: Path) -> None:
    before = path.read_bytes()
    with open_results(path) as results:
        total = summarise(results).total
    assert (total.calls, total.cost_picousd, total.unpriced) == (4, 4 * CENT, 0)
    assert path.read_bytes() == before


def test_an_export_has_the_columns_of_today(path: Path, tmp_path: Path) -> None:
    export(path, tmp_path / "parquet", "parquet")
    files = export(path, tmp_path, "csv")
    moves = list(csv.DictReader(files[3].read_text().splitlines()))
    assert {move["cost_picousd"] for move in moves if move["model"]} == {str(CENT)}
    assert {move["provider"] for move in moves} == {""}


async def test_a_run_continues_it(path: Path, experiment: Experiment) -> None:
    """The prompts have changed since: replies of unfinished episodes belong to other requests."""
    check_results(path, experiment.row)
    with pytest.raises(RecordingError, match="has another request than when its reply was stored"):
        await run(experiment, path, Script())
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DELETE FROM calls")
        connection.execute("DELETE FROM moves WHERE episode LIKE 'kuhn%'")
        connection.execute("DELETE FROM episodes WHERE episode LIKE 'kuhn%'")
        connection.commit()
    with closing(connect(path)) as connection:
        stored = {
            CallKey(*row) for row in connection.execute(
                "SELECT episode, ply, seat, attempt FROM calls UNION SELECT episode, ply, seat,"
                " attempt FROM moves WHERE model <> '' AND status <> 'error'"
            )
        }  # fmt: skip
    script = Script()
    spent = await run(experiment, path, script)
    assert not stored & set(script.asked)
    assert len(stored) == STORED - 4
    assert spent.cost_picousd == CENT * (len(stored) + len(script.asked))
    with closing(connect(path)) as connection:
        query = "SELECT status, count(*) FROM episodes GROUP BY status"
        assert connection.execute(query).fetchall() == [("finished", 4)]
        assert connection.execute("PRAGMA user_version").fetchone() == (3,)
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        assert tables == (6,)


def test_another_experiment_does_not_change_it(path: Path, experiment: Experiment) -> None:
    before = path.read_bytes()
    path.parent.joinpath("experiment.yaml").write_text(experiment.path.read_text() + "seed: 3")
    other = load_experiment(experiment.path)
    with pytest.raises(ResultsError, match="with other settings"):
        Store(path, other.row, other.models)
    assert path.read_bytes() == before


def test_a_file_that_a_killed_process_left_open(path: Path, experiment: Experiment) -> None:
    """It has the old meter."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE meter (tokens INTEGER NOT NULL, cost_usd REAL NOT NULL)")
    with Store(path, experiment.row, experiment.models) as store:
        assert store.spent().cost_picousd == 4 * CENT


@pytest.mark.parametrize("column", ["episode TEXT", "cost_picousd INTEGER"])
def test_other_columns_are_refused(path: Path, column: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"ALTER TABLE calls ADD COLUMN more_{column}")
    with pytest.raises(ResultsError, match="has changed its table 'calls'"):
        connect(path)


async def test_its_recording_can_be_replayed(experiment: Experiment, tmp_path: Path) -> None:
    record = tmp_path / "old.jsonl"
    lines = (OLD / "old.jsonl").read_text().splitlines()
    record.write_text("\n".join(line for line in lines if '"reply":' in line) + "\n")
    key = CallKey("matrix_rps/0/hf_a,hf_b", 0, 0, 0)
    replies = RecordedModels(record)
    assert replies._lines[key].reply.cost_picousd == CENT  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("usd", "picousd"), [(0.1, 10**11), (0.0001234567891, 123456789), (3e-7, 300_000), (0.0, 0)]
)
def test_dollars_are_converted_exactly(path: Path, usd: float, picousd: int) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE moves SET cost_usd = ? WHERE model <> ''", (usd,))
    with closing(connect(path)) as connection:
        costs = connection.execute("SELECT DISTINCT cost_picousd FROM moves WHERE model <> ''")
        assert costs.fetchall() == [(picousd,)]
    assert convert_old_reply({"cost_usd": usd}) == {"cost_picousd": picousd}


@pytest.mark.parametrize("cost", ["9e999", "-9e999", "1e30"])
def test_an_impossible_cost_is_unknown(path: Path, cost: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"UPDATE moves SET cost_usd = {cost}")  # noqa: S608 - a number
    with closing(connect(path)) as connection:
        assert connection.execute("SELECT count(cost_picousd) FROM moves").fetchone() == (0,)
