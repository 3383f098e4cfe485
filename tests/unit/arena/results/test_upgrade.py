"""Files of earlier releases are reported, exported and merged, and their recordings are replayed.

release_0_1/ holds what that release wrote (version 2 of the schema): a finished episode of
matrix_rps, two failed ones of kuhn_poker, and the recording. schema_3/ holds what the arena wrote
before version 4: six finished episodes, one forfeited and one failed one, and a reply of an
open one. schema_4/ holds what it wrote before version 5: two finished episodes, a reply of an open
one with unknown cost, and a lost call. Each other reply took a cent.
"""

from __future__ import annotations

import csv
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from arena.experiment.recording import RecordedModels
from arena.export.tables import export_tables
from arena.report.count import summarise
from arena.report.load import open_results
from arena.results.database import ResultsError, connect
from arena.results.merge import merge
from arena.results.opening import check_results
from arena.results.reader import Reader
from arena.results.rows import CallKey, ExperimentRow, convert_old_reply
from arena.results.spending import Spent
from arena.results.store import Store
from arena.results.upgrade import open_to_read
from tests.support.results import content
from tests.support.scripted_experiment import CENT

OLD = Path(__file__).parent / "release_0_1"
FILES = {
    2: OLD / "old.sql",
    3: Path(__file__).parent / "schema_3" / "old.sql",
    4: Path(__file__).parent / "schema_4" / "old.sql",
}


def make(version: int, folder: Path) -> Path:
    path = folder / f"old{version}.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(FILES[version].read_text())
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return make(2, tmp_path)


@pytest.mark.parametrize(
    ("version", "statuses", "calls", "unfinished"),
    [
        (2, {"finished": 1, "failed": 2}, 4, 0),
        (3, {"finished": 6, "forfeited": 1, "failed": 1}, 38, 1),
        (4, {"finished": 2}, 2, 1),
    ],
)
def test_a_report_reads_it_and_leaves_it_alone(
    tmp_path: Path, version: int, statuses: dict[str, int], calls: int, unfinished: int
) -> None:
    path = make(version, tmp_path)
    before = path.read_bytes()
    with open_results(path) as results:
        summary = summarise(results)
    total = summary.total
    assert (total.calls, total.cost_picousd, total.unpriced) == (calls, calls * CENT, 0)
    assert summary.statuses == statuses
    assert summary.unfinished == unfinished
    assert not summary.unverified
    assert path.read_bytes() == before


def test_every_move_is_kept(tmp_path: Path) -> None:
    """Each value of each row of version 3 is in the new file."""
    path = make(3, tmp_path)
    with closing(connect(path)) as connection:
        names = [row[1] for row in connection.execute("PRAGMA table_info(moves)")]
        old = sorted(connection.execute("SELECT * FROM moves").fetchall())
        episodes = connection.execute("SELECT game, number, agents, seed, episode FROM episodes")
        keys = {tuple(row[:4]): row[4] for row in episodes}
    merge([path], tmp_path / "new.sqlite")
    export_tables(tmp_path / "new.sqlite", tmp_path, "csv")
    with (tmp_path / "episodes.csv").open() as file:
        found = {
            row["episode"]: keys[row["game"], int(row["number"]), row["agents"], int(row["seed"])]
            for row in csv.DictReader(file)
        }
    with (tmp_path / "moves.csv").open() as file:
        new = [{**row, "episode": found[row["episode"]]} for row in csv.DictReader(file)]
    before = [["" if value is None else str(value) for value in row] for row in old]
    assert sorted([row[name] for name in names] for row in new) == sorted(before)


def test_what_it_cost_is_kept(tmp_path: Path) -> None:
    path = make(3, tmp_path)
    with open_to_read(path) as connection:
        ((cost, tokens, unpriced),) = connection.execute(
            "SELECT cost_picousd, tokens, unpriced FROM runs"
        )
    assert (cost, tokens, unpriced) == (38 * CENT, 39 * 12, 1)


def test_a_copy_of_version_4_continues_its_run(tmp_path: Path) -> None:
    """Of its unknown costs it is not known what they are at most."""
    path, new = make(4, tmp_path), tmp_path / "new.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        tables = ("episodes", "seats", "calls", "failed_calls", "players", "names", "transcripts")
        before = {name: connection.execute(f"SELECT * FROM {name}").fetchall() for name in tables}  # noqa: S608
    assert merge([path], new).added == 2
    with Store(new, ExperimentRow("old", "{}"), []) as store:
        assert store.spent() == Spent(28, 2 * CENT, unpriced=3)
        assert store.call(CallKey("open", 0, 0, 0)) is not None
    with closing(sqlite3.connect(new)) as connection:
        for name in ("calls", "players", "names"):
            assert connection.execute(f"SELECT * FROM {name}").fetchall() == before[name]  # noqa: S608
        for name in ("episodes", "seats", "failed_calls", "transcripts"):
            assert connection.execute(f"SELECT count(*) FROM {name}").fetchone() == (  # noqa: S608
                len(before[name]),
            )


def test_a_file_that_is_merged_twice_adds_nothing(tmp_path: Path) -> None:
    path, new = make(3, tmp_path), tmp_path / "new.sqlite"
    assert merge([path], new).added == 8
    before = content(new)
    merged = merge([path], new)
    assert (merged.added, merged.known, merged.conflicts) == (0, 8, 0)
    assert content(new) == before


def test_its_episodes_have_a_version_of_their_own(tmp_path: Path) -> None:
    """No run of today asks for them, because their prompts may have been others."""
    with open_to_read(make(3, tmp_path)) as connection:
        versions = {one.versions for one in Reader(connection).episodes()}
    assert versions == {("legacy", "legacy")}


def test_an_export_has_the_columns_of_today(path: Path, tmp_path: Path) -> None:
    export_tables(path, tmp_path / "parquet", "parquet")
    files = {file.stem: file for file in export_tables(path, tmp_path, "csv")}
    moves = list(csv.DictReader(files["moves"].read_text().splitlines()))
    assert {move["cost_picousd"] for move in moves if move["model"]} == {str(CENT)}
    assert {move["provider"] for move in moves} == {""}


@pytest.mark.parametrize("version", FILES)
def test_a_run_does_not_write_to_it(tmp_path: Path, version: int) -> None:
    path = make(version, tmp_path)
    for use in (check_results, lambda path: connect(path, write=True)):
        with pytest.raises(ResultsError, match="was written by an earlier release"):
            use(path)


def test_a_file_that_a_killed_process_left_open(path: Path) -> None:
    """It has the old meter."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE meter (tokens INTEGER NOT NULL, cost_usd REAL NOT NULL)")
    assert len(content(path)["episodes"]) == 3


@pytest.mark.parametrize("column", ["episode TEXT", "cost_picousd INTEGER"])
def test_other_columns_are_refused(path: Path, column: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"ALTER TABLE calls ADD COLUMN more_{column}")
    with pytest.raises(ResultsError, match="has changed its table 'calls'"):
        connect(path)


async def test_its_recording_can_be_replayed(tmp_path: Path) -> None:
    """Its episodes have names in place of keys."""
    record = tmp_path / "old.jsonl"
    lines = (OLD / "old.jsonl").read_text().splitlines()
    record.write_text("\n".join(line for line in lines if '"reply":' in line) + "\n")
    named = CallKey("matrix_rps/0/hf_a,hf_b", 0, 0, 0)
    replies = RecordedModels(record, {"0123": named.episode})
    line = replies.find(CallKey("0123", 0, 0, 0))
    assert line is not None
    assert line.reply is not None
    assert line.reply.cost_picousd == CENT


@pytest.mark.parametrize(
    ("usd", "picousd"), [(0.1, 10**11), (0.0001234567891, 123456789), (3e-7, 300_000), (0.0, 0)]
)
def test_dollars_are_converted_exactly(path: Path, usd: float, picousd: int) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE moves SET cost_usd = ? WHERE model <> ''", (usd,))
    assert costs(path) == {picousd}
    assert convert_old_reply({"cost_usd": usd}) == {"cost_picousd": picousd}


@pytest.mark.parametrize("cost", ["9e999", "-9e999", "1e30"])
def test_an_impossible_cost_is_unknown(path: Path, cost: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"UPDATE moves SET cost_usd = {cost}")  # noqa: S608 - a number
    assert costs(path) == {None}


def costs(path: Path) -> set[int | None]:
    """The costs of all answers."""
    with open_results(path) as results:
        return {
            move.cost_picousd
            for episode in results.first(None)
            for move in results.moves(episode)
            if move.model
        }
