"""Writes episodes and replies. A stored reply survives a kill of the process."""

from __future__ import annotations

import hashlib
import platform
import secrets
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import astuple, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from arena.agents.calls import ModelReply
from arena.results.database import (
    raise_results_errors,
    transaction,
)
from arena.results.opening import open_to_write
from arena.results.reader import Reader, make_query
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
    SUMS,
    Spent,
    add_spent,
    read_by_model,
    read_spent,
    sum_notes,
    usage_of_failure,
    usage_of_reply,
)
from arena.results.writer import Writer

_KEY = "episode = ? AND ply = ? AND seat = ? AND attempt = ?"


class Store:
    """A file of episodes, open for an experiment to add to it.

    Several processes may have the file open, each with one Store (see claims.py). When a
    method returns, its changes survive the end of the process. Every method raises
    ResultsError if the disk fails.

    run_id: see rows.make_request_id. The same in all processes and runs over the file.
    """

    def __init__(
        self,
        path: Path,
        experiment: ExperimentRow,
        models: Sequence[ModelRow],
        run_id: str = "",
        *,
        network_disk: bool = False,
    ) -> None:
        """Open or create the file and its folder.

        run_id: for a file that has none; made at random if it is empty. network_disk: allow a
        network file system.

        Raises ResultsError if the file is not a results file of this release, is on a network
        file system, or cannot be written.
        """
        self.path = path
        self._experiment = experiment
        self._models = models
        self._run: int | None = None
        with ExitStack() as files:
            self._connection, self.run_id, self._claims = files.enter_context(
                open_to_write(path, run_id, network_disk=network_disk)
            )
            self._writer = Writer(self._connection)
            with self._transaction():
                self._connection.execute(
                    "INSERT OR REPLACE INTO experiments VALUES (?, ?)", astuple(experiment)
                )
                self._players = self._writer.put_players(experiment.name, models)
            self._files = files.pop_all()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with raise_results_errors(self.path):
            try:
                with transaction(self._connection):
                    yield
            except BaseException:
                self._writer.forget()
                self._run = None
                raise

    def _find_run(self) -> int:
        """Return the id of this process's row in the table runs; the first use stores it."""
        if self._run is None:
            self._run = self._connection.execute(
                "INSERT INTO runs (key, experiment, started, arena, client, open_spiel, python,"  # noqa: S608 - our own names
                f" host, {', '.join(SUMS)}) VALUES (?, ?, ?, ?, ?, ?, ?, ?{', 0' * len(SUMS)})",
                (secrets.token_hex(16), self._experiment.name, int(time.time()), *_describe_host()),
            ).lastrowid
        return self._run or 0

    def statuses(self, episodes: Iterable[str]) -> dict[str, str]:
        """Return the status of each of these episodes that is stored, by key."""
        with raise_results_errors(self.path):
            execute = self._connection.execute
            execute("CREATE TEMP TABLE wanted (key TEXT PRIMARY KEY) WITHOUT ROWID")
            try:
                with transaction(self._connection):
                    self._connection.executemany(
                        "INSERT OR IGNORE INTO wanted VALUES (?)", ((key,) for key in episodes)
                    )
                return dict(execute("SELECT key, status FROM wanted JOIN episodes USING (key)"))
            finally:
                execute("DROP TABLE temp.wanted")

    def status(self, episode: str) -> str | None:
        """Return the status of an episode; None if it is not stored."""
        with raise_results_errors(self.path):
            row = self._connection.execute(
                "SELECT status FROM episodes WHERE key = ?", (episode,)
            ).fetchone()
        return str(row[0]) if row else None

    def answered(self, episodes: Iterable[str]) -> list[CallKey]:
        """Return the calls of these episodes, without those of failed ones."""
        with raise_results_errors(self.path):
            reader = Reader(self._connection, make_query(self._experiment, episodes, self._models))
            try:
                return [
                    CallKey(episode.episode, move.ply, move.seat, move.attempt)
                    for episode in reader.episodes()
                    if episode.status != "failed"
                    for move in reader.moves(episode)
                    if move.model is not None
                ]
            finally:
                self._connection.execute("DROP TABLE temp.wanted")

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

    def begin_call(self, key: CallKey, most: int | None = None) -> Spent:
        """Note that a call is sent. Returns what all processes have spent.

        If no other method stores its outcome, the note stays in the file as lost, because the
        provider may bill the call. most: the most that it can cost, in 10^-12 US dollars.
        """
        with self._transaction():
            place = (*astuple(key), SENT)
            lost = sum_notes(self._connection, f"{_KEY} AND reason = ?", place)
            self._connection.execute(
                f"UPDATE failed_calls SET reason = '{LOST}' WHERE {_KEY} AND reason = ?",  # noqa: S608 - our own names
                place,
            )
            self._add_failed_call(_make_row(key, SENT, most))
            return self._add_spent(lost)

    def put_call(self, key: CallKey, request: str, reply: ModelReply) -> tuple[ModelReply, Spent]:
        """Store a reply. Returns the reply to use, and what all processes have spent.

        If the call has a stored reply already, that reply is kept and returned.
        """
        with self._transaction():
            added = self._connection.execute(
                "INSERT INTO calls VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (key.episode, key.ply, key.seat, key.attempt, request, reply_to_json(reply)),
            )
            again = not added.rowcount
            # A replayed reply has the usage of the call that was paid for. That counts once.
            usage = Spent() if again and reply.replayed else usage_of_reply(reply)
            usage += self._end_call(key, reply.replayed or reply.finds_lost)
            for _ in range(reply.unknown_attempts):
                row = _make_row(key, "UNKNOWN", reply.max_cost_picousd)
                usage += self._add_failed_call(row)
            spent = self._add_spent(usage)
            if again and (stored := self.call(key)):
                _, reply = stored
        return reply, spent

    def put_failed_calls(
        self, key: CallKey, rows: Sequence[FailedCallRow], finds_lost: bool = False
    ) -> Spent:
        """Store the usage of a call without a reply. Returns what all processes have spent.

        finds_lost: the rows include the usage of earlier tries of the call, which were lost.
        """
        with self._transaction():
            usage = self._end_call(key, finds_lost)
            for row in rows:
                usage += self._add_failed_call(row)
            return self._add_spent(usage)

    def _end_call(self, key: CallKey, finds_lost: bool) -> Spent:
        """Delete the note that a call was sent; with finds_lost, also the notes of lost tries."""
        condition = f"{_KEY} AND reason = ?"
        delete = f"DELETE FROM failed_calls WHERE {condition}"  # noqa: S608 - our own names
        self._connection.execute(delete, (*astuple(key), SENT))
        if not finds_lost:
            return Spent()
        lost = (*astuple(key), LOST)
        found = sum_notes(self._connection, condition, lost)
        self._connection.execute(delete, lost)
        return -found

    def _add_failed_call(self, row: FailedCallRow) -> Spent:
        """Insert a row with the next number of its call. Returns what it adds to the spending."""
        self._writer.put_failed_call(row, self._find_run())
        return Spent() if row.reason == SENT else usage_of_failure(row)

    def _add_spent(self, usage: Spent) -> Spent:
        add_spent(self._connection, self._find_run(), usage)
        return read_spent(self._connection, self._experiment.name)

    def spent(self) -> Spent:
        """Return what all processes have spent for this experiment so far."""
        with raise_results_errors(self.path):
            return read_spent(self._connection, self._experiment.name)

    def spent_by_model(self) -> dict[str, tuple[int, Spent]]:
        """Return the number of each model's stored replies, and what they cost."""
        with raise_results_errors(self.path):
            return read_by_model(self._connection)

    def put_episode(self, row: EpisodeRow, moves: Collection[MoveRow]) -> None:
        """Store an episode with its moves. Does nothing if it is stored and has not failed.

        If the episode has not failed, its calls are deleted from the journal, because its moves
        contain them.
        """
        with self._transaction():
            stored = self._connection.execute(
                "SELECT status FROM episodes WHERE key = ?", (row.episode,)
            ).fetchone()
            if stored is None or stored[0] == "failed":
                row = replace(row, ended=row.ended or int(time.time()))
                self._writer.put_episode(row, tuple(moves), self._players, self._find_run())
            if row.status != "failed":
                self._connection.execute("DELETE FROM calls WHERE episode = ?", (row.episode,))

    def close(self) -> None:
        """Close the file. The last process to close it leaves a single file."""
        self._files.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _make_row(key: CallKey, reason: str, most: int | None) -> FailedCallRow:
    place = (key.episode, key.ply, key.seat, key.attempt, 0)
    return FailedCallRow(*place, reason, max_cost_picousd=most)


def _describe_host() -> tuple[str, ...]:
    """Return the columns of the table runs from arena to host."""
    packages = ("arena-llm-services", "arena-llm", "open_spiel")
    host = hashlib.blake2b(platform.node().encode(), digest_size=8).hexdigest()
    return (*map(_find_version, packages), platform.python_version(), host)


def _find_version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # it runs from a checkout
        return ""
