"""The results file itself: how it is opened, recognized, and left in canonical form."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

#: PRAGMA application_id of every results file: "aRLM".
APPLICATION_ID = 0x61524C4D

#: PRAGMA user_version: of schema.sql.
VERSION = 2

TABLES = ("experiments", "models", "episodes", "moves", "calls")

_SCHEMA = (Path(__file__).parent / "schema.sql").read_text(encoding="utf-8")

#: Seconds for which a process waits for another one's transaction.
_PATIENCE = 60.0


class ResultsError(Exception):
    """A results file that cannot be used: names the file and the reason."""


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turn what the disk or SQLite refuses into a ResultsError that names the file."""
    try:
        yield
    except OSError as error:
        raise ResultsError(f"{path}: cannot be used: {error.strerror or error}") from error
    except sqlite3.Error as error:
        raise ResultsError(f"{path}: cannot be used: {error}") from error


def connect(path: Path, *, write: bool = False) -> sqlite3.Connection:
    """Open a results file, to read it unless told.

    Raises ResultsError: there is none (to read), or it is something else.
    """
    with naming(path):
        if not write and not path.is_file():
            raise ResultsError(f"{path}: there is no such results file")
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode={'rwc' if write else 'ro'}",
            uri=True,
            timeout=_PATIENCE,
            isolation_level=None,  # transactions are begun where they are meant
            check_same_thread=False,  # an actor is made in one thread and used in another
        )
        try:
            _recognize(connection, path)
        except BaseException:
            connection.close()
            raise
    return connection


def _recognize(connection: sqlite3.Connection, path: Path) -> None:
    # One state of the file: somebody may be making its tables.
    connection.execute("BEGIN")
    (mark,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    connection.execute("COMMIT")
    empty = not tables and not mark
    if mark != APPLICATION_ID and not empty:
        raise ResultsError(f"{path}: is no results file of the arena")
    if version != VERSION and not empty:
        raise ResultsError(
            f"{path}: has version {version} of the schema, not {VERSION}: another release of the "
            "arena wrote it, which can read it"
        )


def create(connection: sqlite3.Connection) -> None:
    """Make the tables, unless they are there."""
    connection.executescript(
        f"BEGIN IMMEDIATE; {_SCHEMA}; PRAGMA application_id = {APPLICATION_ID};"
        f"PRAGMA user_version = {VERSION}; COMMIT"
    )


def write_ahead(connection: sqlite3.Connection) -> None:
    """Let readers and one writer work at once (WAL)."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            # Somebody is at the file just now: here, SQLite does not wait by itself.
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All of it or nothing. It holds the file's one write lock from the start."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def tidy(path: Path) -> None:
    """Put a file that no process writes to into canonical form: equal rows, equal bytes.

    Not while somebody reads it: the next process that closes it will. Raises ResultsError.
    """
    with naming(path):
        with closing(connect(path, write=True)) as connection:
            try:
                connection.execute("PRAGMA journal_mode = DELETE")
            except sqlite3.OperationalError:
                return
        _rebuild(path)


def _rebuild(path: Path) -> None:
    """Write the file anew. It takes the old one's place at once: there is always one."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    with closing(sqlite3.connect(fresh, isolation_level=None)) as connection:
        connection.execute("ATTACH ? AS old", (str(path),))
        create(connection)
        with transaction(connection):
            for table in TABLES:
                connection.execute(f"INSERT INTO main.{table} SELECT * FROM old.{table}")  # noqa: S608 - names of our own
    with fresh.open("rb+") as file:
        os.fsync(file.fileno())
    fresh.replace(path)
