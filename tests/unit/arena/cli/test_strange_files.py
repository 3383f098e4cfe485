"""Results files that the arena did not write: each command refuses them in one line."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.random_play import play, write

EXPERIMENT = """
name: test
games: [tic_tac_toe]
agents: {a: {type: random}, b: {type: random}}
"""

COMMANDS = (
    ("report", "r.sqlite"),
    ("export", "r.sqlite"),
    ("run", "--config", "test.yaml", "--results", "r.sqlite"),
)

#: A query that never ends.
ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x FROM n"

SQL = {
    "a view in place of a table": (
        f"DROP TABLE moves; CREATE VIEW moves AS {ENDLESS}",
        "another program has changed its view 'moves': the definition differs from the arena's",
    ),
    "a view beside the tables": (f"CREATE VIEW other AS {ENDLESS}", "holds the view 'other'"),
    "a trigger": (
        "CREATE TRIGGER t AFTER INSERT ON calls BEGIN SELECT 1; END",
        "holds the trigger 't'",
    ),
    "a table": ("CREATE TABLE other (x)", "holds the table 'other'"),
    "a virtual table": ("CREATE VIRTUAL TABLE v USING fts5(x)", "holds the table 'v'"),
    "an index with an expression": (
        "CREATE INDEX i ON moves (abs(ply))",
        "holds the index 'i', which is not the arena's",
    ),
    "another column": ("ALTER TABLE moves ADD COLUMN extra", "has changed its table 'moves'"),
    "a generated column": (
        "ALTER TABLE moves ADD COLUMN g AS (zeroblob(1000000000))",
        "has changed its table 'moves'",
    ),
    "a missing table": ("DROP TABLE calls", "has no table 'calls'"),
    "a default in place of a value": (
        "DROP TABLE models; CREATE TABLE models (agent TEXT PRIMARY KEY, type, model, config)",
        "has changed its table 'models'",
    ),
    "a definition that is no text": (
        "PRAGMA writable_schema = ON;"
        "UPDATE sqlite_master SET sql = CAST(sql || x'8598' AS TEXT) WHERE name = 'moves'",
        "is damaged: it holds text that is not UTF-8",
    ),
    "another version": ("PRAGMA user_version = 1", "has version 1 of the schema"),
    "a schema that is not UTF-8": (
        "PRAGMA writable_schema = ON;"
        "UPDATE sqlite_master SET sql = replace(sql, 'reason', CAST(x'ff' AS TEXT))",
        "the definition differs from the arena's",
    ),
    "a blob for a text": ("UPDATE moves SET reply = x'00ff'", "moves.reply holds a value of type"),
    "a text for a number": ("UPDATE moves SET latency_ms = 'soon'", "moves.latency_ms holds"),
    "a number that is too large": ("UPDATE episodes SET seed = 1e30", "episodes.seed holds"),
    "a fraction": ("UPDATE moves SET ply = ply + 0.5", "moves.ply holds a value of type real"),
    "a blob for a key": ("UPDATE models SET agent = x'61' WHERE agent = 'a'", "models.agent holds"),
    "an unknown status": (
        "PRAGMA ignore_check_constraints = ON; UPDATE episodes SET status = 'won'",
        "episodes.status holds 'won'",
    ),
}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A correct results file, to copy."""
    path = tmp_path_factory.mktemp("results") / "r.sqlite"
    return write(path, [play("tic_tac_toe", ("a", "b"))])


@pytest.fixture
def path(results: Path, tmp_path: Path) -> Path:
    (tmp_path / "test.yaml").write_text(EXPERIMENT)
    return Path(shutil.copy(results, tmp_path))


@pytest.fixture
def check(arena, path: Path) -> Callable[[str], None]:
    """Every command refuses the file in one line, and leaves nothing behind."""

    def command(says: str) -> None:
        there = sorted(path.parent.iterdir())
        for arguments in COMMANDS:
            done = arena(*arguments)
            assert (done.code, done.out) == (2, "")
            assert done.err.startswith("arena: r.sqlite: "), done.err
            assert says in done.err
            assert done.err.count("\n") == 1
            assert sorted(path.parent.iterdir()) == there

    return command


@pytest.mark.timeout(60)
@pytest.mark.parametrize("change", SQL)
def test_tables_that_are_not_the_arenas(check, path: Path, change: str) -> None:
    sql, says = SQL[change]
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(sql)
    check(says)


@pytest.mark.parametrize("folder", ["", ".", ".."])
def test_a_folder_without_a_name(arena, folder: str) -> None:
    for command in ("report", "export"):
        done = arena(command, folder)
        assert (done.code, done.out) == (2, "")
        assert done.err == f"arena: {folder or '.'}: is a folder\n"


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "noise": (lambda path: path.write_bytes(os.urandom(9000)), "file is not a database"),
    "text": (lambda path: path.write_text("name: test\n" * 999), "file is not a database"),
    "a folder": (folder, "is a folder"),
    "a pipe": (pipe, "is not a regular file"),
    "a pipe as its journal": (
        lambda path: os.mkfifo(path.with_name("r.sqlite-journal")),
        "r.sqlite-journal beside it is not a regular file",
    ),
    "a cut": (lambda path: os.truncate(path, path.stat().st_size - 4096), "malformed"),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", FILES)
def test_files_that_are_no_databases(check, path: Path, kind: str) -> None:
    make, says = FILES[kind]
    make(path)
    check(says)


def test_pages_that_count_twice(check, path: Path) -> None:
    """A small file whose tree leads to the same page many times has billions of rows."""
    before = path.read_bytes()
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            "PRAGMA writable_schema = ON; UPDATE sqlite_master SET rootpage ="
            " (SELECT rootpage FROM sqlite_master WHERE name = 'models') WHERE name = 'episodes'"
        )
    assert before != path.read_bytes()
    check("is damaged: 2nd reference to page")


def test_an_empty_file(arena, path: Path) -> None:
    """It has no results to show; a run may fill it."""
    path.write_bytes(b"")
    for arguments in COMMANDS[:2]:
        done = arena(*arguments)
        assert (done.code, done.out, done.err) == (2, "", "arena: r.sqlite: is empty\n")
    assert arena(*COMMANDS[2]).code == 0


#: How an earlier run, which was killed, left the reply to the first call.
JOURNAL = {
    "no JSON": "{",
    "a deep list": "[" * 99_999,
    "a list": "[]",
    "a text for a number": '{"text": "x", "model": "m", "latency_ms": 1, "prompt_tokens": "many"}',
}


@pytest.mark.parametrize("reply", JOURNAL)
def test_replies_that_cannot_be_read(arena, path: Path, reply: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        values = ("tic_tac_toe/0/a,b", 0, 0, 0, "{}", JOURNAL[reply])
        connection.execute("INSERT INTO calls VALUES (?, ?, ?, ?, ?, ?)", values)
        connection.execute("DELETE FROM experiments")
    done = arena(*COMMANDS[2])
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"arena: {path}: a stored reply cannot be read: "), done.err
    assert done.err.count("\n") == 1


ROWS = {
    "an agent that does not play": (
        "UPDATE moves SET agent = 'ghost'",
        "a move of 'tic_tac_toe/0/a/b': 'ghost' does not play there",
    ),
    "a name without end": (
        "UPDATE models SET agent = printf('%.*c', 999999, 'x') WHERE agent = 'a'",
        "... has 999,999 characters",
    ),
    "a list too deep": ("UPDATE episodes SET agents = printf('%.*c', 99999, '[')", "agents: "),
    "agents that are no texts": ("UPDATE episodes SET agents = '[1]'", "agents: "),
    "returns that are no numbers": ("UPDATE episodes SET returns = '[\"x\", 0]'", "returns: "),
    "legal actions that are none": ("UPDATE moves SET legal_actions = '[1]'", "legal_actions: "),
}


@pytest.mark.parametrize("change", ROWS)
def test_rows_that_cannot_be_read(arena, path: Path, change: str) -> None:
    sql, says = ROWS[change]
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(sql)
    done = arena("report", path.name)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("arena: r.sqlite: ")
    assert says in done.err
    assert done.err.count("\n") == 1


#: No such row makes the report fail, or is shown unchanged in the terminal or on the page.
ODD = {
    "a huge return": "UPDATE episodes SET returns = '[1e999, 1]'",
    "an infinite latency": "UPDATE moves SET model = 'm', latency_ms = -9e999",
    "huge counts": (
        "UPDATE moves SET model = 'm', prompt_tokens = 9223372036854775807, latency_ms = 1e308, "
        "cost_picousd = 9223372036854775807"
    ),
    "negative counts": "UPDATE moves SET prompt_tokens = -5, cost_picousd = -1, ply = -ply",
    "a deep configuration": "UPDATE experiments SET config = printf('%.*c', 99999, '[')",
    "escapes": (
        "UPDATE episodes SET status = 'failed', reason = '<b>' || char(27) || '[2J' || char(8238)"
    ),
}


@pytest.mark.parametrize("change", ODD)
def test_odd_rows_are_shown_or_left_out(arena, path: Path, change: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(ODD[change])
    done = arena("report", path.name)
    assert (done.code, done.err) == (0, "")
    assert "\x1b" not in done.out
    assert len(done.out) < 100_000
    page = path.with_suffix(".html").read_text()
    assert "<b>\x1b" not in page
    assert arena("export", path.name).code == 0


@pytest.mark.parametrize(
    "game",
    [
        "efg_game(filename={})",
        "misere(game=efg_game(filename={}))",
        "python_hangman(word_list_file={})",
        "dark_chess(fen=x)",  # OpenSpiel may end the process
    ],
)
def test_games_that_open_files_or_harm_the_process(arena, path: Path, game: str) -> None:
    """The report says that they were not checked, and nothing of the file."""
    secret = path.with_name("secret")
    secret.write_text("hunter2 and more\n")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE episodes SET game = ?", (game.format(secret),))
    done = arena("report", path.name)
    assert (done.code, done.err) == (0, "")
    assert "OpenSpiel confirms 0 of 1 result" in done.out
    assert "Results that OpenSpiel does not confirm" in done.out
    assert "hunter2" not in done.out
