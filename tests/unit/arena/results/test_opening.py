"""Which files are opened as results, and which are refused unchanged."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from arena.results.database import ResultsError, connect
from arena.results.merge import merge
from arena.results.opening import check_results
from arena.results.store import Store
from tests.support.result_rows import EXPERIMENT, KEY, MODELS, MOVE, REPLY, ROW
from tests.support.results import content, select


def test_a_copy_without_its_log_is_noticed(path: Path, tmp_path: Path) -> None:
    copy, whole = tmp_path / "copy.sqlite", tmp_path / "whole.sqlite"
    with Store(path, EXPERIMENT, MODELS) as store:
        store.put_episode(ROW, [MOVE])
        shutil.copyfile(path, copy)
        merge([path], whole)
        assert check_results(path) == ""
    assert "was copied during a run" in check_results(copy)
    assert content(copy)["episodes"] == []
    assert check_results(whole) == check_results(path) == ""
    assert content(whole)["episodes"] == content(path)["episodes"] != []


def test_a_network_file_system_is_refused_unless_it_is_allowed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("arena.results.opening.find_network_disk", lambda path: "nfs4")
    for use in (lambda: Store(path, EXPERIMENT, MODELS), lambda: check_results(path)):
        with pytest.raises(ResultsError, match=r"file system \(nfs4\).*--allow-network-disk"):
            use()
    assert not path.parent.exists()
    Store(path, EXPERIMENT, MODELS, network_disk=True).close()
    assert check_results(path, network_disk=True) == ""


def test_a_link_stays_a_link(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(path)
    path.parent.mkdir(parents=True)
    with Store(link, EXPERIMENT, MODELS) as store:
        store.put_call(KEY, "{}", REPLY)
    assert link.is_symlink()
    assert select(path, "SELECT count(*) FROM calls") == [(1,)]
    assert sorted(tmp_path.iterdir()) == [tmp_path / "deep", link]


def foreign(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE episodes (x)")


def newer(path: Path) -> None:
    Store(path, EXPERIMENT, MODELS).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 9")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (foreign, "is not a results file of the arena"),
        (newer, "has version 9 of the schema, not 5"),
        (lambda path: path.write_text("name: experiment\n" * 100), "file is not a database"),
        (lambda path: path.write_bytes(b"SQLite format 3\x00" + b"\xff" * 2000), "cannot be used"),
        (lambda path: path.mkdir(), "is a folder"),
    ],
)  # fmt: skip
def test_another_file_is_refused_and_not_changed(make, says: str, tmp_path: Path) -> None:
    path = tmp_path / "there.sqlite"
    make(path)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(ResultsError, match=rf"^{path}: .*{says}"):
        Store(path, EXPERIMENT, MODELS)
    with pytest.raises(ResultsError, match=rf"^{path}: "):
        check_results(path)
    assert [one.name for one in tmp_path.iterdir()] == [path.name]
    assert (path.read_bytes() if path.is_file() else None) == before


def test_a_path_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "one.sqlite"
    for use in (Store, lambda path, experiment, _: check_results(path)):
        with pytest.raises(ResultsError, match=rf"^{path}: cannot be used: "):
            use(path, EXPERIMENT, MODELS)


def test_links_in_a_circle_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"
    path.symlink_to(path)
    with pytest.raises(ResultsError, match=rf"^{path}: cannot be used: "):
        Store(path, EXPERIMENT, MODELS)


def test_a_file_for_reading_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="there is no such results file"):
        connect(tmp_path / "none")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_any_room_is_an_error_immediately(tmp_path: Path) -> None:
    """Not after the minute for which another process is waited for."""
    program = (
        "import resource, signal, sys, time\n"
        "from pathlib import Path\n"
        "from arena.results.database import ResultsError\n"
        "from arena.results.rows import ExperimentRow\n"
        "from arena.results.store import Store\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "sys.dont_write_bytecode = True\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))\n"
        "begun = time.monotonic()\n"
        "try:\n"
        "    Store(Path(sys.argv[1]), ExperimentRow('full', '{}'), [])\n"
        "except ResultsError:\n"
        "    sys.exit(time.monotonic() - begun > 30)\n"
        "sys.exit(2)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "r.sqlite")]
    assert subprocess.run(command, check=False).returncode == 0
