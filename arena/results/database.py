"""The results file as an SQLite database: opening, checking, and rewriting it."""

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
    RUN,
    SCHEMA,
    SCHEMAS,
    TABLES,
    VERSION,
    check_content,
    check_file,
    check_schema,
    creating_statement,
    list_columns,
)
from arena.results.spending import LOST, SENT
from arena.results.upgrade import OLD_VERSION, convert, make_view

#: PRAGMA application_id of every results file: "aRLM".
APPLICATION_ID = 0x61524C4D

#: Maximum size of a row in bytes: several of the longest messages of the services.
_MAX_ROW = 256 * 2**20

#: Seconds that a process waits for another process's transaction.
_TIMEOUT = 60.0


class ResultsError(Exception):
    """A results file cannot be used. The message names the file and the reason."""


@contextmanager
def raise_results_errors(path: Path) -> Iterator[None]:
    """Turn errors of the disk, SQLite and stored replies into ResultsError with the path."""
    try:
        yield
    except OSError as error:
        raise ResultsError(f"{path}: cannot be used: {error.strerror or error}") from error
    except sqlite3.Error as error:
        raise ResultsError(f"{path}: cannot be used: {error}") from error
    except UnicodeEncodeError as error:
        missing = error.object[error.start : error.end]
        reason = f"the locale's encoding, {error.encoding}, lacks {missing!r} of its name"
        raise ResultsError(f"{path}: cannot be used: {reason}") from error
    except UnicodeDecodeError as error:  # in SQLite's error message about the file
        raise ResultsError(f"{path}: is damaged: it holds text that is not UTF-8") from error
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
        raise ResultsError(f"{path}: a stored reply cannot be read: {reason}") from error


def connect(path: Path, *, write: bool = False, empty: bool = False) -> sqlite3.Connection:
    """Open a results file for reading or writing.

    For reading, the whole content is checked, because the file may come from another person.
    empty: accept a file without tables. A file of release 0.1 is read as if it had today's
    columns; to write it, call create_tables first. Raises ResultsError if the file does not exist
    (for reading) or is not a results file.
    """
    with raise_results_errors(path):
        problem = "" if write and not path.exists() else check_file(path)
        if problem:
            raise ResultsError(f"{path}: {problem}")
        if write:
            return _open(path, path, write=True)
        try:
            return _open(path, path, empty=empty)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_CANTOPEN:
                raise
        # A file that a run left in WAL mode needs a second file beside it, which cannot be
        # made in a read-only folder. So read a copy, which is deleted after it was opened.
        with TemporaryDirectory(prefix="arena-report-") as folder:
            copy = Path(folder) / "results"
            shutil.copyfile(path, copy)
            log = path.with_name(f"{path.name}-wal")
            if log.exists():
                shutil.copyfile(log, copy.with_name("results-wal"))
            return _open(copy, path, empty=empty)


def _open(
    file: Path, path: Path, *, write: bool = False, empty: bool = False
) -> sqlite3.Connection:
    """Return a checked connection to `file`; errors name `path`."""
    connection = sqlite3.connect(
        f"{file.absolute().as_uri()}?mode={'rwc' if write else 'ro'}",
        uri=True,
        timeout=_TIMEOUT,
        isolation_level=None,  # transactions start explicitly
        check_same_thread=False,  # a Ray actor is made in one thread and used in another
    )
    try:
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MAX_ROW)
        # The file's schema must not run functions, and damaged pages must be noticed.
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
        if problem := _check(connection, empty=write or empty, thorough=not write):
            raise ResultsError(f"{path}: {problem}")
        if not write and _read_version(connection) == OLD_VERSION:
            make_view(connection, [name for name, _ in list_columns("moves")])
            connection.execute(creating_statement("failed_calls", "TEMP TABLE"))
    except BaseException:
        connection.close()
        raise
    return connection


def _read_version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def _check(connection: sqlite3.Connection, *, empty: bool, thorough: bool) -> str:
    """Return why the file is not a results file of this release; "" if it is."""
    # sqlite3 would raise its own errors for text that is not UTF-8. check_content reports it.
    connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
    # One snapshot, because another process may be making the tables.
    connection.execute("BEGIN")
    try:
        (application_id,) = connection.execute("PRAGMA application_id").fetchone()
        version = _read_version(connection)
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if not tables and not application_id:
            return "" if empty else "is empty"
        if application_id != APPLICATION_ID:
            return "is not a results file of the arena"
        if version not in SCHEMAS:
            return (
                f"has version {version} of the schema, not {VERSION}: read it with the release "
                "of the arena that wrote it"
            )
        return check_schema(connection, version) or (
            check_content(connection, version) if thorough else ""
        )
    finally:
        if connection.in_transaction:
            connection.execute("COMMIT")
        connection.text_factory = str


def create_tables(connection: sqlite3.Connection) -> None:
    """Create the tables that do not exist, and convert those of release 0.1."""
    with transaction(connection):
        if _read_version(connection) == OLD_VERSION:
            columns = [name for name, _ in list_columns("moves")]
            convert(connection, creating_statement("moves"), columns, VERSION)
    connection.executescript(
        f"BEGIN IMMEDIATE; {SCHEMA}; PRAGMA application_id = {APPLICATION_ID};"
        f"PRAGMA user_version = {VERSION}; COMMIT"
    )


def use_write_ahead_log(connection: sqlite3.Connection) -> None:
    """Let readers and one writer work at the same time (WAL mode)."""
    deadline = time.monotonic() + _TIMEOUT
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            # Another process uses the file. SQLite does not wait by itself here.
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Commit all changes of the block, or none if it raises. Holds the file's write lock."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def rewrite(path: Path) -> None:
    """Rewrite a file in canonical form, in which equal rows give equal bytes.

    No process may be writing to it. Does nothing while a process reads it; the next process
    that closes it will rewrite it. Raises ResultsError.
    """
    with raise_results_errors(path):
        with closing(connect(path, write=True)) as connection:
            try:
                connection.execute("PRAGMA journal_mode = DELETE")
            except sqlite3.OperationalError:
                return
        new = path.with_name(f"{path.name}.new")
        new.unlink(missing_ok=True)
        with closing(sqlite3.connect(new, isolation_level=None)) as connection:
            connection.execute("ATTACH ? AS old", (str(path),))
            create_tables(connection)
            with transaction(connection):
                for table in TABLES:
                    connection.execute(f"INSERT INTO main.{table} SELECT * FROM old.{table}")  # noqa: S608 - our own names
                # A later run may repeat these calls. With the same ids they are not paid twice.
                repeatable = "SELECT 1 FROM main.calls UNION ALL SELECT 1 FROM main.failed_calls"
                if connection.execute(
                    f"{repeatable} WHERE reason IN (?, ?)", (SENT, LOST)
                ).fetchone():
                    connection.execute(RUN)
                    connection.execute("INSERT INTO main.run SELECT * FROM old.run")
        with new.open("rb+") as file:
            os.fsync(file.fileno())
        new.replace(path)
