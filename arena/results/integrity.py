"""Checks that a file contains exactly the arena's tables, with values of the right types.

People send each other results files. A view, a trigger or a generated column would run code of
the file's author when the table is read. Therefore the schema must be equal to the arena's.
"""

from __future__ import annotations

import re
import sqlite3
import stat
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

_FOLDER = Path(__file__).parent

#: PRAGMA user_version of the files that this release writes: the version of schema.sql.
VERSION = 5

SCHEMA = (_FOLDER / "schema.sql").read_text(encoding="utf-8")

#: Tables of older versions that exist only while a process has the file open.
_METER_2 = "CREATE TABLE meter (tokens INTEGER NOT NULL, cost_usd REAL NOT NULL)"
_METER_3 = (
    "CREATE TABLE meter (tokens INTEGER NOT NULL, cost_picousd INTEGER NOT NULL, "
    "uncounted INTEGER NOT NULL, unpriced INTEGER NOT NULL)"
)
_RUN_3 = "CREATE TABLE IF NOT EXISTS run (id TEXT NOT NULL)"
_OPTIONAL = ("meter", "run")

#: Tables that a file may lack, because an earlier release wrote it.
_LATER = ("scores",)

#: Up to this size a file is checked as a whole, which takes less than a second.
WHOLE = 64 * 2**20

#: By version, what creates all tables of a file that can be read.
SCHEMAS: Mapping[int, str] = {
    VERSION: SCHEMA,
    4: (_FOLDER / "schema_4.sql").read_text(encoding="utf-8"),
    3: f"{(_FOLDER / 'schema_3.sql').read_text(encoding='utf-8')}; {_METER_3}; {_RUN_3}",
    2: f"{(_FOLDER / 'schema_2.sql').read_text(encoding='utf-8')}; {_METER_2}",
}

#: Files that SQLite opens beside a database.
_BESIDE = ("-journal", "-wal", "-shm")

#: SQLite's type of the values in a column with this declared type.
_VALUE_TYPES = {"TEXT": "text", "INTEGER": "integer", "REAL": "real", "BLOB": "blob"}


class _Object(NamedTuple):
    """An entry of sqlite_master. sql: without comments and line breaks."""

    type: str
    name: str
    table: str
    sql: str


def check_file(path: Path) -> str:
    """Return why SQLite must not open the file; "" if it may. Raises OSError.

    SQLite would wait forever for a pipe.
    """
    for file in (path, *(path.parent / (path.name + ending) for ending in _BESIDE)):
        try:
            mode = file.stat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            # A file beside it can go at any time: other processes open and close the results.
            if file == path:
                return "there is no such results file"
            continue
        if not stat.S_ISREG(mode):
            kind = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
            return f"is {kind}" if file == path else f"{file.name} beside it is {kind}"
    return ""


def check_schema(connection: sqlite3.Connection, version: int = VERSION) -> str:
    """Return how the schema differs from the arena's of this version; "" if it does not."""
    entries = _read_objects(connection)
    expected = _expected_objects(version)
    for name, entry in entries.items():
        if name not in expected:
            return f"holds the {entry.type} {name!r}, which is not the arena's"
        if entry != expected[name]:
            return (
                f"another program has changed its {entry.type} {name!r}: the definition differs "
                "from the arena's"
            )
    needed = (table for table in _list_tables(version) if table not in _LATER)
    if missing := [table for table in needed if table not in entries]:
        return f"has no table {missing[0]!r}"
    return ""


def check_content(connection: sqlite3.Connection, version: int = VERSION) -> str:
    """Return why the rows cannot be used; "" if they can. Reads the file once.

    After this check the work of a query is bounded by the file's size, because no page is used
    twice, and all values have the types and constraints of schema.sql. In a large file the
    transcripts, which are nine tenths of it, are checked when they are read: each is found by its
    number, which takes little work even in a malicious file.
    """
    tables = [table for table in _list_tables(version) if has_table(connection, table)]
    if is_large := _measure(connection) > WHOLE:
        tables = [table for table in tables if table != "transcripts"]
    for part in tables if is_large else ("1",):  # a table, or one problem of the whole file
        (answer,) = connection.execute(f"PRAGMA quick_check({part})").fetchone()
        if answer != "ok":
            answer = " ".join(answer.removeprefix("*** in database main ***").split())
            return f"is damaged: {answer}"
    checks = map(partial(_check_values, connection, version), tables)
    return next(filter(None, checks), "")


def _measure(connection: sqlite3.Connection) -> int:
    """Return the size of the database in bytes."""
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    return int(pages * size)


def has_table(connection: sqlite3.Connection, name: str) -> bool:
    """Return whether the file has a table."""
    query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
    return connection.execute(query, (name,)).fetchone() is not None


def _list_tables(version: int) -> Sequence[str]:
    objects = _expected_objects(version).values()
    return [one.name for one in objects if one.type == "table" and one.name not in _OPTIONAL]


def _check_values(connection: sqlite3.Connection, version: int, table: str) -> str:
    columns = _columns(version, table)
    types = ", ".join(f"typeof({name})" for name in columns)
    wrong = " OR ".join(f"typeof({name}) NOT IN ({kinds})" for name, kinds in columns.items())
    row = connection.execute(f"SELECT {types} FROM {table} WHERE {wrong} LIMIT 1").fetchone()  # noqa: S608 - our own names
    for (name, kinds), kind in zip(columns.items(), row or (), strict=False):
        if f"'{kind}'" not in kinds:
            return f"{table}.{name} holds a value of type {kind}"
    # SQLite does not check the constraints of a file that it only reads.
    for name, values in re.findall(
        r"CHECK \((\w+) IN (\(.+?\))\)", _expected_objects(version)[table].sql
    ):
        query = f"SELECT {name} FROM {table} WHERE {name} NOT IN {values} LIMIT 1"  # noqa: S608 - our own names
        if row := connection.execute(query).fetchone():
            return f"{table}.{name} holds {row[0][:50]!r}"
    return ""


@cache
def _columns(version: int, table: str) -> Mapping[str, str]:
    """Return the allowed types of the values of each column, as SQL."""
    with closing(_make_expected(version)) as connection:
        return {
            name: f"'{_VALUE_TYPES[kind]}'"
            if required or key
            else f"'{_VALUE_TYPES[kind]}', 'null'"
            for _, name, kind, required, _, key in connection.execute(f"PRAGMA table_info({table})")
        }


@cache
def _expected_objects(version: int) -> Mapping[str, _Object]:
    with closing(_make_expected(version)) as connection:
        return _read_objects(connection)


def _make_expected(version: int) -> sqlite3.Connection:
    """Return a database with all tables of the arena."""
    connection = sqlite3.connect(":memory:")
    connection.executescript(SCHEMAS[version])
    return connection


def _read_objects(connection: sqlite3.Connection) -> Mapping[str, _Object]:
    rows = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master")
    return {row[1]: _Object(row[0], row[1], row[2], _plain_sql(row[3])) for row in rows}


def _plain_sql(sql: object) -> str:
    """Return SQL without comments and line breaks, which may differ between releases."""
    return " ".join(re.sub(r"--[^\n]*", "", str(sql)).split())
