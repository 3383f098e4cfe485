"""Opens a results file to write to it, and checks that this could be done."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from arena.results.claims import Claims
from arena.results.database import (
    ResultsError,
    connect,
    create_tables,
    find_loss,
    has_write_ahead_log,
    mark_closed,
    mark_open,
    raise_results_errors,
    refuse_old,
    transaction,
    use_write_ahead_log,
)
from arena.results.disks import find_network_disk
from arena.results.integrity import WHOLE
from arena.results.spending import give_up_sent_calls


class OpenFile(NamedTuple):
    """A results file that this process may write to, the id of its runs, and the claims in it."""

    connection: sqlite3.Connection
    run_id: str
    claims: Claims


@contextmanager
def open_to_write(
    path: Path, run_id: str = "", *, network_disk: bool = False
) -> Iterator[OpenFile]:
    """Open or create a file and its folder. The last process to close it leaves a single file.

    The options and errors are those of Store.
    """
    with ExitStack() as undo:
        with raise_results_errors(path):
            check_disk(path, allowed=network_disk)
            path.parent.mkdir(parents=True, exist_ok=True)
            # All names of a file, such as symbolic links, must have one lock file.
            file = Path(os.path.realpath(path))
            claims = Claims(file.with_name(f"{file.name}.lock"))
            finished = undo.enter_context(_leave(claims, file))
            connection = undo.enter_context(closing(connect(path, write=True)))
            use_write_ahead_log(connection)
            # A commit survives the process. A power failure may lose the last commits, but only
            # whole ones.
            connection.execute("PRAGMA synchronous = NORMAL")
            create_tables(connection)
            with claims.alone() as alone:
                if alone:
                    with transaction(connection):
                        give_up_sent_calls(connection)
            opened = OpenFile(connection, mark_open(connection, run_id), claims)
            finished.append(True)
        yield opened


@contextmanager
def _leave(claims: Claims, file: Path) -> Iterator[list[bool]]:
    """Give up the claims; the last process puts the file in order, if it was opened."""
    opened: list[bool] = []
    try:
        yield opened
    finally:
        with claims.leave() as last:
            if last and opened:
                mark_closed(file)


def check_disk(path: Path, *, allowed: bool) -> None:
    """Raise ResultsError if a path is on a network file system, unless that is allowed."""
    if not allowed and (kind := find_network_disk(path.absolute())):
        raise ResultsError(
            f"{path}: is on a network file system ({kind}), where locks are not reliable and "
            "several processes can damage the file: choose a local disk with --results, or allow "
            "it with --allow-network-disk if only one process at a time uses the file"
        )


def warn_of_loss(path: Path, *, write: bool = False) -> str:
    """Return why a file may lack episodes; "" if there is no sign of that. Raises ResultsError.

    write: refuse a file that cannot be written to, because of its release.
    """
    has_log = has_write_ahead_log(path)
    with raise_results_errors(path):
        small = path.exists() and path.stat().st_size <= WHOLE
    with (
        raise_results_errors(path),
        closing(connect(path, empty=write, thorough=write and small)) as connection,
    ):
        if write:
            refuse_old(path, connection)
        return "" if has_log else find_loss(path, connection)


def check_results(path: Path, *, network_disk: bool = False) -> str:
    """Check that a Store could be opened, without writing. Raises ResultsError like Store.

    Returns a warning: why episodes may be missing; "" if there is no sign of that.
    """
    with raise_results_errors(path):
        check_disk(path, allowed=network_disk)
        if path.exists():
            return warn_of_loss(path, write=True)
        folder = next(parent for parent in path.absolute().parents if parent.exists())
        if not folder.is_dir():
            raise NotADirectoryError(None, f"{folder} is not a folder")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(None, f"{folder} cannot be written to")
        return ""
