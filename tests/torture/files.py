"""The kind `results`: results files that are cut, changed, foreign, locked or full."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from tests.support.guard import Guard, kill_at_exit
from tests.support.random_play import write
from tests.support.tournament import tournament
from tests.torture.calls import Caller
from tests.torture.record import Record

#: Seconds that a command may take; on a whole file it takes one.
PATIENCE = 60.0
_EXPERIMENT = """
name: test
games: [tic_tac_toe, kuhn_poker]
agents: {a: {type: random}, b: {type: random}}
episodes: 4
"""
_COMMANDS: dict[str, list[str]] = {
    "report": ["report", "r.sqlite"],
    "verify": ["verify", "r.sqlite"],
    "audit": ["audit", "r.sqlite"],
    "export": ["export", "r.sqlite"],
    "run": ["run", "--config", "test.yaml", "--results", "r.sqlite"],
    "merge": ["merge", "r.sqlite", "--to", "m.sqlite"],
}
#: How often each command is chosen. A report or an export takes as long as many other commands.
_WEIGHTS = {"report": 1, "verify": 6, "audit": 3, "export": 1, "run": 6, "merge": 6}
_CONFIRMED = re.compile(r"OpenSpiel confirms ([\d,]+) of ([\d,]+) results")


class Arena:
    """A process that runs commands of the arena, one after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process: asyncio.subprocess.Process | None = None
        self._guard: Guard | None = None

    async def run(self, arguments: list[str], size: int | None = None) -> dict[str, Any]:
        """Run a command. Raises TimeoutError; the next command then gets a new process."""
        if self._process is None:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tests.torture.arena_worker", str(self.folder),
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
                env=os.environ | {"ARENA_LLM_TARGET": "127.0.0.1:1"}, limit=2**26,
            )  # fmt: skip
            self._guard = kill_at_exit(self._process.pid)
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps({"arguments": arguments, "bytes": size}).encode() + b"\n")
        try:
            async with asyncio.timeout(PATIENCE):
                line = await process.stdout.readline()
        except TimeoutError:
            await self.close()
            raise
        if not line:
            code = await process.wait()
            await self.close()
            return {"code": code, "out": "", "err": "", "bug": f"the process ended with {code}"}
        done: dict[str, Any] = json.loads(line)
        return done

    async def close(self) -> None:
        """End the process."""
        if self._process is not None and self._guard is not None:
            self._guard.cancel()
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
            self._process = None


# --- what happens to a file --------------------------------------------------------------------


def cut(path: Path, dice: random.Random) -> None:
    """The end is missing."""
    os.truncate(path, dice.randrange(path.stat().st_size))


def flip(path: Path, dice: random.Random) -> None:
    """Some bits are wrong."""
    data = bytearray(path.read_bytes())
    for _ in range(dice.choice([1, 1, 8, 200])):
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    path.write_bytes(data)


def blank(path: Path, dice: random.Random) -> None:
    """A page is empty, or a copy of another page."""
    data = path.read_bytes()
    pages = [data[begin : begin + 4096] for begin in range(0, len(data), 4096)]
    pages[dice.randrange(len(pages))] = dice.choice([bytes(4096), dice.choice(pages)])
    path.write_bytes(b"".join(pages))


def append(path: Path, dice: random.Random) -> None:
    """The end has additional bytes."""
    with path.open("ab") as file:
        file.write(dice.choice([bytes(4096), dice.randbytes(5000), path.read_bytes()]))


def replace(path: Path, dice: random.Random) -> None:
    """The file is something else."""
    path.unlink()
    match dice.randrange(6):
        case 0:
            path.write_bytes(dice.randbytes(dice.choice([0, 1, 100, 20_000])))
        case 1:
            with closing(sqlite3.connect(path)) as connection:
                connection.executescript("CREATE TABLE episodes (x); CREATE TABLE users (name)")
        case 2:
            path.symlink_to("/dev/zero")
        case 3:
            path.symlink_to(path.name)
        case 4:
            path.mkdir()
        case 5:
            os.mkfifo(path)


def beside(path: Path, dice: random.Random) -> None:
    """Beside it lies a file with one of SQLite's names and foreign content."""
    suffix = dice.choice(["-wal", "-journal", "-shm"])
    data = dice.choice([b"", dice.randbytes(9000), path.read_bytes(), bytes(32)])
    path.with_name(path.name + suffix).write_bytes(data)


def scribble(path: Path, dice: random.Random) -> None:
    """A cell has another value, or another type."""
    with closing(sqlite3.connect(path)) as connection, connection, suppress(sqlite3.Error):
        names = [
            name
            for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        table = dice.choice(names)
        column = dice.choice([row[1] for row in connection.execute(f"PRAGMA table_info({table})")])
        value = dice.choice(_CELLS)
        where = dice.choice(["", " WHERE rowid = 1", " WHERE rowid % 2 = 0"])
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute(f"UPDATE {table} SET {column} = ?{where}", (value,))  # noqa: S608


_CELLS: list[Any] = [
    *(None, 0, -1, 2**63 - 1, 1.5, float("inf"), "", "x", b"", b"\xff\x00", "[", "{}", "[1, 2]"),
    *(
        "x" * 100_000,
        "\x1b[2J",
        "\u202e",
        "tic_tac_toe",
        "efg_game(filename=/etc/passwd)",
        "[" * 50_000,
    ),
]


def redefine(path: Path, dice: random.Random) -> None:
    """Its schema is another one."""
    statements = [
        "PRAGMA user_version = 99", "PRAGMA user_version = 0", "PRAGMA application_id = 7",
        "DROP TABLE calls", "CREATE TABLE other (x)", "ALTER TABLE seats ADD COLUMN extra",
        "CREATE VIEW v AS SELECT 1", "CREATE TRIGGER t AFTER INSERT ON calls BEGIN SELECT 1; END",
        "PRAGMA writable_schema = ON; UPDATE sqlite_master SET sql = 'x' WHERE name = 'seats'",
        "PRAGMA writable_schema = ON; UPDATE sqlite_master SET rootpage = 2",
        "DELETE FROM transcripts", "DELETE FROM players", "DELETE FROM games", "DELETE FROM runs",
    ]  # fmt: skip
    with closing(sqlite3.connect(path)) as connection, suppress(sqlite3.Error):
        connection.executescript(dice.choice(statements))


_DAMAGES: tuple[Callable[[Path, random.Random], None], ...] = (
    *(cut, flip, flip, blank, append, replace, beside, scribble, scribble, redefine),
)
#: After these damages, `verify` may confirm only what it confirms of the undamaged file.
_PHYSICAL = (cut, blank, append)


async def torture(caller: Caller, record: Record, seconds: float) -> None:
    """Damage files, and run commands on them, until the time is over."""
    with tempfile.TemporaryDirectory(prefix="torture-results-") as made:
        folder = Path(made)
        (folder / "test.yaml").write_text(_EXPERIMENT)
        whole = write(folder / "whole.sqlite", tournament()[::6])
        arena = Arena(folder)
        try:
            await _torture(arena, whole, record, seconds)
        finally:
            await arena.close()


async def _torture(arena: Arena, whole: Path, record: Record, seconds: float) -> None:
    dice = record.dice("files")
    done = await _prepare(arena, whole)
    base = _CONFIRMED.search(done["out"])
    if base is None or done["code"]:
        record.fail("a whole file", f"{done}")
        return
    end = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < end:
        if dice.random() < 0.15:
            await _fill(arena, record, dice)
            continue
        path = _clean(arena.folder)
        shutil.copy(whole, path)
        damage = dice.choice(_DAMAGES)
        damage(path, dice)
        has_run = False  # and may have added episodes
        for command in dice.choices(list(_WEIGHTS), [*_WEIGHTS.values()], k=3):
            name = f"{damage.__name__}, {command}"
            done = await _run(arena, record, name, _COMMANDS[command])
            found = _CONFIRMED.search(done["out"])
            whole_again = found is not None and found.groups() == base.groups()
            confirmed = command == "verify" and done["code"] == 0 and damage in _PHYSICAL
            has_run = has_run or command == "run"
            if confirmed and not whole_again and not has_run:
                record.fail(name, f"it confirms another number of results: {done['out']}")


async def _prepare(arena: Arena, whole: Path) -> dict[str, Any]:
    return await arena.run(["verify", str(whole)])


def _clean(folder: Path) -> Path:
    """Remove what earlier tries have left; return the path of the next file."""
    for path in folder.iterdir():
        if path.name not in ("test.yaml", "whole.sqlite"):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    return folder / "r.sqlite"


async def _run(
    arena: Arena, record: Record, name: str, arguments: list[str], size: int | None = None
) -> dict[str, Any]:
    """Run a command, and check that it ends as a command may."""
    try:
        done = await arena.run(arguments, size)
    except TimeoutError:
        record.hang(name, PATIENCE)
        return {"code": -1, "out": "", "err": ""}
    err = done["err"].strip().splitlines()
    problem = ""
    if done["bug"]:
        problem = done["bug"][-400:]
    elif done["code"] not in (0, 1, 2):
        problem = f"exit code {done['code']}: {err}"
    elif done["code"] == 2 and (not err or not err[-1].startswith("arena: ")):
        problem = f"refused without a reason: {err}"
    elif "Traceback" in done["err"] or "\x1b[2J" in done["out"] + done["err"]:
        problem = f"a traceback or an escape: {done['err'][-300:]}"
    if problem:
        record.fail(name, problem)
    elif done["code"]:
        record.refused(name)
    else:
        record.answered(name)
    return done


async def _fill(arena: Arena, record: Record, dice: random.Random) -> None:
    """The disk is full while a run writes; with room again, the run continues."""
    path = _clean(arena.folder)
    size = dice.choice([0, 1_000, 4_096, 30_000, 90_000, 150_000])
    await _run(arena, record, "a full disk, run", _COMMANDS["run"], size)
    again = await _run(arena, record, "room again, run", _COMMANDS["run"])
    if again["code"] or not path.exists():
        record.fail("room again, run", f"the run does not go on: {again['err'][-300:]}")
        return
    done = await _run(arena, record, "room again, verify", _COMMANDS["verify"])
    if "confirms 8 of 8 results" not in done["out"]:
        record.fail("room again, verify", f"{done['out']}{done['err'][-300:]}")
