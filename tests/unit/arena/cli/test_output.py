"""The command as a process whose terminal, files or input are not what it hopes for."""

from __future__ import annotations

import ctypes
import io
import os
import shlex
import sqlite3
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

import pytest
from rich.console import Console

from arena.cli.output import show
from tests.support.random_play import Played, play, write

pytestmark = pytest.mark.integration  # starts processes

ARENA = f"{shlex.quote(sys.executable)} -m arena.cli"

#: Runs each command in a child that begins and ends as `python -m arena.cli` does. The imports,
#: which take longer than all of that, are made once. A NUL ends what each has written.
EACH = """
import os, shlex, sys
import choix  # for reports
from contextlib import suppress
from arena.cli import main
codes = []
for command in sys.argv[1:]:
    if not (child := os.fork()):
        sys.exit(main(shlex.split(command)))
    codes.append(str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])))
    for stream in (1, 2):
        with suppress(OSError):
            os.write(stream, b"\\0")
with open("codes", "w") as file:
    file.write(" ".join(codes))
"""

EXPERIMENT = """
name: "naïve ♟ 将"
games: [tic_tac_toe]
agents: {"ŝ": {type: random}, b: {type: %s}}
"""

#: What a model or a provider may have written.
HOSTILE = "ŝ ♟ 将 \x1b[2J\x9b31m \u202e\r\n[link=x]\x07 "

REPORT, EXPORT = "report r.sqlite", "export r.sqlite --to 将"
RUN = "run --config e.yaml --results new.sqlite"
RUN_INTO_FOLDER = "run --config e.yaml --results ."
HUMAN = "run --config human.yaml --results human.sqlite"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With an experiment, and results that need no replay, which would be a process more."""
    game = play("tic_tac_toe", ("hf_♟", "random"))
    error = replace(game.moves[0], status="error", problem=HOSTILE, action=None)
    row = replace(game.row, episode="f", number=1, status="failed", reason=HOSTILE, returns=None)
    lost = Played(row, (replace(error, episode="f"),))
    write(tmp_path / "r.sqlite", [lost])
    (tmp_path / "e.yaml").write_text(EXPERIMENT % "random", encoding="utf-8")
    (tmp_path / "human.yaml").write_text(EXPERIMENT % "human", encoding="utf-8")
    return tmp_path


class Done(NamedTuple):
    """Exit code, stdout and stderr of a command, byte by byte."""

    code: int
    out: str
    err: str


def shell(
    folder: Path,
    command: str,
    environment: Mapping[str, str] | None = None,
    stdout: int = subprocess.PIPE,
) -> Done:
    """Run a line for bash."""
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        encoding="latin-1",
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert "Exception ignored" not in done.stderr, done.stderr
    return Done(done.returncode, done.stdout or "", done.stderr)


def run_each(
    folder: Path,
    commands: Sequence[str],
    redirect: str = "",
    environment: Mapping[str, str] | None = None,
    stdout: int = subprocess.PIPE,
) -> list[Done]:
    """Run the commands one after the other, each as a process with these streams."""
    line = shlex.join([sys.executable, "-c", EACH, *commands])
    every = shell(folder, f"{line} {redirect}", environment, stdout)
    assert every.code == 0, every.err
    codes = map(int, (folder / "codes").read_text().split())
    outs, errs = (text.split("\0") for text in every[1:])
    return [
        Done(*parts)
        for parts in zip_longest(codes, outs[: len(commands)], errs[: len(commands)], fillvalue="")
    ]


TERMINALS = {
    "ASCII": {"PYTHONIOENCODING": "ascii"},
    "Latin-1": {"PYTHONIOENCODING": "latin-1:strict"},
    "the C locale": {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    "UTF-8": {"PYTHONIOENCODING": "utf-8:strict"},
}

LEFT = "stopped: the player at the terminal has left; the same command continues"


@pytest.mark.parametrize("terminal", TERMINALS)
def test_what_a_terminal_has_no_letters_for_is_escaped(folder: Path, terminal: str) -> None:
    commands = {REPORT: 0, EXPORT: 0, RUN: 0, "report 将": 2, RUN_INTO_FOLDER: 0, HUMAN: 1}
    if terminal == "the C locale":  # the file's name cannot be written in it
        commands[RUN_INTO_FOLDER] = 2
    done = dict(zip(commands, run_each(folder, [*commands], "", TERMINALS[terminal]), strict=True))
    assert {command: one.code for command, one in done.items()} == commands
    for _, out, err in done.values():
        # In Latin-1, U+009B is a byte that terminals obey; in UTF-8 it is a part of letters.
        obeyed = "\x1b\x07\r" + ("" if terminal in ("UTF-8", "the C locale") else "\x9b")
        assert not set(obeyed) & set(out + err)
        assert "\u202e" not in out.encode("latin-1").decode("utf-8", "replace")
    left_at_once(done[HUMAN])
    if terminal == "the C locale":
        err = done[RUN_INTO_FOLDER].err
        assert "the locale's encoding, ascii, lacks" in err
        assert err.count("\n") == 1
        assert err.startswith("arena: ")


WHERE = {"a full disk": "No space left on device", "closed": "Bad file descriptor", "left": ""}


@pytest.mark.parametrize("unbuffered", ["", "1"])  # with 1 the first line fails, else the flush
@pytest.mark.parametrize("where", WHERE)
def test_output_that_cannot_be_written(folder: Path, where: str, unbuffered: str) -> None:
    if where == "closed" and unbuffered:
        pytest.skip("nothing is written, buffered or not")
    commands = [REPORT, EXPORT, RUN, "--help"]
    environment = {"PYTHONUNBUFFERED": unbuffered}
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as left, open("/dev/full", "wb") as full:
        target = full if where == "a full disk" else left
        redirect = ">&-" if where == "closed" else ""
        done = run_each(folder, commands, redirect, environment, target.fileno())
    for code, _, err in done:
        assert code == 1
        problems = [line for line in err.splitlines() if line.startswith("arena: ")]
        assert problems == [f"arena: stdout cannot be written: {WHERE[where]}"] * bool(WHERE[where])
    with closing(sqlite3.connect(folder / "new.sqlite")) as connection:
        assert connection.execute("SELECT status FROM episodes").fetchall() == [("finished",)]


@pytest.mark.parametrize("where", ["2> /dev/full", "2>&-"])
def test_messages_that_cannot_be_written_end_nothing(folder: Path, where: str) -> None:
    played, missing = run_each(folder, [RUN, "report no.sqlite"], where)
    assert played.code == 0
    assert "1 episodes: 1 finished" in played.out
    assert missing.code == 2


def left_at_once(done: Done) -> None:
    """The run stopped in order: nothing is lost, and no game counts as failed."""
    assert (done.code, done.err) == (1, "")
    assert "1 episodes: none, 1 not played\n" in done.out
    assert LEFT in done.out


@pytest.mark.parametrize("keys", ["<&-", "< human.yaml"])  # above: < /dev/null
def test_a_player_without_a_keyboard_leaves(folder: Path, keys: str) -> None:
    left_at_once(shell(folder, f"{ARENA} {HUMAN} {keys}"))


def test_the_player_comes_back(folder: Path) -> None:
    """Ctrl-D at a terminal, and then the same command."""
    assert shell(folder, f"echo 'x(1,1)' | {ARENA} {HUMAN}")[0] == 1
    every = [f"{mark}({row},{column})" for mark in "xo" for row in "012" for column in "012"]
    (folder / "keys").write_text("\n".join(every * 9))
    code, out, _ = shell(folder, f"{ARENA} {HUMAN} < keys")
    assert code == 0
    assert "1 episodes: 1 finished" in out


def read_only() -> None:
    """Not even root writes where it may not."""
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None)
        for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
            assert libc.prctl(24, capability, 0, 0, 0) == 0  # PR_CAPBSET_DROP


@pytest.mark.skipif(sys.platform != "linux", reason="capabilities are Linux's")
@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
def test_a_folder_that_cannot_be_written_to(folder: Path, mode: str) -> None:
    """The tables are shown, also of what a run that was killed left behind."""
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
    """It is written to, and not replaced by a file."""
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
