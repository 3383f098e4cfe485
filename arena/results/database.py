"""The results file itself: how it is opened, recognized, and left in canonical form."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import ValidationError

from arena.results.integrity import (
    SCHEMA,
    TABLES,
    foreign_schema,
    wrong_content,
    wrong_file,
)

#: PRAGMA application_id of every results file: "aRLM".
APPLICATION_ID = 0x61524C4D

#: PRAGMA user_version: of schema.sql.
VERSION = 2

#: Bytes of the largest row that is read or written: several of the services' longest messages.
_LONGEST = 256 * 2**20

#: Seconds for which a process waits for another one's transaction.
_PATIENCE = 60.0


class ResultsError(Exception):
    """A results file that cannot be used: names the file and the reason."""


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Raise ResultsError with the file's name for what disk, SQLite or a stored reply refuse."""
    try:
        yield
    except OSError as error:
        raise ResultsError(f"{path}: cannot be used: {error.strerror or error}") from error
    except sqlite3.Error as error:
        raise ResultsError(f"{path}: cannot be used: {error}") from error
    except UnicodeEncodeError as error:
        lacks = error.object[error.start : error.end]
        reason = f"the locale's encoding, {error.encoding}, lacks {lacks!r} of its name"
        raise ResultsError(f"{path}: cannot be used: {reason}") from error
    except UnicodeDecodeError as error:  # SQLite's own message about the file
        raise ResultsError(f"{path}: is damaged: it holds text that is not UTF-8") from error
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
        raise ResultsError(f"{path}: a stored reply cannot be read: {reason}") from error


def connect(path: Path, *, write: bool = False, empty: bool = False) -> sqlite3.Connection:
    """Open a results file to read it, or to write.

    A reader checks all of it: somebody else may have made it. empty: whether a file without
    tables will do. Raises ResultsError: there is none (to read), or it is something else.
    """
    with naming(path):
        fault = "" if write and not path.exists() else wrong_file(path)
        if fault:
            raise ResultsError(f"{path}: {fault}")
        if write:
            return _opened(path, path, write=True)
        try:
            return _opened(path, path, empty=empty)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_CANTOPEN:
                raise
        # What a run left in write-ahead mode needs another file beside it, which a folder
        # that cannot be written to does not take. The copy lasts as long as the connection.
        with TemporaryDirectory(prefix="arena-report-") as folder:
            copy = Path(folder) / "results"
            shutil.copyfile(path, copy)
            log = path.with_name(f"{path.name}-wal")
            if log.exists():
                shutil.copyfile(log, copy.with_name("results-wal"))
            return _opened(copy, path, empty=empty)


def _opened(
    file: Path, path: Path, *, write: bool = False, empty: bool = False
) -> sqlite3.Connection:
    """A checked connection to `file`; errors name `path`."""
    connection = sqlite3.connect(
        f"{file.absolute().as_uri()}?mode={'rwc' if write else 'ro'}",
        uri=True,
        timeout=_PATIENCE,
        isolation_level=None,  # transactions are begun where they are meant
        check_same_thread=False,  # an actor is made in one thread and used in another
    )
    try:
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST)
        # Nothing in a file's schema may run functions, and damaged pages are noticed.
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
        if fault := _fault(connection, empty=write or empty, thorough=not write):
            raise ResultsError(f"{path}: {fault}")
    except BaseException:
        connection.close()
        raise
    return connection


def _fault(connection: sqlite3.Connection, *, empty: bool, thorough: bool) -> str:
    """Why it is not a results file of this release; empty if it is one."""
    # Text that is not UTF-8 is for us to report: sqlite3 itself would raise errors of its own.
    connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
    # One state of the file: somebody may be making its tables.
    connection.execute("BEGIN")
    try:
        (mark,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if not tables and not mark:
            return "" if empty else "is empty"
        if mark != APPLICATION_ID:
            return "is no results file of the arena"
        if version != VERSION:
            return (
                f"has version {version} of the schema, not {VERSION}: another release of the "
                "arena wrote it, which can read it"
            )
        return foreign_schema(connection) or (wrong_content(connection) if thorough else "")
    finally:
        if connection.in_transaction:
            connection.execute("COMMIT")
        connection.text_factory = str


def create(connection: sqlite3.Connection) -> None:
    """Make the tables, unless they are there."""
    connection.executescript(
        f"BEGIN IMMEDIATE; {SCHEMA}; PRAGMA application_id = {APPLICATION_ID};"
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
