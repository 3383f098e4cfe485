"""Where an experiment's results are written, reply by reply: safe against kill -9."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from arena.agents.calls import ModelReply
from arena.results.claims import Claims
from arena.results.codec import reply_from_json, reply_to_json
from arena.results.database import connect, naming, tidy, transaction
from arena.results.opening import prepare
from arena.results.rows import CallKey, EpisodeRow, ExperimentRow, ModelRow, MoveRow
from arena.results.spending import Spent, add, by_model, read_meter

_KEY = "episode = ? AND ply = ? AND seat = ? AND attempt = ?"


class Store:
    """One experiment's results file, open for writing.

    Several processes may have it open, and one Store each; the disk must be a local one.
    What a method wrote is there, whatever becomes of the process; every method raises
    ResultsError where the disk refuses.
    """

    def __init__(self, path: Path, experiment: ExperimentRow, models: Sequence[ModelRow]) -> None:
        """Open or make the file and its folder.

        Raises ResultsError: the file is of another experiment or something else, or
        cannot be written.
        """
        self.path = path
        with naming(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            # Where a link leads to is what is written anew in the end.
            self._file = path.resolve()
            self._claims = Claims(self._file.with_name(f"{self._file.name}.lock"))
            try:
                self._connection = connect(path, write=True)
                try:
                    prepare(self._connection, path, experiment, models)
                except BaseException:
                    self._connection.close()
                    raise
            except BaseException:
                with self._claims.leaving():
                    raise

    def statuses(self) -> dict[str, str]:
        """Status of each episode that has a row, by its id."""
        with naming(self.path):
            return dict(self._connection.execute("SELECT episode, status FROM episodes"))

    def status(self, episode: str) -> str | None:
        """Status of one episode; None where it has no row."""
        with naming(self.path):
            found = self._connection.execute(
                "SELECT status FROM episodes WHERE episode = ?", (episode,)
            ).fetchone()
        return str(found[0]) if found else None

    def answered(self) -> Iterator[CallKey]:
        """The calls of all episodes that ended well."""
        with naming(self.path):
            for row in self._connection.execute(
                "SELECT episode, ply, seat, attempt FROM moves JOIN episodes USING (episode)"
                " WHERE model IS NOT NULL AND episodes.status <> 'failed'"
            ):
                yield CallKey(*row)

    def claim(self, episode: str) -> bool:
        """Take an episode for this process; False where another one plays it.

        A claim ends with `release`, or with the process.
        """
        with naming(self.path):
            return self._claims.take(episode)

    def release(self, episode: str) -> None:
        """Give up a claim."""
        with naming(self.path):
            self._claims.release(episode)

    def call(self, key: CallKey) -> tuple[str, ModelReply] | None:
        """The stored request and reply of a call, if its episode has not ended well."""
        with naming(self.path):
            row = self._connection.execute(
                f"SELECT request, reply FROM calls WHERE {_KEY}",  # noqa: S608 - names of our own
                _of(key),
            ).fetchone()
            return row and (row[0], reply_from_json(row[1]))

    def put_call(self, key: CallKey, request: str, reply: ModelReply) -> tuple[ModelReply, Spent]:
        """Store a reply; returns the one to use, and what all processes spent with it.

        Where a reply to the same call is stored already, that one stays and is used.
        """
        with naming(self.path), transaction(self._connection):
            execute = self._connection.execute
            added = execute(
                "INSERT INTO calls VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (*_of(key), request, reply_to_json(reply)),
            )
            spent = add(self._connection, reply)
            if not added.rowcount and (stored := self.call(key)):
                _, reply = stored
        return reply, spent

    def spent(self) -> Spent:
        """What was spent so far by all processes."""
        with naming(self.path):
            return read_meter(self._connection)

    def spent_by_model(self) -> dict[str, tuple[int, Spent]]:
        """How many replies of each model are here, and what they took."""
        with naming(self.path):
            return by_model(self._connection)

    def put_episode(self, row: EpisodeRow, moves: Collection[MoveRow]) -> None:
        """Store an episode with its moves, in place of a failed one.

        If it ended well, its calls leave the journal: they are in its moves.
        """
        with naming(self.path), transaction(self._connection):
            execute = self._connection.execute
            execute("DELETE FROM moves WHERE episode = ?", (row.episode,))
            execute(_EPISODE, _values(row))
            self._connection.executemany(_MOVE, map(_values, moves))
            if row.status != "failed":
                execute("DELETE FROM calls WHERE episode = ?", (row.episode,))

    def close(self) -> None:
        """Close the file. The last process leaves it in canonical form."""
        self._connection.close()
        with self._claims.leaving() as last:
            if last:
                tidy(self._file)

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _of(key: CallKey) -> tuple[str, int, int, int]:
    return key.episode, key.ply, key.seat, key.attempt


def _insert(table: str, row: type[EpisodeRow | MoveRow]) -> str:
    names = [field.name for field in fields(row)]
    places = ", ".join("?" * len(names))
    return f"INSERT OR REPLACE INTO {table} ({', '.join(names)}) VALUES ({places})"  # noqa: S608 - names of our own


_EPISODE = _insert("episodes", EpisodeRow)
_MOVE = _insert("moves", MoveRow)


def _values(row: EpisodeRow | MoveRow) -> list[Any]:
    """Its columns; what is a tuple becomes a JSON list."""
    return [
        json.dumps(value, separators=(",", ":")) if isinstance(value, tuple) else value
        for value in (getattr(row, field.name) for field in fields(row))
    ]
