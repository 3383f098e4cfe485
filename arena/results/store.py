"""Writes an experiment's results. A stored reply survives a kill of the process."""

from __future__ import annotations

import json
import os
import re
import secrets
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from dataclasses import astuple, fields, replace
from pathlib import Path
from typing import Any

from arena.agents.calls import ModelReply
from arena.results.changes import describe_changes
from arena.results.claims import Claims
from arena.results.database import (
    ResultsError,
    connect,
    create_tables,
    raise_results_errors,
    rewrite,
    transaction,
    use_write_ahead_log,
)
from arena.results.integrity import RUN
from arena.results.rows import (
    CallKey,
    EpisodeRow,
    ExperimentRow,
    FailedCallRow,
    ModelRow,
    MoveRow,
    reply_from_json,
    reply_to_json,
)
from arena.results.spending import (
    LOST,
    SENT,
    Spent,
    add_to_meter,
    create_meter,
    read_by_model,
    read_meter,
    usage_of_failure,
    usage_of_reply,
)

_KEY = "episode = ? AND ply = ? AND seat = ? AND attempt = ?"


class Store:
    """An experiment's results file, open for writing.

    Several processes may have the file open, each with one Store (see claims.py). When a
    method returns, its changes survive the end of the process. Every method raises
    ResultsError if the disk fails.

    run_id: see rows.make_request_id. The same in all processes, and in later runs while the file
    has calls of episodes that have not ended.
    """

    def __init__(
        self,
        path: Path,
        experiment: ExperimentRow,
        models: Sequence[ModelRow],
        run_id: str = "",
    ) -> None:
        """Open or create the file and its folder.

        run_id: for a file that has none; made at random if it is empty.

        Raises ResultsError if the file belongs to another experiment, is not a results file,
        or cannot be written.
        """
        self.path = path
        with raise_results_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            # `rewrite` replaces the file that a symbolic link leads to, and not the link.
            self._file = path.resolve()
            self._claims = Claims(self._file.with_name(f"{self._file.name}.lock"))
            try:
                self._connection = connect(path, write=True)
                try:
                    self._prepare(experiment, models, run_id)
                except BaseException:
                    self._connection.close()
                    raise
            except BaseException:
                with self._claims.leave():
                    raise

    def _prepare(self, experiment: ExperimentRow, models: Sequence[ModelRow], run_id: str) -> None:
        """Create missing tables and store the experiment. Raises ResultsError on a conflict."""
        connection = self._connection
        _check_owner(connection, self.path, experiment)
        use_write_ahead_log(connection)
        # A commit survives the process. A power failure may lose the last commits, but no part
        # of a commit alone.
        connection.execute("PRAGMA synchronous = NORMAL")
        create_tables(connection)
        with transaction(connection):
            # Another experiment may have used the file since the first check.
            _check_owner(connection, self.path, experiment)
            connection.execute(
                "INSERT OR REPLACE INTO experiments VALUES (?, ?, ?)", astuple(experiment)
            )
            connection.executemany(
                "INSERT OR REPLACE INTO models VALUES (?, ?, ?, ?)", map(astuple, models)
            )
            create_meter(connection)
            self.run_id = _find_run_id(connection, run_id)

    def statuses(self) -> dict[str, str]:
        """Return the status of each stored episode, by id."""
        with raise_results_errors(self.path):
            return dict(self._connection.execute("SELECT episode, status FROM episodes"))

    def status(self, episode: str) -> str | None:
        """Return the status of an episode; None if it is not stored."""
        with raise_results_errors(self.path):
            row = self._connection.execute(
                "SELECT status FROM episodes WHERE episode = ?", (episode,)
            ).fetchone()
        return str(row[0]) if row else None

    def answered(self) -> Iterator[CallKey]:
        """Yield the calls of all episodes that have not failed."""
        with raise_results_errors(self.path):
            for row in self._connection.execute(
                "SELECT episode, ply, seat, attempt FROM moves JOIN episodes USING (episode)"
                " WHERE model IS NOT NULL AND episodes.status <> 'failed'"
            ):
                yield CallKey(*row)

    def claim(self, episode: str) -> bool:
        """Reserve an episode for this process; False if another process plays it.

        The claim ends with `release` or with the process.
        """
        with raise_results_errors(self.path):
            return self._claims.take(episode)

    def release(self, episode: str) -> None:
        """Give up a claim."""
        with raise_results_errors(self.path):
            self._claims.release(episode)

    def call(self, key: CallKey) -> tuple[str, ModelReply] | None:
        """Return the journal's request and reply of a call; None if there is no reply.

        The journal has the calls of episodes that have not ended, or have failed.
        """
        with raise_results_errors(self.path):
            row = self._connection.execute(
                f"SELECT request, reply FROM calls WHERE {_KEY}",  # noqa: S608 - our own names
                (key.episode, key.ply, key.seat, key.attempt),
            ).fetchone()
            return row and (row[0], reply_from_json(row[1]))

    def begin_call(self, key: CallKey) -> Spent:
        """Note that a call is sent. Returns what all processes have spent.

        Without an outcome, which the other methods store, it stays in the file as lost: its
        provider may bill it.
        """
        with raise_results_errors(self.path), transaction(self._connection):
            lost = self._connection.execute(
                f"UPDATE failed_calls SET reason = '{LOST}' WHERE {_KEY} AND reason = '{SENT}'",  # noqa: S608 - our own names
                astuple(key),
            )
            self._add_failed_call(_make_row(key, SENT))
            return add_to_meter(self._connection, Spent(unpriced=lost.rowcount))

    def put_call(self, key: CallKey, request: str, reply: ModelReply) -> tuple[ModelReply, Spent]:
        """Store a reply. Returns the reply to use, and what all processes have spent.

        If the call has a stored reply already, that reply is kept and returned.
        """
        with raise_results_errors(self.path), transaction(self._connection):
            execute = self._connection.execute
            added = execute(
                "INSERT INTO calls VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (key.episode, key.ply, key.seat, key.attempt, request, reply_to_json(reply)),
            )
            again = not added.rowcount
            # A replayed reply has the usage of the call that was paid for. That counts once.
            usage = Spent() if again and reply.replayed else usage_of_reply(reply)
            usage += self._end_call(key, reply.replayed or reply.finds_lost)
            for _ in range(reply.unknown_attempts):
                usage += self._add_failed_call(_make_row(key, "UNKNOWN"))
            spent = add_to_meter(self._connection, usage)
            if again and (stored := self.call(key)):
                _, reply = stored
        return reply, spent

    def put_failed_calls(
        self, key: CallKey, rows: Sequence[FailedCallRow], finds_lost: bool = False
    ) -> Spent:
        """Store what a call without a reply took. Returns what all processes have spent.

        finds_lost: the rows include what earlier tries of the call took, which were lost.
        """
        with raise_results_errors(self.path), transaction(self._connection):
            usage = self._end_call(key, finds_lost)
            for row in rows:
                usage += self._add_failed_call(row)
            return add_to_meter(self._connection, usage)

    def _end_call(self, key: CallKey, finds_lost: bool) -> Spent:
        """Delete the note of a call that was sent, and if they are found those of lost tries."""
        delete = f"DELETE FROM failed_calls WHERE {_KEY} AND reason = ?"  # noqa: S608 - our own names
        self._connection.execute(delete, (*astuple(key), SENT))
        if not finds_lost:
            return Spent()
        return Spent(unpriced=-self._connection.execute(delete, (*astuple(key), LOST)).rowcount)

    def _add_failed_call(self, row: FailedCallRow) -> Spent:
        """Insert a row with the next number of its call. Returns what it adds to the meter."""
        (number,) = self._connection.execute(
            f"SELECT ifnull(max(number), -1) + 1 FROM failed_calls WHERE {_KEY}",  # noqa: S608 - our own names
            (row.episode, row.ply, row.seat, row.attempt),
        ).fetchone()
        self._connection.execute(_INSERT_FAILED_CALL, _values(replace(row, number=number)))
        return Spent() if row.reason == SENT else usage_of_failure(row)

    def spent(self) -> Spent:
        """Return what all processes have spent so far."""
        with raise_results_errors(self.path):
            return read_meter(self._connection)

    def spent_by_model(self) -> dict[str, tuple[int, Spent]]:
        """Return the number of each model's stored replies, and what they cost."""
        with raise_results_errors(self.path):
            return read_by_model(self._connection)

    def put_episode(self, row: EpisodeRow, moves: Collection[MoveRow]) -> None:
        """Store an episode with its moves; a failed one with the same id is replaced.

        If the episode has not failed, its calls are deleted from the journal, because its moves
        contain them.
        """
        with raise_results_errors(self.path), transaction(self._connection):
            execute = self._connection.execute
            execute("DELETE FROM moves WHERE episode = ?", (row.episode,))
            execute(_INSERT_EPISODE, _values(row))
            self._connection.executemany(_INSERT_MOVE, map(_values, moves))
            if row.status != "failed":
                execute("DELETE FROM calls WHERE episode = ?", (row.episode,))

    def close(self) -> None:
        """Close the file. The last process to close it rewrites it in canonical form."""
        self._connection.close()
        with self._claims.leave() as last:
            if last:
                rewrite(self._file)

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def check_results(path: Path, experiment: ExperimentRow) -> None:
    """Check that a Store could be opened, without writing. Raises ResultsError like Store."""
    with raise_results_errors(path):
        if path.exists():
            with closing(connect(path, empty=True)) as connection:
                _check_owner(connection, path, experiment)
            return
        folder = next(parent for parent in path.absolute().parents if parent.exists())
        if not folder.is_dir():
            raise NotADirectoryError(None, f"{folder} is not a folder")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(None, f"{folder} cannot be written to")


def _check_owner(connection: sqlite3.Connection, path: Path, experiment: ExperimentRow) -> None:
    """Raise ResultsError if the file has the results of another experiment."""
    if not connection.execute("SELECT 1 FROM sqlite_master").fetchone():
        return
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


def _find_run_id(connection: sqlite3.Connection, run_id: str) -> str:
    """Return the id of the runs over this file; store one if it has none."""
    connection.execute(RUN)
    row = connection.execute("SELECT id FROM run").fetchone()
    if row and re.fullmatch("[0-9a-f]{16}", row[0]):
        return str(row[0])
    run_id = run_id or secrets.token_hex(8)
    connection.execute("DELETE FROM run")
    connection.execute("INSERT INTO run VALUES (?)", (run_id,))
    return run_id


def _make_row(key: CallKey, reason: str) -> FailedCallRow:
    return FailedCallRow(key.episode, key.ply, key.seat, key.attempt, 0, reason)


def _make_insert(table: str, row: type[EpisodeRow | MoveRow | FailedCallRow]) -> str:
    names = [field.name for field in fields(row)]
    places = ", ".join("?" * len(names))
    return f"INSERT OR REPLACE INTO {table} ({', '.join(names)}) VALUES ({places})"  # noqa: S608 - our own names


_INSERT_EPISODE = _make_insert("episodes", EpisodeRow)
_INSERT_MOVE = _make_insert("moves", MoveRow)
_INSERT_FAILED_CALL = _make_insert("failed_calls", FailedCallRow)


def _values(row: EpisodeRow | MoveRow | FailedCallRow) -> list[Any]:
    """Return a row's columns; tuples become JSON lists."""
    return [
        json.dumps(value, separators=(",", ":")) if isinstance(value, tuple) else value
        for value in (getattr(row, field.name) for field in fields(row))
    ]
