"""Whether a results file is the experiment's own, and making it ready to be written."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import astuple
from pathlib import Path

from arena.results.changes import describe_changes
from arena.results.database import ResultsError, connect, create, naming, transaction, write_ahead
from arena.results.rows import ExperimentRow, ModelRow
from arena.results.spending import open_meter


def check_results(path: Path, experiment: ExperimentRow) -> None:
    """Whether a Store could be opened, as far as that shows without writing.

    Raises ResultsError as Store does.
    """
    with naming(path):
        if path.exists():
            with closing(connect(path, empty=True)) as connection:
                _check_owner(connection, path, experiment)
            return
        folder = next(one for one in path.absolute().parents if one.exists())
        if not folder.is_dir():
            raise NotADirectoryError(None, f"{folder} is no folder")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(None, f"{folder} cannot be written to")


def prepare(
    connection: sqlite3.Connection,
    path: Path,
    experiment: ExperimentRow,
    models: Sequence[ModelRow],
) -> None:
    """Make what is missing. Raises ResultsError where the file is another experiment's."""
    _check_owner(connection, path, experiment)
    write_ahead(connection)
    # A commit survives the process; power failures may take the last ones, whole.
    connection.execute("PRAGMA synchronous = NORMAL")
    create(connection)
    with transaction(connection):
        # Again: it may have got an owner meanwhile.
        _check_owner(connection, path, experiment)
        connection.execute(
            "INSERT OR REPLACE INTO experiments VALUES (?, ?, ?)", astuple(experiment)
        )
        connection.executemany(
            "INSERT OR REPLACE INTO models VALUES (?, ?, ?, ?)", map(astuple, models)
        )
        open_meter(connection)


def _check_owner(connection: sqlite3.Connection, path: Path, experiment: ExperimentRow) -> None:
    if not connection.execute("SELECT 1 FROM sqlite_master").fetchone():
        return  # it is empty
    rows = connection.execute("SELECT name, config, fingerprint FROM experiments")
    for name, config, fingerprint in rows:
        if name != experiment.name:
            raise ResultsError(f"{path}: holds the results of the experiment {name!r}")
        if fingerprint != experiment.fingerprint:
            changes = describe_changes(config, experiment.config)
            raise ResultsError(
                f"{path}: holds the results of {name!r} with other settings "
                f"({changes or 'written by another version'}): choose another file with "
                "results:, or give the experiment another name"
            )
