"""The results file as an SQLite database: opening and checking it, and closing it in order."""

from __future__ import annotations

import secrets
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import ValidationError

from arena.results.integrity import (
    SCHEMA,
    SCHEMAS,
    VERSION,
    check_content,
    check_file,
    check_schema,
)
from arena.results.overflow import OVERFLOW, describe_overflow
from arena.results.rows import UnreadableRow

#: PRAGMA application_id of every results file: "aRLM".
APPLICATION_ID = 0x61524C4D

#: Maximum size of a row in bytes: several of the longest messages of the services.
_MAX_ROW = 256 * 2**20

#: Seconds that a process waits for another process's transaction.
_TIMEOUT = 60.0
#: Kinds of errors that waiting does not cure.
_OF_DISK = frozenset((sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR))

#: Seconds that the last process that writes waits for those that read.
_CLOSING_SECONDS = 1.0


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
        reason = describe_overflow(path) if str(error) == OVERFLOW else error
        raise ResultsError(f"{path}: cannot be used: {reason}") from error
    except UnicodeEncodeError as error:
        missing = error.object[error.start : error.end]
        reason = f"the locale's encoding, {error.encoding}, lacks {missing!r} of its name"
        raise ResultsError(f"{path}: cannot be used: {reason}") from error
    except UnicodeDecodeError as error:  # in SQLite's error message about the file
        raise ResultsError(f"{path}: is damaged: it holds text that is not UTF-8") from error
    except UnreadableRow as error:
        raise ResultsError(f"{path}: {error}") from error
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
        raise ResultsError(f"{path}: a stored reply cannot be read: {reason}") from error


def connect(
    path: Path, *, write: bool = False, empty: bool = False, thorough: bool = True
) -> sqlite3.Connection:
    """Open a results file for reading or writing.

    For reading, the whole content is checked, because the file may come from another person.
    empty: accept a file without tables. thorough: for reading, check more than the schema. A file
    of an earlier release can only be read, with the tables of its own version: see upgrade.py.
    Raises ResultsError if the file does not exist (for reading) or is not a results file.
    """
    with raise_results_errors(path):
        problem = "" if write and not path.exists() else check_file(path)
        if problem:
            raise ResultsError(f"{path}: {problem}")
        if write:
            return _open(path, path, write=True)
        try:
            return _open(path, path, empty=empty, thorough=thorough)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_CANTOPEN:
                raise
        # A file that a run left in WAL mode needs a second file beside it, which cannot be
        # made in a read-only folder. So read a copy, which is deleted after it was opened.
        with TemporaryDirectory(prefix="arena-report-") as folder:
            copy = Path(folder) / "results"
            shutil.copyfile(path, copy)
            log = path.with_name(f"{path.name}-wal")
            with suppress(FileNotFoundError):
                shutil.copyfile(log, copy.with_name("results-wal"))
            return _open(copy, path, empty=empty, thorough=thorough)


def _open(
    file: Path, path: Path, *, write: bool = False, empty: bool = False, thorough: bool = True
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
        if problem := _check(connection, empty=write or empty, thorough=thorough and not write):
            raise ResultsError(f"{path}: {problem}")
        if write:
            refuse_old(path, connection)
    except BaseException:
        connection.close()
        raise
    return connection


def refuse_old(path: Path, connection: sqlite3.Connection) -> None:
    """Raise ResultsError for a file of an earlier release, which cannot be written to."""
    if read_version(connection) not in (0, VERSION):
        raise ResultsError(
            f"{path}: was written by an earlier release, and can only be read: "
            f"`arena merge {path} --to NEW` copies its episodes into a new file"
        )


def read_version(connection: sqlite3.Connection) -> int:
    """Return the version of the file's tables; 0 if it has none."""
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
        version = read_version(connection)
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
    """Create the tables that do not exist."""
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
        except sqlite3.OperationalError as error:
            # Another process uses the file, and SQLite does not wait by itself here. For a disk
            # that is full or broken there is nothing to wait for.
            if error.sqlite_errorcode & 0xFF in _OF_DISK or time.monotonic() > deadline:
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


def mark_open(connection: sqlite3.Connection, run_id: str = "") -> str:
    """Note in the file itself that a process writes to it. Returns the id of its runs.

    The latest commits are in a second file, FILE-wal. A copy of only the main file lacks
    them, but has this note. run_id: for a file that has none; at random if it is empty.
    """
    with transaction(connection):
        row = connection.execute("SELECT open, run_id FROM meta").fetchone()
        if row is None:
            row = 0, run_id or secrets.token_hex(8)
            connection.execute("INSERT INTO meta VALUES (1, ?)", (row[1],))
        else:
            connection.execute("UPDATE meta SET open = 1")
    if not row[0]:
        # Move the note into the main file.
        connection.execute("PRAGMA wal_checkpoint(FULL)")
    return str(row[1])


def mark_closed(path: Path) -> None:
    """Put everything into one file, as the last process that writes to it. Raises ResultsError.

    If a process reads the file for too long, this is left to the next process that writes to it.
    """
    with raise_results_errors(path), closing(connect(path, write=True)) as connection:
        connection.execute("UPDATE meta SET open = 0")
        # `arena live` reads for a moment only, but often.
        deadline = time.monotonic() + _CLOSING_SECONDS
        while True:
            try:
                connection.execute("PRAGMA journal_mode = DELETE")
            except sqlite3.OperationalError:
                if time.monotonic() > deadline:
                    return
                time.sleep(0.01)
            else:
                return


def has_write_ahead_log(path: Path) -> bool:
    """Whether the file's latest commits are beside it. Ask before the file is opened."""
    return (path.parent / f"{path.name}-wal").exists()


def find_loss(path: Path, connection: sqlite3.Connection) -> str:
    """Return why a file without a log may lack episodes; "" if there is no sign of that."""
    if read_version(connection) != VERSION:
        return ""
    row = connection.execute("SELECT open FROM meta").fetchone()
    if row is None or not row[0]:
        return ""
    return (
        f"{path}: was copied during a run, or has lost its {path.name}-wal: the latest episodes "
        "may be missing. `arena merge FILE --to COPY` copies a file completely"
    )
