"""Whether a file holds the arena's tables and nothing else, with values of the right types.

Results files are passed around. A view, a trigger or a generated column runs code of the
file's author when the table is read. So the schema must be the arena's own, word for word.
"""

from __future__ import annotations

import re
import sqlite3
import stat
from collections.abc import Mapping
from contextlib import closing
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

from arena.results.spending import open_meter

SCHEMA = (Path(__file__).parent / "schema.sql").read_text(encoding="utf-8")

TABLES = ("experiments", "models", "episodes", "moves", "calls")

#: Files that SQLite opens beside a database.
_BESIDE = ("-journal", "-wal", "-shm")

#: SQLite's types of values that a column of a declared type may hold.
_HOLDS = {"TEXT": "text", "INTEGER": "integer", "REAL": "real"}


class _Object(NamedTuple):
    """An entry of sqlite_master; sql: without comments and line breaks."""

    type: str
    name: str
    table: str
    sql: str


def wrong_file(path: Path) -> str:
    """Why SQLite should not open the file at all; empty if it may. Raises OSError.

    A pipe would be waited for without end.
    """
    if not path.exists():
        return "there is no such results file"
    for file in (path, *(path.parent / (path.name + ending) for ending in _BESIDE)):
        if file.exists() and not stat.S_ISREG(file.stat().st_mode):
            kind = "a folder" if file.is_dir() else "no regular file"
            return f"is {kind}" if file == path else f"{file.name} beside it is {kind}"
    return ""


def foreign_schema(connection: sqlite3.Connection) -> str:
    """What the schema has or lacks that is not the arena's; empty if it is the arena's."""
    found = _objects(connection)
    ours = _reference()
    for name, entry in found.items():
        if name not in ours:
            return f"holds the {entry.type} {name!r}, which is not the arena's"
        if entry != ours[name]:
            return f"its {entry.type} {name!r} is not defined as the arena's"
    if missing := [table for table in TABLES if table not in found]:
        return f"has no table {missing[0]!r}"
    return ""


def wrong_content(connection: sqlite3.Connection) -> str:
    """What makes the rows unusable; empty if they can be used. Reads the whole file once.

    Afterwards the work of every query is bounded by the size of the file: no page counts
    twice. All values have the types of schema.sql, and keep to its constraints.
    """
    (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        return f"is damaged: {' '.join(found.removeprefix('*** in database main ***').split())}"
    return next(filter(None, map(partial(_wrong_value, connection), TABLES)), "")


def _wrong_value(connection: sqlite3.Connection, table: str) -> str:
    columns = _columns(table)
    types = ", ".join(f"typeof({name})" for name in columns)
    wrong = " OR ".join(f"typeof({name}) NOT IN ({kinds})" for name, kinds in columns.items())
    row = connection.execute(f"SELECT {types} FROM {table} WHERE {wrong} LIMIT 1").fetchone()  # noqa: S608 - names of our own
    for (name, kinds), kind in zip(columns.items(), row or (), strict=False):
        if f"'{kind}'" not in kinds:
            return f"{table}.{name} holds a value of type {kind}"
    # SQLite itself forgets the constraints of a file that it opens to read.
    for name, values in re.findall(r"CHECK \((\w+) IN (\(.+?\))\)", _reference()[table].sql):
        query = f"SELECT {name} FROM {table} WHERE {name} NOT IN {values} LIMIT 1"  # noqa: S608 - names of our own
        if found := connection.execute(query).fetchone():
            return f"{table}.{name} holds {found[0][:50]!r}"
    return ""


@cache
def _columns(table: str) -> Mapping[str, str]:
    """For each column the types that its values may have, as SQL."""
    with closing(_ours()) as connection:
        return {
            name: f"'{_HOLDS[kind]}'" if required or key else f"'{_HOLDS[kind]}', 'null'"
            for _, name, kind, required, _, key in connection.execute(f"PRAGMA table_info({table})")
        }


@cache
def _reference() -> Mapping[str, _Object]:
    with closing(_ours()) as connection:
        return _objects(connection)


def _ours() -> sqlite3.Connection:
    """A database with all tables of the arena's."""
    connection = sqlite3.connect(":memory:")
    connection.executescript(SCHEMA)
    open_meter(connection)
    return connection


def _objects(connection: sqlite3.Connection) -> Mapping[str, _Object]:
    rows = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master")
    return {row[1]: _Object(row[0], row[1], row[2], _plain_sql(row[3])) for row in rows}


def _plain_sql(sql: object) -> str:
    """Without comments and line breaks: releases differ in those alone."""
    return " ".join(re.sub(r"--[^\n]*", "", str(sql)).split())
