"""Results files that the arena did not write: each command refuses them in one line."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from arena.experiment.load import load_experiment
from arena.experiment.schedule import schedule
from tests.support.random_play import play, write
from tests.support.results import change_moves

EXPERIMENT = """
name: test
games: [tic_tac_toe]
agents: {a: {type: random}, b: {type: random}}
"""

#: A player that a recording answers for.
PLAYER = "{type: llm, model: hf_a}"

COMMANDS = (
    ("report", "r.sqlite"),
    ("export", "r.sqlite"),
    ("run", "--config", "test.yaml", "--results", "r.sqlite"),
)

#: A query that never ends.
ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x FROM n"

SQL = {
    "a view in place of a table": (
        f"DROP TABLE seats; CREATE VIEW seats AS {ENDLESS}",
        "another program has changed its view 'seats': the definition differs from the arena's",
    ),
    "a view beside the tables": (f"CREATE VIEW other AS {ENDLESS}", "holds the view 'other'"),
    "a trigger": (
        "CREATE TRIGGER t AFTER INSERT ON calls BEGIN SELECT 1; END",
        "holds the trigger 't'",
    ),
    "a table": ("CREATE TABLE other (x)", "holds the table 'other'"),
    "a virtual table": ("CREATE VIRTUAL TABLE v USING fts5(x)", "holds the table 'v'"),
    "an index with an expression": (
        "CREATE INDEX i ON seats (abs(seat))",
        "holds the index 'i', which is not the arena's",
    ),
    "another column": ("ALTER TABLE seats ADD COLUMN extra", "has changed its table 'seats'"),
    "a generated column": (
        "ALTER TABLE seats ADD COLUMN g AS (zeroblob(1000000000))",
        "has changed its table 'seats'",
    ),
    "a missing table": ("DROP TABLE calls", "has no table 'calls'"),
    "a default in place of a value": (
        "DROP TABLE players; CREATE TABLE players (id INTEGER PRIMARY KEY, key, type, model)",
        "has changed its table 'players'",
    ),
    "a definition that is no text": (
        "PRAGMA writable_schema = ON;"
        "UPDATE sqlite_master SET sql = CAST(sql || x'8598' AS TEXT) WHERE name = 'seats'",
        "is damaged: it holds text that is not UTF-8",
    ),
    "another version": ("PRAGMA user_version = 1", "has version 1 of the schema"),
    "a schema that is not UTF-8": (
        "PRAGMA writable_schema = ON;"
        "UPDATE sqlite_master SET sql = replace(sql, 'reason', CAST(x'ff' AS TEXT))",
        "the definition differs from the arena's",
    ),
    "a blob for a text": ("UPDATE episodes SET reason = x'00ff'", "episodes.reason holds a value"),
    "a text for a blob": ("UPDATE transcripts SET moves = 'x'", "transcripts.moves holds a value"),
    "a text for a number": ("UPDATE seats SET latency_ms = 'soon'", "seats.latency_ms holds"),
    "a number that is too large": ("UPDATE episodes SET deal = 1e30", "episodes.deal holds"),
    "a fraction": (
        "UPDATE seats SET turns = turns + 0.5",
        "seats.turns holds a value of type real",
    ),
    "a blob for a key": ("UPDATE players SET key = x'61' WHERE id = 1", "players.key holds"),
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


def test_a_folder_stands_for_the_results_file_in_it(arena, path: Path) -> None:
    path.rename(path.with_name("arena.sqlite"))
    for command in ("report", "export", "verify", "audit"):
        done = arena(command, ".")
        assert (done.code, done.err) == (0, ""), command


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
            " (SELECT rootpage FROM sqlite_master WHERE name = 'players') WHERE name = 'episodes'"
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
    (path.parent / "test.yaml").write_text(EXPERIMENT.replace("{type: random}", PLAYER, 1))
    (spec,) = schedule(load_experiment(path.parent / "test.yaml"))
    with closing(sqlite3.connect(path)) as connection, connection:
        values = (spec.episode, 0, 0, 0, "{}", JOURNAL[reply])
        connection.execute("INSERT INTO calls VALUES (?, ?, ?, ?, ?, ?)", values)
    (path.parent / "record").write_text("")
    done = arena(*COMMANDS[2], "--replay", "record")
    assert (done.code, done.out) == (2, "")
    error = done.err.splitlines()[-1]
    assert error.startswith(f"arena: {path}: a stored reply cannot be read: "), done.err


def set_column(name: str, value: object) -> Callable[[Path], None]:
    """Sets a column of all moves in the transcripts."""
    return partial(
        change_moves, change=lambda columns: columns.update({name: [value] * len(columns["ply"])})
    )


def run_sql(sql: str) -> Callable[[Path], None]:
    def run(path: Path) -> None:
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(sql)

    return run


ROWS = {
    "a name without end": (
        run_sql("UPDATE names SET name = printf('%.*c', 999999, 'x') WHERE name = 'a'"),
        "... has 999,999 characters",
    ),
    "a list too deep": (
        run_sql("UPDATE episodes SET lineup = printf('%.*c', 99999, '[')"),
        "lineup: ",
    ),
    "a line-up of no players": (run_sql("UPDATE episodes SET lineup = '[7]'"), "the player 7"),
    "a game that is not stored": (run_sql("UPDATE episodes SET game = 7"), "the game 7"),
    "returns that are no numbers": (
        run_sql("UPDATE episodes SET returns = '[\"x\", 0]'"),
        "returns: ",
    ),
    "legal actions that are none": (set_column("legal_actions", [1]), "legal_actions"),
    "a text for a ply": (set_column("ply", "x"), "ply"),
    "a huge number": (set_column("action", 10**30), "action"),
    "an unknown column": (set_column("other", 1), "other"),
    "an unknown status": (set_column("status", "won"), "status"),
    "no compressed moves": (run_sql("UPDATE transcripts SET moves = x'ffff'"), "be decompressed"),
    "cut moves": (run_sql("UPDATE transcripts SET moves = substr(moves, 1, 9)"), "is cut off"),
}


@pytest.mark.parametrize("change", ROWS)
def test_rows_that_cannot_be_read(arena, path: Path, change: str) -> None:
    make, says = ROWS[change]
    make(path)
    done = arena("report", path.name)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("arena: r.sqlite: ")
    assert says in done.err
    assert done.err.count("\n") == 1


#: No such row makes the report fail, or is shown unchanged in the terminal or on the page.
ODD = {
    "a huge return": run_sql("UPDATE episodes SET returns = '[1e999, 1]'"),
    "an infinite latency": set_column("latency_ms", float("-inf")),
    "huge counts": set_column("prompt_tokens", 2**63 - 1),
    "a huge cost": set_column("cost_picousd", 2**63 - 1),
    "negative counts": set_column("prompt_tokens", -5),
    "a model without an answer": set_column("model", "m"),
    "seats that do not exist": set_column("seat", 9),
    "a deep configuration": run_sql(
        "UPDATE experiments SET config = printf('%.*c', 99999, '[')",
    ),
    "escapes": run_sql(
        "UPDATE episodes SET status = 'failed', reason = '<b>' || char(27) || '[2J' || char(8238)"
    ),
}


@pytest.mark.parametrize("change", ODD)
def test_odd_rows_are_shown_or_left_out(arena, path: Path, change: str) -> None:
    ODD[change](path)
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
        connection.execute("UPDATE games SET game = ?", (game.format(secret),))
    done = arena("report", path.name)
    assert (done.code, done.err) == (0, "")
    assert "OpenSpiel confirms 0 of 1 result" in done.out
    assert "Results that OpenSpiel does not confirm" in done.out
    assert "hunter2" not in done.out
