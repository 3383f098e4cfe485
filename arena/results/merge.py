"""Copies the episodes of results files into another one.

The result does not depend on the order of the files, and a file that is merged again changes
nothing. An episode that is in several files is kept once: an ended one rather than a failed one,
then the one that ended first. Its result never decides, because that would favour a player.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

from arena.results.database import raise_results_errors, transaction
from arena.results.opening import open_to_write
from arena.results.reader import Reader
from arena.results.rows import EpisodeRow, FailedCallRow, MoveRow
from arena.results.spending import SUMS
from arena.results.transcript import fold
from arena.results.upgrade import open_to_read
from arena.results.writer import Writer

#: Episodes in one transaction: other processes wait meanwhile.
_BATCH = 500


@dataclass(slots=True)
class Merged:
    """added: new episodes. known: those that the target has already. conflicts: those of them that
    ended with another content.
    """

    added: int = 0
    known: int = 0
    conflicts: int = 0


def merge(sources: Sequence[Path], target: Path, *, network_disk: bool = False) -> Merged:
    """Copy everything from the sources into the target, which is created if it does not exist.

    Raises ResultsError.
    """
    merged = Merged()
    with open_to_write(target, network_disk=network_disk) as opened:
        naming = [_Naming.read(opened.connection)]
        for path in sources:
            with open_to_read(path) as source, raise_results_errors(path):
                found = _Merge(source, opened.connection, merged)
                found.run()
                naming.append(_Naming.read(source, found.players))
        with raise_results_errors(target), transaction(opened.connection):
            _name_alike(opened.connection, naming)
    return merged


@dataclass(frozen=True, slots=True, order=True)
class _Naming:
    """The names of experiments and players in a file. The latest file decides.

    latest: when its latest run started, with the key of that run. names: the rows of the table
    names in their order, with the target's ids of the players.
    """

    latest: tuple[int, str]
    experiments: Sequence[tuple[str, str]]
    names: Sequence[tuple[str, str, int]]

    @classmethod
    def read(cls, file: sqlite3.Connection, players: Mapping[int, int] | None = None) -> _Naming:
        """players: the id in the target of each player; None: the same."""
        run = file.execute("SELECT started, key FROM runs ORDER BY started DESC, key DESC LIMIT 1")
        rows = file.execute("SELECT experiment, name, player FROM names ORDER BY id").fetchall()
        if players is not None:
            rows = [(*name, players[player]) for *name, player in rows if player in players]
        experiments = file.execute("SELECT name, config FROM experiments ORDER BY name")
        return cls(run.fetchone() or (0, ""), experiments.fetchall(), rows)


def _name_alike(target: sqlite3.Connection, naming: Sequence[_Naming]) -> None:
    """Give experiments and players the names of the latest file, in any order of the sources."""
    # Another process may have added names meanwhile.
    naming = [_Naming.read(target), *sorted(naming)]
    experiments = {name: config for found in naming for name, config in found.experiments}
    target.executemany("INSERT OR REPLACE INTO experiments VALUES (?, ?)", experiments.items())
    rows: dict[tuple[str, str, int], None] = {}
    for row in (row for found in naming for row in found.names):
        rows.pop(row, None)
        rows[row] = None
    if list(rows) != list(naming[0].names):
        Writer(target).put_names(rows)


class _Merge:
    """Copies one file. players: the id in the target of each player, by its id in the source."""

    def __init__(
        self, source: sqlite3.Connection, target: sqlite3.Connection, merged: Merged
    ) -> None:
        self._source = source
        self._target = target
        self._merged = merged
        self._from = Reader(source)
        self._writer = Writer(target)
        self.players: dict[int, int] = {}

    def run(self) -> None:
        target = self._target
        with transaction(target):
            target.executemany(
                "INSERT INTO experiments VALUES (?, ?) ON CONFLICT DO NOTHING",
                self._source.execute("SELECT name, config FROM experiments"),
            )
            players = self._copy_players()
            self._copy_runs()
        into = Reader(target)
        episodes = list(self._from.episodes())
        for first in range(0, len(episodes), _BATCH):
            with transaction(target):
                for episode in episodes[first : first + _BATCH]:
                    self._copy_episode(episode, players, into)
        with transaction(target):
            self._writer.put_scores(self._from.scores(), players)
            self._copy_calls()

    def _copy_players(self) -> dict[str, int]:
        """Returns the id of each player in the target, by its name in the source."""
        ids = self.players
        for number, *values in self._source.execute(
            "SELECT id, key, type, model, config, copy FROM players ORDER BY id"
        ):
            ids[number] = self._writer.put_player(*values)
        self._writer.put_names(
            (experiment, name, ids[player])
            for experiment, name, player in self._source.execute(
                "SELECT experiment, name, player FROM names ORDER BY id"
            )
            if player in ids
        )
        return {name: ids[number] for number, name in self._from.names.items()}

    def _copy_runs(self) -> None:
        names = "key, experiment, started, arena, client, open_spiel, python, host"
        # Of two copies of a run, the later one has the larger sums.
        larger = ", ".join(f"{name} = max({name}, excluded.{name})" for name in SUMS)
        columns = f"{names}, {', '.join(SUMS)}"
        places = ", ".join("?" * (8 + len(SUMS)))
        self._target.executemany(
            f"INSERT INTO runs ({columns}) VALUES ({places})"  # noqa: S608 - our own names
            f" ON CONFLICT (key) DO UPDATE SET {larger}",
            self._source.execute(f"SELECT {columns} FROM runs ORDER BY id"),  # noqa: S608 - our own names
        )

    def _copy_episode(self, episode: EpisodeRow, players: dict[str, int], into: Reader) -> None:
        moves = self._from.moves(episode)
        stored = into.find(episode.episode)
        if stored is not None:
            self._merged.known += 1
            ours, theirs = _rank(episode, moves), _rank(stored, into.moves(stored))
            if ours[2] != theirs[2] and not (ours[0] or theirs[0]):
                self._merged.conflicts += 1
            if ours >= theirs:
                return
        else:
            self._merged.added += 1
        (run,) = self._source.execute(
            "SELECT runs.key FROM episodes LEFT JOIN runs ON runs.id = run WHERE episodes.key = ?",
            (episode.episode,),
        ).fetchone()
        row = self._target.execute("SELECT id FROM runs WHERE key = ?", (run,)).fetchone()
        self._writer.put_episode(episode, moves, players, row and row[0])

    def _copy_calls(self) -> None:
        # Either of two replies to one call may stay. The smaller text does, in any order of files.
        self._target.executemany(
            "INSERT INTO calls VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE"
            " SET request = excluded.request, reply = excluded.reply"
            " WHERE (excluded.request, excluded.reply) < (request, reply)",
            self._source.execute(
                "SELECT episode, ply, seat, attempt, request, reply FROM calls"
                " WHERE episode NOT IN (SELECT key FROM episodes WHERE status <> 'failed')"
            ),
        )
        self._target.execute(
            "DELETE FROM calls WHERE episode IN (SELECT key FROM episodes WHERE status <> 'failed')"
        )
        self._copy_failed_calls()

    def _copy_failed_calls(self) -> None:
        """Equal failures of one call are counted, so that a copy of a file adds none."""
        stored = _count_failed_calls(Reader(self._target))
        for call, count in _count_failed_calls(self._from).items():
            for _ in range(count - stored[call]):
                self._writer.put_failed_call(call, None)


def _count_failed_calls(reader: Reader) -> Counter[FailedCallRow]:
    return Counter(replace(call, number=0) for call in reader.failed_calls())


def _rank(episode: EpisodeRow, moves: Sequence[MoveRow]) -> tuple[bool, int, str]:
    """Return the rank of an episode. Of two with one key, the one with the smaller rank is kept."""
    values: Any = (episode.status, episode.reason, episode.loser, episode.returns, episode.plies)
    digest = blake2b(repr(values).encode() + fold(moves), digest_size=16)
    return episode.status == "failed", episode.ended, digest.hexdigest()
