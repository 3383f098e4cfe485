"""Reads the tables of schema.sql as rows of rows.py."""

from __future__ import annotations

import json
import math
import sqlite3
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from pydantic import TypeAdapter

from arena.results.integrity import has_table
from arena.results.keys import hash_text, identify_players
from arena.results.rows import (
    PLAYED,
    EpisodeRow,
    ExperimentRow,
    FailedCallRow,
    ModelRow,
    MoveRow,
    ScoreRow,
    SeatRow,
    UnreadableRow,
    parse_json,
)
from arena.results.transcript import TranscriptError, decompress, unfold

_Lineup = TypeAdapter(tuple[int, ...])
_Returns = TypeAdapter(tuple[float, ...])
_Details = TypeAdapter(dict[str, int | dict[str, int]])
_Logprobs = TypeAdapter(tuple[tuple[int, float], ...])

#: Maximum length of a player's or a game's name.
MAX_NAME = 10_000

#: Episodes that are read together.
_AT_A_TIME = 500

_EPISODE = "id, key, game, lineup, deal, number, status, reason, loser, returns, plies, ended"
_SEAT_COLUMNS = tuple(field.name for field in fields(SeatRow) if field.name != "details")


@dataclass(frozen=True, slots=True)
class Query:
    """Which episodes of a file belong to an experiment, and how it calls their players.

    keys: of the episodes. names: by the key of the player. games: dotted paths of its own games,
    which a reader of the results may import.
    """

    name: str
    config: str
    keys: Sequence[str]
    names: Mapping[str, str]
    games: Collection[str] = ()


def make_query(
    experiment: ExperimentRow,
    episodes: Iterable[str],
    models: Iterable[ModelRow],
    games: Collection[str] = (),
) -> Query:
    """Return the query for the episodes of an experiment. games: see Query."""
    players = identify_players(models).items()
    names = {hash_text(identity): name for name, (identity, _) in players}
    return Query(experiment.name, experiment.config, tuple(episodes), names, games)


class Reader:
    """The episodes of a file.

    query: restricts the reader to an experiment; None: everything in the file. players: all players
    by their id; names: the name of each. name, config: of the experiment, if the file or the query
    has only one.
    """

    def __init__(self, connection: sqlite3.Connection, query: Query | None = None) -> None:
        self._execute = connection.execute
        self._where = "1"
        self._has_scores = has_table(connection, "scores")
        self.name, self.config = self._find_experiment()
        if query is not None:
            self.name, self.config = query.name, query.config
            self._execute("CREATE TEMP TABLE wanted (key TEXT PRIMARY KEY) WITHOUT ROWID")
            connection.executemany(
                "INSERT OR IGNORE INTO wanted VALUES (?)", ((key,) for key in query.keys)
            )
            self._where = "episodes.key IN (SELECT key FROM wanted)"
        self.players: dict[int, ModelRow] = {}
        self._keys: dict[int, str] = {}
        for number, key, kind, model, config in self._execute(
            "SELECT id, key, type, model, config FROM players ORDER BY id"
        ):
            self.players[number] = ModelRow("", kind, model, config)
            self._keys[number] = key
        self._played = self._find_played()
        self.names = self._name_players(query.names if query else None)
        for number, name in self.names.items():
            self.players[number] = replace(self.players[number], agent=name)
        self._lineups: dict[str, tuple[str, ...]] = {}
        self._games: dict[int, str] = dict(self._execute("SELECT id, game FROM games"))
        self._dictionaries: dict[int, bytes] = {}
        for name in (*self.names.values(), *self._games.values()):
            if len(name) > MAX_NAME:
                raise UnreadableRow(f"the name {name[:50]!r}... has {len(name):,} characters")

    @property
    def participants(self) -> dict[str, ModelRow]:
        """The players that have played, and others whose names are not taken, by name."""
        return {name: self.players[number] for number, name in self.names.items()}

    def _find_experiment(self) -> tuple[str, str]:
        rows = self._execute("SELECT name, config FROM experiments LIMIT 2").fetchall()
        return (rows[0][0], rows[0][1]) if len(rows) == 1 else ("", "{}")

    def _find_played(self) -> set[int]:
        lineups = self._execute(f"SELECT DISTINCT lineup FROM episodes WHERE {self._where}")  # noqa: S608 - our own names
        played = {player for (text,) in lineups for player in parse_json(_Lineup, "lineup", text)}
        if self._has_scores and self._where == "1":
            played |= {player for (player,) in self._execute("SELECT DISTINCT player FROM scores")}
        for player in played - self.players.keys():
            raise UnreadableRow(f"an episode or a score has the player {player}, who is not stored")
        return played

    def _name_players(self, wanted: Mapping[str, str] | None) -> dict[int, str]:
        """Return the name of each player to show.

        wanted: the names of a query, by key. Without one, a player has its latest name. Players
        with the same name get a part of their key too, and are left out if they have not played.
        """
        if wanted is not None:
            return {number: wanted[key] for number, key in self._keys.items() if key in wanted}
        latest: dict[int, str] = {}
        for player, name in self._execute("SELECT player, name FROM names ORDER BY id"):
            if player in self.players:
                latest[player] = name
        for player in self._played:
            latest.setdefault(player, f"player {player}")
        shared = Counter(latest[player] for player in self._played)
        names: dict[int, str] = {}
        for player, name in sorted(latest.items()):
            if player not in self._played and shared[name]:
                continue
            names[player] = f"{name}#{self._keys[player][:6]}" if shared[name] > 1 else name
        return names

    def episodes(self) -> list[EpisodeRow]:
        """Return the episodes, by game, number and line-up."""
        versions = self._versions()
        rows = self._execute(f"SELECT {_EPISODE} FROM episodes WHERE {self._where}")  # noqa: S608 - our own names
        episodes = [self._make_episode(row, versions.get(row[0], ())) for row in rows]
        return sorted(
            episodes, key=lambda row: (row.game, row.number, row.agents, row.seed, row.episode)
        )

    def find(self, key: str) -> EpisodeRow | None:
        """Return an episode; None if it is not stored."""
        row = self._execute("SELECT id FROM episodes WHERE key = ?", (key,)).fetchone()
        return next(self.pick([row[0]])) if row else None

    def pick(self, numbers: Sequence[int]) -> Iterator[EpisodeRow]:
        """Yield the episodes with these ids, in the same order."""
        for first in range(0, len(numbers), _AT_A_TIME):
            part = numbers[first : first + _AT_A_TIME]
            listed = ", ".join(map(str, part))
            versions = self._versions(f"WHERE episode IN ({listed})")
            rows = self._execute(f"SELECT {_EPISODE} FROM episodes WHERE id IN ({listed})")  # noqa: S608 - whole numbers
            found = {row[0]: row for row in rows}
            for number in part:
                yield self._make_episode(found[number], versions.get(number, ()))

    def select(self, sql: str, *values: str | int) -> sqlite3.Cursor:
        """Run a query. {wanted} in it stands for the condition that selects the episodes."""
        return self._execute(sql.format(wanted=self._where), values)

    def _make_episode(self, row: Sequence[Any], versions: tuple[str, ...]) -> EpisodeRow:
        _, key, game, lineup, deal, number, status, reason, loser, returns, plies, ended = row
        return _check(
            EpisodeRow(
                key,
                self.game(game),
                number,
                self.agents(lineup),
                deal,
                status,
                plies,
                reason,
                loser,
                parse_returns(returns, f"episode {key!r}: returns"),
                versions if any(versions) else (),
                ended,
            )
        )

    def moves(self, episode: EpisodeRow, without: Collection[str] = ()) -> list[MoveRow]:
        """Return all moves of an episode in the order of play.

        without: columns to leave out.
        """
        row = self._execute(
            "SELECT game, moves FROM transcripts JOIN episodes ON episodes.id = transcripts.episode"
            " WHERE key = ?",
            (episode.episode,),
        ).fetchone()
        if row is None:
            return []
        if not isinstance(row[1], bytes):
            raise UnreadableRow("transcripts.moves holds a value that is not a BLOB")
        try:
            moves = unfold(decompress(row[1], self._dictionary(row[0])), episode, without)
        except TranscriptError as error:
            raise UnreadableRow(f"episode {episode.episode!r}: {error}") from error
        return [
            replace(move, latency_ms=None)
            if move.latency_ms is not None and not math.isfinite(move.latency_ms)
            else move
            for move in moves
        ]

    def seats_of(self, episode: EpisodeRow) -> list[SeatRow]:
        """Return the counts of an episode's seats, in seat order."""
        columns = ", ".join(f"seats.{name}" for name in _SEAT_COLUMNS)
        rows = self._execute(
            f"SELECT {columns}, details FROM seats JOIN episodes ON episodes.id = seats.episode"  # noqa: S608 - our own names
            " WHERE key = ? ORDER BY seat",
            (episode.episode,),
        ).fetchall()
        if [row[0] for row in rows] != list(range(len(episode.agents))):
            raise UnreadableRow(f"episode {episode.episode!r}: its seats do not fit its line-up")
        return [_make_seat(row[:-1], parse_details(row[-1])) for row in rows]

    def scores(self) -> Iterator[ScoreRow]:
        """Yield the scores of information states, of the players that have a name."""
        if not self._has_scores:
            return
        for player, game, version, state, logprobs in self._execute(
            "SELECT player, game, version, state, logprobs FROM scores"
        ):
            if player in self.names:
                yield ScoreRow(
                    self.names[player],
                    self.game(game),
                    version,
                    state,
                    parse_json(_Logprobs, "scores.logprobs", logprobs),
                )

    def failed_calls(self) -> Iterator[FailedCallRow]:
        """Yield the calls that failed although they took something."""
        condition = "" if self._where == "1" else " WHERE episode IN (SELECT key FROM wanted)"
        columns = ", ".join(field.name for field in fields(FailedCallRow))
        for row in self._execute(f"SELECT {columns} FROM failed_calls{condition}"):  # noqa: S608 - our own names
            yield FailedCallRow(*row)

    def count_unfinished(self) -> int:
        """Return the number of episodes that have replies but no result."""
        condition = "" if self._where == "1" else " AND episode IN (SELECT key FROM wanted)"
        (count,) = self._execute(
            "SELECT count(DISTINCT episode) FROM calls"  # noqa: S608 - our own names
            f" WHERE episode NOT IN (SELECT key FROM episodes){condition}"
        ).fetchone()
        return int(count)

    def _versions(self, where: str = "") -> dict[int, tuple[str, ...]]:
        """Return the versions of the seats of each episode that has any, by the episode's id.

        where: which episodes, as SQL.
        """
        versions: dict[int, list[str]] = {}
        for episode, version in self._execute(
            f"SELECT episode, version FROM seats {where} ORDER BY episode, seat"  # noqa: S608 - ids
        ):
            versions.setdefault(episode, []).append(version)
        return {number: tuple(found) for number, found in versions.items() if any(found)}

    def agents(self, lineup: str) -> tuple[str, ...]:
        """Return the names of the players of a stored line-up."""
        if (agents := self._lineups.get(lineup)) is None:
            agents = tuple(map(self.player, parse_json(_Lineup, "lineup", lineup)))
            self._lineups[lineup] = agents
        return agents

    def player(self, player: int) -> str:
        """Return the name of a player, by its id."""
        if (name := self.names.get(player)) is None:
            raise UnreadableRow(f"an episode has the player {player}, who is not stored")
        return name

    def game(self, game: int) -> str:
        """Return OpenSpiel's string of a game, by its id."""
        if (name := self._games.get(game)) is None:
            raise UnreadableRow(f"an episode has the game {game}, which is not stored")
        return name

    def _dictionary(self, game: int) -> bytes:
        if game not in self._dictionaries:
            row = self._execute("SELECT dictionary FROM games WHERE id = ?", (game,)).fetchone()
            self._dictionaries[game] = (row and row[0]) or b""
        return self._dictionaries[game]


def _make_seat(values: Sequence[Any], details: dict[str, Any]) -> SeatRow:
    return SeatRow(**dict(zip(_SEAT_COLUMNS, values, strict=True)), details=details)


def _check(episode: EpisodeRow) -> EpisodeRow:
    """Return the episode, as failed if its result is unusable: it must not count as a result."""
    reason = explain_unusable(episode.status, len(episode.agents), episode.loser, episode.returns)
    return replace(episode, status="failed", reason=reason, loser=None) if reason else episode


def explain_unusable(
    status: str, seats: int, loser: int | None, returns: Sequence[float] | None
) -> str:
    """Return why a stored result cannot count as one; "" if it can."""
    if status in PLAYED and (
        len(returns or ()) != seats or not all(map(math.isfinite, returns or ()))
    ):
        return f"returns are unusable: {json.dumps(returns)}"
    if loser is not None and loser not in range(seats):
        return f"loser is unusable: {loser}"
    return ""


def parse_returns(text: str | None, where: str) -> tuple[float, ...] | None:
    """Return stored returns. Raises UnreadableRow, which names where they are."""
    found: tuple[float, ...] | None = parse_json(_Returns, where, text)
    return found


def parse_details(text: str | None) -> dict[str, Any]:
    """Return the column details of the table seats. Raises UnreadableRow."""
    return parse_json(_Details, "seats.details", text) or {}
