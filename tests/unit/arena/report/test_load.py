"""Reading results files, including damaged ones."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from arena.agents.calls import ModelReply
from arena.report.count import summarise
from arena.report.load import open_results
from arena.results import columns, integrity, reader
from arena.results.database import ResultsError
from arena.results.rows import CallKey, ExperimentRow, ModelRow, UnreadableRow
from arena.results.store import Store
from tests.support.random_play import Played, play, write
from tests.support.results import change_moves

EXPERIMENT = ExperimentRow("test", "{}")


@pytest.mark.parametrize("content", [None, b"", b"no database", b"SQLite format 3\0" * 100])
def test_another_file_is_refused_by_name(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "r.db"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ResultsError, match=r"r\.db: "), open_results(path):
        pass


def test_a_transcript_that_cannot_be_read_is_refused_by_name(tmp_path: Path) -> None:
    path = write(tmp_path / "r.db", [play("matrix_rps", ("a", "b"))])
    change_moves(path, lambda columns: columns.update(ply=["x", "y"]))
    reason = r"r\.db: episode 'matrix_rps/0/a/b': the transcript: ply"
    with pytest.raises(ResultsError, match=reason), open_results(path) as results:
        summarise(results)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE episodes SET lineup = '['")
    with pytest.raises(ResultsError, match=r"r\.db: lineup: "), open_results(path):
        pass


def test_a_figure_that_is_too_large_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "r.db", [play("matrix_rps", ("a", "a"))])
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE seats SET completion_tokens = ?", (9 * 10**18,))
    reason = r"seats\.completion_tokens of 9,000,000,000,000,000,000 is too large to be added up"
    with pytest.raises(ResultsError, match=reason), open_results(path) as results:
        summarise(results)


@pytest.mark.parametrize("returns", ["[NaN, 1.0]", "[1.0]", "[Infinity, 0]", None])
def test_an_episode_with_unusable_returns_counts_as_failed(
    tmp_path: Path, returns: str | None
) -> None:
    path = write(tmp_path / "r.db", [play("matrix_rps", ("a", "b"))])
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE episodes SET returns = ?", (returns,))
    with open_results(path) as results:
        summary = summarise(results)
    assert summary.totals["a"].failed == 1
    assert summary.totals["a"].games == 0
    assert "returns are unusable" in summary.failures[0].reason


def test_text_that_is_not_utf8_can_be_read(tmp_path: Path) -> None:
    path = write(tmp_path / "r.db", [play("matrix_rps", ("a", "b"))])
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE episodes SET reason = CAST(X'61ff62' AS TEXT)")
    change_moves(path, lambda columns: columns.update(latency_ms=[float("inf")] * 2))
    with open_results(path) as results:
        (episode,) = results.first(None)
        moves = results.moves(episode)
    assert episode.reason == "a\ufffdb"
    assert [move.latency_ms for move in moves] == [None] * 2


def test_participants_who_never_played_are_listed(tmp_path: Path) -> None:
    path = write(tmp_path / "r.db", [play("matrix_rps", ("a", "b"))], {"hf_idle": "llm"})
    with open_results(path) as results:
        assert set(results.participants) == {"a", "b", "hf_idle"}


def test_a_file_is_read_as_one_snapshot_during_a_run(tmp_path: Path) -> None:
    first, second = (play("matrix_rps", ("a", "b"), number) for number in range(2))
    models = [ModelRow(name, "random", None, "{}") for name in "ab"]
    with Store(tmp_path / "r.db", EXPERIMENT, models) as store:
        store.put_episode(first.row, first.moves)
        store.put_call(CallKey("under/way", 0, 0, 0), "{}", ModelReply("", "", 1.0))
        with open_results(store.path) as results:
            store.put_episode(second.row, second.moves)
            assert len(list(results.first(None))) == 1
            assert results.unfinished == 1
            assert [episode.number for episode in results.first(None)] == [0]
        with open_results(store.path) as results:
            assert len(list(results.first(None))) == 2


def test_an_episode_without_moves_is_listed(tmp_path: Path) -> None:
    row = replace(play("matrix_rps", ("a", "b")).row, status="failed", reason="X")
    with open_results(write(tmp_path / "r.db", [Played(row, ())])) as results:
        (episode,) = results.first(None)
        assert (episode.status, results.moves(episode)) == ("failed", [])


def test_transcripts_of_a_large_file_are_checked_when_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    played = [play("matrix_rps", ("a", "b"), number) for number in range(2)]
    path = write(tmp_path / "r.db", played)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE transcripts SET moves = 'x' WHERE episode = 2")
    with pytest.raises(ResultsError, match=r"transcripts\.moves holds a value"), open_results(path):
        pass
    monkeypatch.setattr(integrity, "WHOLE", 0)
    with open_results(path) as results:
        first, second = results.first(None)
        assert results.moves(first)
        with pytest.raises(UnreadableRow, match=r"transcripts\.moves holds a value"):
            results.moves(second)


def test_zero_replays_are_none(tmp_path: Path) -> None:
    with open_results(write(tmp_path / "r.db", [play("matrix_rps", ("a", "b"))])) as results:
        assert list(results.first(0)) == []


def test_counts_do_not_depend_on_the_parts_in_which_a_file_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    played = [play("tic_tac_toe", agents, n) for n, agents in enumerate(["ab", "ba", "ac"])]
    path = write(tmp_path / "r.db", played)

    def read() -> object:
        with open_results(path) as results:
            return list(results.first(None)), list(columns.read_counts(results.reader))

    whole = read()
    monkeypatch.setattr(columns, "_SORTED", 1)
    monkeypatch.setattr(reader, "_AT_A_TIME", 1)
    assert read() == whole
