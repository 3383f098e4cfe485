"""Inserts episodes into the tables of schema.sql."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from arena.results.keys import hash_text, identify_players
from arena.results.rows import (
    EpisodeRow,
    FailedCallRow,
    ModelRow,
    MoveRow,
    Origin,
    ScoreRow,
    SeatRow,
)
from arena.results.transcript import (
    compress,
    count_seats,
    fold,
    hash_trajectory,
    make_dictionary,
)


class Writer:
    """Writes to one connection, in transactions of the caller.

    After a transaction that was not committed, call `forget`.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._games: dict[str, tuple[int, bytes]] = {}
        self._origins: dict[Origin, int] = {}

    def forget(self) -> None:
        """Forget the ids of rows that may not be stored."""
        self._games.clear()
        self._origins.clear()

    def put_players(self, experiment: str, models: Sequence[ModelRow]) -> dict[str, int]:
        """Store the players of an experiment and their names. Returns the id of each, by name."""
        identities = identify_players(models)
        ids: dict[str, int] = {}
        for row in models:
            identity, copy = identities[row.agent]
            key = hash_text(identity)
            ids[row.agent] = self.put_player(key, row.type, row.model, row.config, copy)
        self.put_names((experiment, name, player) for name, player in ids.items())
        return ids

    def put_player(self, key: str, kind: str, model: str | None, config: str, copy: int) -> int:
        """Store a player, if it is not stored yet. Returns its id."""
        columns = ("key", "type", "model", "config", "copy")
        return self._find("players", columns, (key, kind, model, config, copy), key=1)

    def put_names(self, names: Iterable[tuple[str, str, int]]) -> None:
        """Store rows of (experiment, name, player). The last ones are the latest names."""
        self._connection.executemany(
            "INSERT OR REPLACE INTO names (experiment, name, player) VALUES (?, ?, ?)", names
        )

    def put_episode(
        self,
        row: EpisodeRow,
        moves: Sequence[MoveRow],
        players: Mapping[str, int],
        run: int | None,
    ) -> None:
        """Store an episode that has no result yet. A failed one with the same key is replaced.

        players: the ids of its players, by name.
        """
        execute = self._connection.execute
        self.delete_episode(row.episode)
        folded = fold(moves)
        game, dictionary = self._find_game(row.game)
        if not dictionary and any(move.prompt for move in moves):
            dictionary = self._set_dictionary(row.game, game, make_dictionary(folded))
        lineup = [players[agent] for agent in row.agents]
        returns = None if row.returns is None else json.dumps(row.returns, separators=(",", ":"))
        number = execute(
            _INSERT_EPISODE,
            (
                row.episode, game, json.dumps(lineup, separators=(",", ":")), row.seed, row.number,
                row.status, row.reason, row.loser, returns, row.plies, hash_trajectory(moves), run,
                row.ended,
            ),
        ).lastrowid  # fmt: skip
        for player, (seat, origins) in zip(lineup, count_seats(row, moves), strict=True):
            counts = [
                [self._find_origin(origin), answers, illegal]
                for origin, (answers, illegal) in origins.items()
            ]
            values: list[Any] = [getattr(seat, name) for name in _SEAT_COLUMNS]
            values += [_to_json(counts), _to_json(seat.details)]
            execute(_INSERT_SEAT, (number, player, *values))
        execute("INSERT INTO transcripts VALUES (?, ?)", (number, compress(folded, dictionary)))

    def delete_episode(self, key: str) -> None:
        """Delete an episode, if it is stored."""
        row = self._connection.execute("SELECT id FROM episodes WHERE key = ?", (key,)).fetchone()
        if row is not None:
            for table, column in (
                ("seats", "episode"),
                ("transcripts", "episode"),
                ("episodes", "id"),
            ):
                self._connection.execute(f"DELETE FROM {table} WHERE {column} = ?", row)  # noqa: S608 - our own names

    def put_failed_call(self, row: FailedCallRow, run: int | None) -> None:
        """Store a failed call with the next number of its call."""
        values = [getattr(row, name) for name in _FAILED_COLUMNS]
        self._connection.execute(_INSERT_FAILED_CALL, (*values, run))

    def put_scores(self, rows: Iterable[ScoreRow], players: Mapping[str, int]) -> None:
        """Store scores that are not stored yet. players: the ids of their players, by name."""
        self._connection.executemany(
            "INSERT INTO scores VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (
                (
                    players[row.agent],
                    self._find_game(row.game)[0],
                    row.version,
                    row.state,
                    json.dumps(row.logprobs, separators=(",", ":")),
                )
                for row in rows
            ),
        )

    def _find_game(self, game: str) -> tuple[int, bytes]:
        """Return the game's id and dictionary; the dictionary is empty if it has none yet."""
        if (found := self._games.get(game)) is not None:
            return found
        number = self._find("games", ("game",), (game,))
        (dictionary,) = self._connection.execute(
            "SELECT dictionary FROM games WHERE id = ?", (number,)
        ).fetchone()
        if dictionary is not None:
            self._games[game] = number, dictionary
        return number, dictionary or b""

    def _set_dictionary(self, game: str, number: int, dictionary: bytes) -> bytes:
        self._connection.execute(
            "UPDATE games SET dictionary = ? WHERE id = ?", (dictionary, number)
        )
        self._games[game] = number, dictionary
        return dictionary

    def _find_origin(self, origin: Origin) -> int:
        if (found := self._origins.get(origin)) is None:
            names = ("model", "provider", "region", "precision", "model_revision", "engine")
            found = self._find("origins", (*names, "enforcement"), origin)
            self._origins[origin] = found
        return found

    def _find(self, table: str, columns: Sequence[str], values: Sequence[Any], key: int = 0) -> int:
        """Return the id of a row, and insert it if it is not stored.

        key: the number of columns that identify it; 0: all.
        """
        known = columns[: key or None]
        where = " AND ".join(f"{name} = ?" for name in known)
        select = f"SELECT id FROM {table} WHERE {where}"  # noqa: S608 - our own names
        row = self._connection.execute(select, values[: key or None]).fetchone()
        if row is not None:
            return int(row[0])
        places = ", ".join("?" * len(columns))
        insert = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})"  # noqa: S608 - our own names
        return self._connection.execute(insert, values).lastrowid or 0


_INSERT_EPISODE = (
    "INSERT INTO episodes (key, game, lineup, deal, number, status, reason, loser, returns, plies,"
    " trajectory, run, ended) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_SEAT_COLUMNS = tuple(field.name for field in fields(SeatRow) if field.name != "details")
_INSERT_SEAT = (
    f"INSERT INTO seats (episode, player, {', '.join(_SEAT_COLUMNS)}, origins, details)"  # noqa: S608 - our own names
    f" VALUES (?, ?, {', '.join('?' * len(_SEAT_COLUMNS))}, ?, ?)"
)
_FAILED_COLUMNS = (
    "episode", "ply", "seat", "attempt", "reason", "prompt_tokens", "completion_tokens",
    "cost_picousd", "max_cost_picousd",
)  # fmt: skip
_INSERT_FAILED_CALL = """
INSERT INTO failed_calls (
    episode, ply, seat, attempt, reason, prompt_tokens, completion_tokens, cost_picousd,
    max_cost_picousd, run, number
) SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ifnull(max(number), -1) + 1 FROM failed_calls
WHERE episode = ?1 AND ply = ?2 AND seat = ?3 AND attempt = ?4
"""


def _to_json(value: Any) -> str | None:
    """Return JSON; None for an empty value."""
    return json.dumps(value, separators=(",", ":")) if value else None
