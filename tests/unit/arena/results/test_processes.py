"""Several processes use one results file, are killed, and lose nothing."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from arena.results.database import connect
from arena.results.integrity import check_file
from arena.results.store import Store
from tests.support.result_rows import EXPERIMENT, KEY, MODELS, MOVE, REPLY, ROW
from tests.support.results import select

ROOT = Path(__file__).parents[4]


@pytest.fixture
def memory_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where the system has one: tests that close many files wait for fsync.

    A killed process loses nothing that it has written, whether it is on a disk or not.
    """
    memory = Path("/dev/shm")  # noqa: S108 - the folder made in it is private
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path) as folder:
        yield Path(folder)


def test_a_reader_does_not_block_a_run(path: Path) -> None:
    with Store(path, EXPERIMENT, MODELS) as store:
        store.put_call(KEY, "{}", REPLY)
        reader = connect(path)
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM calls").fetchone() == (1,)
        store.put_episode(ROW, [MOVE])
        assert reader.execute("SELECT count(*) FROM calls").fetchone() == (1,)
    reader.close()
    assert select(path, "SELECT count(*) FROM calls") == [(0,)]


def test_a_new_run_waits_for_a_reader(path: Path) -> None:
    Store(path, EXPERIMENT, MODELS).close()
    reader = connect(path)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM episodes").fetchall()
    ending = threading.Timer(0.2, reader.close)
    ending.start()
    Store(path, EXPERIMENT, MODELS).close()
    ending.join()


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
from tests.support.result_rows import EXPERIMENT, MODELS, REPLY
from arena.results.rows import CallKey
from arena.results.store import Store
for number in range(8):
    with Store(Path({str(path)!r}), EXPERIMENT, MODELS) as store:
        store.put_call(CallKey(sys.argv[1], number, 0, 0), "{{}}", REPLY)
"""
    names = ["a", "b", "c"]
    running = [subprocess.Popen([sys.executable, "-c", code, name], cwd=ROOT) for name in names]
    assert [one.wait() for one in running] == [0, 0, 0]
    assert select(path, "SELECT count(*) FROM calls") == [(24,)]
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_a_journal_that_another_process_removes_meanwhile(path: Path) -> None:
    """SQLite makes and removes it while the first process makes the tables."""
    with Store(path, EXPERIMENT, MODELS):
        pass
    journal = path.with_name(f"{path.name}-journal")
    ended = threading.Event()

    def make_and_remove() -> None:
        while not ended.is_set():
            journal.touch()
            journal.unlink()

    other = threading.Thread(target=make_and_remove)
    other.start()
    try:
        assert {check_file(path) for _ in range(3000)} == {""}
    finally:
        ended.set()
        other.join()


LEAVING = """
import sys
from pathlib import Path
from arena.results.store import Store
from tests.support.result_rows import EXPERIMENT, MODELS
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
