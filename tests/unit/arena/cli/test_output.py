"""The command with streams and folders that cannot be written or read."""

from __future__ import annotations

import ctypes
import io
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from arena.cli.output import show
from tests.support.fork_server import CLOSED, UNREAD, Done, ForkServer
from tests.support.random_play import Played, asked, play, write

pytestmark = pytest.mark.integration  # starts processes

EXPERIMENT = """
name: "naïve ♟ 将"
games: [tic_tac_toe]
agents: {"ŝ": {type: random}, b: {type: %s}}
"""

#: Text of a model or a provider.
HOSTILE = "ŝ ♟ 将 \x1b[2J\x9b31m \u202e\r\n[link=x]\x07 "

REPORT = ("report", "r.sqlite")
EXPORT = ("export", "r.sqlite", "--to", "将")
RUN = ("run", "--config", "e.yaml", "--results", "new.sqlite")
RUN_INTO_FOLDER = ("run", "--config", "e.yaml", "--results", ".")
HUMAN = ("run", "--config", "human.yaml", "--results", "human.sqlite")


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServer]:
    modules = [f"arena.cli.{name}" for name in ("run", "report", "export")]
    with ForkServer("arena.cli", *modules) as server:
        yield server


@pytest.fixture
def arena_process(server: ForkServer, folder: Path) -> Callable[..., Done]:
    """Runs the command as a process in the folder."""

    def run(*command: str, **streams: Any) -> Done:
        done = server.run(folder, command, **streams)
        assert "Traceback" not in done.err, done.err
        assert "Exception ignored" not in done.err, done.err
        return done

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With two experiments, and with results without a game to replay, which takes a process."""
    game = play("tic_tac_toe", ("hf_♟", "random"))
    error = replace(game.moves[0], status="error", problem=HOSTILE, action=None)
    row = replace(game.row, episode="f", number=1, status="failed", reason=HOSTILE, returns=None)
    lost = Played(row, (replace(error, episode="f"),))
    write(tmp_path / "r.sqlite", [lost])
    (tmp_path / "e.yaml").write_text(EXPERIMENT % "random", encoding="utf-8")
    (tmp_path / "human.yaml").write_text(EXPERIMENT % "human", encoding="utf-8")
    return tmp_path


LEFT = "stopped: the player at the terminal has left; the same command continues"


def assert_player_left(done: Done) -> None:
    """The run stopped in order: nothing is lost, and no game counts as failed."""
    assert (done.code, done.err) == (1, "")
    assert "1 episode: 1 not played\n" in done.out
    assert LEFT in done.out


@pytest.mark.parametrize("encoding", ["latin-1", "utf-8"])
def test_characters_that_an_encoding_lacks_are_escaped(
    arena_process: Callable[..., Done], encoding: str
) -> None:
    commands = {REPORT: 0, EXPORT: 0, RUN: 0, ("report", "将"): 2, RUN_INTO_FOLDER: 0, HUMAN: 1}
    for command, code in commands.items():
        done = arena_process(*command, encoding=encoding)
        assert done.code == code
        # In Latin-1, U+009B is a byte that terminals obey; in UTF-8 it is a part of letters.
        obeyed = "\x1b\x07\r" + ("" if encoding == "utf-8" else "\x9b")
        assert not set(obeyed) & set(done.out + done.err)
        assert "\u202e" not in done.out.encode("latin-1").decode("utf-8", "replace")
        if command == HUMAN:
            assert_player_left(done)


def test_a_file_name_that_the_locale_lacks(folder: Path) -> None:
    """The encoding of file names is fixed when the interpreter starts."""
    text = (folder / "e.yaml").read_text()
    (folder / "named.yaml").write_text(f"{text}\nresults: 将\n")
    c_locale = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    done = subprocess.run(
        [sys.executable, "-m", "arena.cli", "run", "--config", "named.yaml"],
        cwd=folder,
        env={**os.environ, **c_locale, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("arena: ")
    assert "the locale's encoding, ascii, lacks" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("stdout", "problem"),
    [
        ("/dev/full", "No space left on device"),
        (CLOSED, "Bad file descriptor"),
        (UNREAD, ""),
    ],
)
@pytest.mark.parametrize("unbuffered", [False, True])  # the flush fails, or the first line
def test_output_that_cannot_be_written(
    arena_process: Callable[..., Done], folder: Path, stdout: str, problem: str, unbuffered: bool
) -> None:
    for command in (REPORT, RUN) if unbuffered else (REPORT, EXPORT, RUN, ("--help",)):
        code, _, err = arena_process(*command, stdout=stdout, unbuffered=unbuffered)
        assert code == 1
        problems = [line for line in err.splitlines() if line.startswith("arena: ")]
        assert problems == [f"arena: stdout cannot be written: {problem}"] * bool(problem)
    # The command still does its work.
    assert (folder / "r.html").read_text(encoding="utf-8").rstrip().endswith("</html>")
    with closing(sqlite3.connect(folder / "new.sqlite")) as connection:
        assert connection.execute("SELECT status FROM episodes").fetchall() == [("finished",)]


@pytest.mark.parametrize("stderr", ["/dev/full", CLOSED])
def test_messages_that_cannot_be_written_are_lost(
    arena_process: Callable[..., Done], stderr: str
) -> None:
    done = arena_process(*RUN, stderr=stderr)
    assert done.code == 0
    assert "1 episode: 1 finished" in done.out
    assert arena_process("report", "no.sqlite", stderr=stderr).code == 2


@pytest.mark.parametrize("stdin", [CLOSED, "human.yaml"])  # above: /dev/null
def test_a_player_without_a_keyboard_leaves(arena_process: Callable[..., Done], stdin: str) -> None:
    assert_player_left(arena_process(*HUMAN, stdin=stdin))


def test_a_player_who_left_can_continue(arena_process: Callable[..., Done], folder: Path) -> None:
    (folder / "keys").write_text("x(1,1)\n")
    assert arena_process(*HUMAN, stdin="keys").code == 1
    every = [f"{mark}({row},{column})" for mark in "xo" for row in "012" for column in "012"]
    (folder / "keys").write_text("\n".join(every * 9))
    done = arena_process(*HUMAN, stdin="keys")
    assert done.code == 0
    assert "1 episode: 1 finished" in done.out


def read_only() -> None:
    """Take the right to ignore file permissions from root."""
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None)
        for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
            assert libc.prctl(24, capability, 0, 0, 0) == 0  # PR_CAPBSET_DROP


@pytest.mark.skipif(sys.platform != "linux", reason="capabilities are Linux's")
@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
def test_a_folder_that_cannot_be_written_to(folder: Path, mode: str) -> None:
    """The tables are printed, also those of a run that was killed."""
    path = folder / "r.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA journal_mode = {mode}")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute("UPDATE experiments SET name = 'kept'")
        connection.commit()
        kept = {file.name: file.read_bytes() for file in folder.glob("r.sqlite*")}
    for name, content in kept.items():
        if not name.endswith("-shm"):
            (folder / name).write_bytes(content)
    folder.chmod(0o555)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "arena.cli", "report", "r.sqlite"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            preexec_fn=read_only,
            capture_output=True,
            text=True,
        )
    finally:
        folder.chmod(0o755)
    assert done.returncode == 1
    assert done.stdout.startswith("kept\n1 episode (0 finished")
    assert done.stderr == "arena: r.html: cannot be written: Permission denied\n"


@pytest.mark.parametrize("page", ["r.sqlite", ".", "no/page.html", "x" * 300])
def test_a_page_that_cannot_be_written(arena, folder: Path, page: str) -> None:
    before = (folder / "r.sqlite").read_bytes()
    done = arena("report", "r.sqlite", "--html", page)
    assert done.code == 1
    assert "1 episode (0 finished" in done.out
    assert done.err.startswith(f"arena: {page}: ")
    assert done.err.count("\n") == 1
    assert (folder / "r.sqlite").read_bytes() == before


def test_a_page_for_a_device(arena, folder: Path) -> None:
    """The device is written to, not replaced by a file."""
    os.symlink(os.devnull, "page")
    done = arena("report", "r.sqlite", "--html", "page")
    assert (done.code, done.err) == (0, "")
    assert Path("page").is_symlink()


def test_a_message_is_one_line_of_plain_text() -> None:
    file = io.StringIO()
    show(Console(file=file, force_terminal=True), HOSTILE)
    shown = file.getvalue()
    assert shown.count("\n") == 1
    assert "[link=x]" in shown
    assert not set("\x1b\x9b\x07\r\u202e") & set(shown)


def test_a_message_in_a_terminal_keeps_its_words_whole() -> None:
    path = "/results/" + "x" * 50
    text = f"page: {path} and some more words that do not fit into the line"
    for terminal in (True, False):
        file = io.StringIO()
        show(Console(file=file, width=40, force_terminal=terminal), text)
        lines = file.getvalue().splitlines()
        assert " ".join(line.strip() for line in lines) == text
        assert (len(lines) > 1) is terminal
        assert not terminal or all(len(line) <= 40 or line == path for line in lines)


def test_a_wide_report_shows_all_columns_in_a_narrow_terminal(
    arena: Callable[..., Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    games = [
        play("tic_tac_toe", ("hf_a_model_with_a_long_name", "random"), number, lambda r: [asked(r)])
        for number in range(2)
    ]
    path = write(tmp_path / "r.sqlite", games)
    monkeypatch.setenv("COLUMNS", "80")
    narrow, wide = arena("report", path), arena("report", path, "--wide")
    assert (narrow.code, wide.code) == (0, 0)
    tables, _, _ = narrow.out.partition("page: ")  # a path may be longer
    assert max(map(len, tables.splitlines())) <= 80
    assert "Not shown: " in narrow.out
    assert "Not shown: " not in wide.out
    assert arena("report", path, "--wide", "--json").code == 2
