"""The results file: durable, shared by processes, canonical, and safe from other programs."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import astuple, replace
from pathlib import Path

import pytest

from arena.agents.calls import ModelReply
from arena.results.database import ResultsError, connect
from arena.results.merge import merge
from arena.results.opening import check_results
from arena.results.reader import Reader, make_query
from arena.results.rows import (
    CallKey,
    EpisodeRow,
    ExperimentRow,
    FailedCallRow,
    ModelRow,
    MoveRow,
)
from arena.results.spending import Spent
from arena.results.store import Store
from arena.results.upgrade import open_to_read
from arena_llm.types import ServedBy
from tests.support.results import content

ROOT = Path(__file__).parents[4]
EXPERIMENT = ExperimentRow("one", '{"a":1}')
MODELS = [ModelRow("hf_a", "llm", "hf_a", "{}"), ModelRow("dice", "random", None, "{}")]
#: 10^-12 dollars: more than a float of dollars could hold exactly.
COST = 125 * 10**9 + 1
KEY = CallKey("nim/0/hf_a,dice", 0, 0, 0)
REPLY = ModelReply(
    "text \u2028\x00 é", "hf_a", 12.25, "why", "stop", 10, 2, 1, COST, (-0.5, float("-inf")),
    served_by=ServedBy("openrouter", provider="p", precision="fp8"), attempts=2, replayed=True,
)  # fmt: skip
ROW = EpisodeRow(
    KEY.episode, "nim", 0, ("hf_a", "dice"), 2**63 - 1, "finished", 3, returns=(1.0, -1.0)
)
MOVE = MoveRow(
    KEY.episode, 0, 0, 0, "ok", "hf_a", action=3, action_text="3", legal_actions=((3, "3"),),
    model="hf_a", latency_ms=12.25, prompt_tokens=10, completion_tokens=2, cost_picousd=COST,
)  # fmt: skip


@pytest.fixture
def memory_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where the system has one: tests that close many files wait for fsync.

    A killed process loses nothing that it has written, whether it is on a disk or not.
    """
    memory = Path("/dev/shm")  # noqa: S108 - the folder made in it is private
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path) as folder:
        yield Path(folder)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "er" / "one.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with Store(path, EXPERIMENT, MODELS) as store:
        yield store


def rows(path: Path, query: str) -> list[tuple[object, ...]]:
    with closing(connect(path)) as connection:
        return connection.execute(query).fetchall()


def test_a_stored_reply_is_visible_immediately(store: Store, path: Path) -> None:
    assert store.call(KEY) is None
    assert store.put_call(KEY, "{}", REPLY) == (REPLY, Spent(12, COST))
    assert store.call(KEY) == ("{}", REPLY)
    assert rows(path, "SELECT episode, ply, request FROM calls") == [(KEY.episode, 0, "{}")]


def test_the_first_reply_of_a_call_is_kept(store: Store) -> None:
    store.put_call(KEY, "{}", REPLY)
    late = ModelReply("late", "hf_a", 1.0, prompt_tokens=1)
    # The second reply was paid for, too.
    assert store.put_call(KEY, "{}", late) == (REPLY, Spent(13, COST, 1, 1))
    assert store.call(KEY) == ("{}", REPLY)
    # Not so a reply that was replayed.
    assert store.put_call(KEY, "{}", REPLY) == (REPLY, Spent(13, COST, 1, 1))


def test_an_ended_episode_takes_its_calls_out_of_the_journal(store: Store, path: Path) -> None:
    other = CallKey("nim/1/hf_a,dice", 0, 0, 0)
    for key in (KEY, other):
        store.put_call(key, "{}", REPLY)
    store.put_episode(ROW, [MOVE])
    assert (store.call(KEY), store.call(other)) == (None, ("{}", REPLY))
    assert store.statuses([KEY.episode, "none"]) == {KEY.episode: "finished"}
    assert store.spent() == Spent(24, 2 * COST)
    assert store.answered([KEY.episode]) == [KEY]
    with open_to_read(path) as connection:
        reader = Reader(connection)
        (episode,) = reader.episodes()
        assert episode.ended > 0
        assert replace(episode, ended=0) == ROW
        assert reader.moves(episode) == [MOVE]


def test_a_reader_sees_the_file_as_it_was_at_its_first_look(store: Store, path: Path) -> None:
    """Otherwise an episode that a run adds could have a game that the reader does not know."""
    store.put_episode(ROW, [MOVE])
    with open_to_read(path) as connection:
        reader = Reader(connection)
        store.put_episode(replace(ROW, episode="chess/0", game="chess"), [])
        assert [episode.game for episode in reader.episodes()] == ["nim"]
    with open_to_read(path) as connection:
        assert {episode.game for episode in Reader(connection).episodes()} == {"nim", "chess"}


def test_a_failed_episode_keeps_its_calls_and_can_be_replaced(store: Store, path: Path) -> None:
    store.put_call(KEY, "{}", REPLY)
    error = MoveRow(KEY.episode, 1, 1, 0, "error", "hf_a", problem="down")
    failed = EpisodeRow(KEY.episode, "nim", 0, ("hf_a", "dice"), 1, "failed", 1, "down")
    store.put_episode(failed, [MOVE, error])
    assert store.status(KEY.episode) == "failed"
    assert store.call(KEY) == ("{}", REPLY)
    assert store.answered([KEY.episode]) == []
    store.put_episode(ROW, [MOVE])
    assert rows(path, "SELECT status FROM episodes") == [("finished",)]
    assert rows(path, "SELECT count(*), sum(errors) FROM seats") == [(2, 0)]


def test_what_failed_calls_took_is_counted(path: Path) -> None:
    """Also after their episode was played again."""
    paid = FailedCallRow(*astuple(KEY), 0, "UNAVAILABLE INTERRUPTED", 7, None, 5)
    with Store(path, EXPERIMENT, MODELS) as store:
        store.put_call(KEY, "{}", REPLY)
        assert store.put_failed_calls(KEY, [paid]) == Spent(19, COST + 5)
        assert store.put_failed_calls(KEY, [paid]) == Spent(26, COST + 10)
        store.put_episode(ROW, [MOVE])
    with Store(path, EXPERIMENT, MODELS) as store:
        assert store.spent() == Spent(26, COST + 10)
    assert rows(path, "SELECT number, cost_picousd FROM failed_calls") == [(0, 5), (1, 5)]


def unknown(path: Path) -> list[tuple[object, ...]]:
    """The requests without a reply whose cost is not known."""
    return rows(path, "SELECT ply, reason FROM failed_calls WHERE cost_picousd IS NULL")


def test_what_was_sent_and_not_answered_stays_unknown(path: Path) -> None:
    """Until a later answer to the same request_id says what it cost."""
    other = CallKey(KEY.episode, 1, 0, 0)
    with Store(path, EXPERIMENT, MODELS) as store:
        assert store.begin_call(KEY) == Spent()  # not lost yet
        assert store.begin_call(other) == Spent()
        assert store.put_call(other, "{}", REPLY)[1] == Spent(12, COST)
        run_id = store.run_id
    assert unknown(path) == [(0, "SENT")]  # the process was killed before it had an outcome
    with Store(path, EXPERIMENT, MODELS) as store:
        assert store.run_id == run_id, "the next try has the same request_id"
        assert store.spent() == Spent(12, COST, 0, 1)
        assert store.begin_call(KEY) == Spent(12, COST, 0, 1)
        # A cancelled call and the next try, in the same process.
        assert store.begin_call(KEY) == Spent(12, COST, 0, 2)
        # A reply that tells nothing of the lost ones leaves them unknown.
        late = replace(REPLY, unknown_attempts=1, replayed=False)
        assert store.put_call(KEY, "{}", late)[1] == Spent(24, 2 * COST, 0, 3)
        assert sorted(unknown(path)) == [(0, "LOST"), (0, "LOST"), (0, "UNKNOWN")]


@pytest.mark.parametrize("found", [{"replayed": True}, {"finds_lost": True}])
def test_a_later_answer_says_what_the_lost_one_cost(path: Path, found: dict[str, bool]) -> None:
    with Store(path, EXPERIMENT, MODELS) as store:
        store.begin_call(KEY)
        store.begin_call(KEY)
        assert store.put_call(KEY, "{}", replace(REPLY, **found))[1] == Spent(12, COST)
    assert unknown(path) == []


def test_a_closed_file_is_complete_and_alone(path: Path, tmp_path: Path) -> None:
    """However the same was written, the content is equal, and no file is left beside it."""
    other = tmp_path / "other.sqlite"
    with Store(path, EXPERIMENT, MODELS) as store:
        store.put_call(KEY, "{}", REPLY)
        store.put_episode(ROW, [MOVE])
    for _ in range(3):
        Store(other, EXPERIMENT, MODELS[::-1]).close()
    with Store(other, EXPERIMENT, MODELS) as store:
        for number in range(100):
            store.put_call(CallKey(KEY.episode, number, 0, 0), "x" * 5000, REPLY)
        store.put_episode(ROW, [MOVE])
    assert content(other) == content(path)
    assert [one.name for one in path.parent.iterdir()] == [path.name]
    assert rows(path, "PRAGMA journal_mode") == [("delete",)]
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]


def test_an_episode_that_has_ended_is_not_changed(path: Path) -> None:
    """A worker that seemed to be dead may store its episode a second time."""
    with Store(path, EXPERIMENT, MODELS) as store:
        store.put_episode(ROW, [MOVE])
        before = content(path)
        store.put_episode(replace(ROW, returns=(0.0, 0.0)), [])
        failed = replace(ROW, status="failed", returns=None, reason="down")
        store.put_episode(failed, [])
    assert content(path) == before


def test_the_run_id_stays_the_same(path: Path) -> None:
    ids = []
    for run_id in ("", "", "f" * 16):
        with Store(path, EXPERIMENT, MODELS, run_id) as store:
            ids.append(store.run_id)
    assert len(set(ids)) == 1
    with Store(path.with_name("new"), EXPERIMENT, MODELS, "f" * 16) as store:
        assert store.run_id == "f" * 16


def test_experiments_share_a_file_but_not_their_budgets(path: Path) -> None:
    other = ExperimentRow("two", "{}")
    with Store(path, EXPERIMENT, MODELS) as store:
        store.put_call(KEY, "{}", REPLY)
        store.put_episode(ROW, [MOVE])
    renamed = [replace(MODELS[0], agent="x"), replace(MODELS[1], agent="y")]
    with Store(path, other, renamed) as store:
        assert store.status(KEY.episode) == "finished"
        assert store.spent() == Spent()
        query = make_query(other, [KEY.episode], renamed)
        assert store.answered([KEY.episode]) == [KEY]
    with open_to_read(path) as connection:
        assert [one.agents for one in Reader(connection, query).episodes()] == [("x", "y")]
    with Store(path, EXPERIMENT, MODELS) as store:
        assert store.spent() == Spent(12, COST)


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
    assert rows(path, "SELECT count(*) FROM calls") == [(1,)]
    assert sorted(tmp_path.iterdir()) == [tmp_path / "deep", link]


def test_a_reader_does_not_block_a_run(path: Path) -> None:
    with Store(path, EXPERIMENT, MODELS) as store:
        store.put_call(KEY, "{}", REPLY)
        reader = connect(path)
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM calls").fetchone() == (1,)
        store.put_episode(ROW, [MOVE])
        assert reader.execute("SELECT count(*) FROM calls").fetchone() == (1,)
    reader.close()
    assert rows(path, "SELECT count(*) FROM calls") == [(0,)]


def test_a_new_run_waits_for_a_reader(path: Path) -> None:
    Store(path, EXPERIMENT, MODELS).close()
    reader = connect(path)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM episodes").fetchall()
    ending = threading.Timer(0.2, reader.close)
    ending.start()
    Store(path, EXPERIMENT, MODELS).close()
    ending.join()


def test_an_experiment_may_change(path: Path) -> None:
    """Its latest file is stored."""
    Store(path, EXPERIMENT, MODELS).close()
    Store(path, ExperimentRow("one", '{"a":2}'), MODELS).close()
    assert rows(path, "SELECT * FROM experiments") == [("one", '{"a":2}')]


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


def test_a_file_for_reading_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="there is no such results file"):
        connect(tmp_path / "none")
    assert list(tmp_path.iterdir()) == []


OTHER = """
import sys
from pathlib import Path
from arena.results.claims import Claims
claims = Claims(Path(sys.argv[1]))
with claims.leave() as last:
    print(claims.take("a"), claims.take("b"), last, flush=True)
    sys.stdin.readline()
"""


@pytest.mark.integration
def test_an_episode_belongs_to_one_process(store: Store, path: Path) -> None:
    assert store.claim("a")
    assert store.claim("a")
    with subprocess.Popen(
        [sys.executable, "-c", OTHER, f"{path}.lock"],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as other:  # fmt: skip
        assert other.stdout.readline() == "False True False\n"
        assert not store.claim("b")
        other.kill()
    assert store.claim("b")  # the claims of a dead process end


@pytest.mark.integration
def test_kill_9_at_any_step_loses_nothing(memory_folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.killed_writer", memory_folder],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) > 25


@pytest.mark.integration
def test_processes_that_open_and_close_the_file_lose_nothing(memory_folder: Path) -> None:
    """Each opens, writes and closes the file repeatedly, so that one is often the last."""
    path = memory_folder / "one.sqlite"
    code = f"""
import sys
from pathlib import Path
from tests.unit.arena.results.test_store import EXPERIMENT, MODELS, REPLY
from arena.results.rows import CallKey
from arena.results.store import Store
for number in range(8):
    with Store(Path({str(path)!r}), EXPERIMENT, MODELS) as store:
        store.put_call(CallKey(sys.argv[1], number, 0, 0), "{{}}", REPLY)
"""
    names = ["a", "b", "c"]
    running = [subprocess.Popen([sys.executable, "-c", code, name], cwd=ROOT) for name in names]
    assert [one.wait() for one in running] == [0, 0, 0]
    assert rows(path, "SELECT count(*) FROM calls") == [(24,)]
    assert [one.name for one in path.parent.iterdir()] == [path.name]


LEAVING = """
import sys
from pathlib import Path
from arena.results.store import Store
from tests.unit.arena.results.test_store import EXPERIMENT, MODELS
for line in sys.stdin:
    store = Store(Path(line.strip()), EXPERIMENT, MODELS)
    print("there", flush=True)
    sys.stdin.readline()
    store.close()
    print("gone", flush=True)
"""


@pytest.mark.integration
def test_of_several_processes_that_close_at_the_same_time_one_is_the_last(
    memory_folder: Path,
) -> None:
    pipe = subprocess.PIPE
    with ExitStack() as ending:
        workers = [
            ending.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", LEAVING], cwd=ROOT, stdin=pipe, stdout=pipe, text=True
                )
            )
            for _ in range(3)
        ]

        def all_of_them(asked: str, answer: str) -> None:
            for worker in workers:
                worker.stdin.write(f"{asked}\n")
                worker.stdin.flush()
            assert [worker.stdout.readline() for worker in workers] == [f"{answer}\n"] * 3

        for number in range(6):
            path = memory_folder / f"{number}.sqlite"
            all_of_them(str(path), "there")
            all_of_them("leave", "gone")
            assert sorted(memory_folder.iterdir()) == [path]
            path.unlink()
