"""Reads a results file for the report."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import fields, replace
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from arena.results.database import ResultsError, connect, raise_results_errors
from arena.results.rows import PLAYED, EpisodeRow, FailedCallRow, ModelRow, MoveRow

COLUMNS = tuple(field.name for field in fields(MoveRow))
#: Columns that may be long, and that the tables do not need.
TEXTS = ("problem", "legal_actions", "board", "prompt", "reply", "reasoning", "tokens")

#: The types of the JSON columns.
_AGENTS = TypeAdapter(tuple[str, ...])
_RETURNS = TypeAdapter(tuple[float, ...])
_LEGAL = TypeAdapter(tuple[tuple[int, str], ...])

#: Maximum length of an agent's or a game's name.
MAX_NAME = 10_000


class UnreadableRow(Exception):
    """A row has values that the schema allows but the arena does not write."""


class Results:
    """A snapshot of a results file, even if another process is writing to it.

    config: the experiment's file as JSON. participants: all agents by name, including agents
    that have not played. unfinished: episodes that have replies but have not ended.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        execute = connection.execute
        row = execute("SELECT name, config FROM experiments").fetchone()
        self.name: str = row[0] if row else ""
        self.config: str = row[1] if row else "{}"
        self.episodes = tuple(
            map(_read_episode, execute("SELECT * FROM episodes ORDER BY game, number, episode"))
        )
        listed = execute("SELECT agent, type, model, config FROM models")
        participants = {row["agent"]: ModelRow(*row) for row in listed}
        played = {agent for episode in self.episodes for agent in episode.agents}
        for agent in sorted(played - participants.keys()):
            participants[agent] = ModelRow(agent, "unknown", None, "{}")
        self.participants: Mapping[str, ModelRow] = participants
        for name in (*self.participants, *(episode.game for episode in self.episodes)):
            if len(name) > MAX_NAME:
                raise UnreadableRow(f"the name {name[:50]!r}... has {len(name):,} characters")
        self.unfinished: int = execute(
            "SELECT COUNT(DISTINCT episode) FROM calls"
            " WHERE episode NOT IN (SELECT episode FROM episodes)"
        ).fetchone()[0]

    def light_moves(self) -> Iterator[tuple[EpisodeRow, list[MoveRow]]]:
        """Yield each episode with its moves in the order of play, without the columns in TEXTS."""
        light = ", ".join(f"NULL AS {name}" if name in TEXTS else name for name in COLUMNS)
        query = (
            f"SELECT {light} FROM moves"  # noqa: S608 - names of our own
            " WHERE episode IN (SELECT episode FROM episodes) ORDER BY episode, ply, seat, attempt"
        )
        rows = groupby(map(_read_move, self._connection.execute(query)), attrgetter("episode"))
        episodes = {episode.episode: episode for episode in self.episodes}
        for name, moves in rows:
            if name not in episodes:
                raise UnreadableRow(f"the moves of {name!r} are not in the order of their key")
            episode, listed = episodes.pop(name), list(moves)
            for move in listed:
                if move.agent is not None and move.agent not in episode.agents:
                    raise UnreadableRow(f"a move of {name!r}: {move.agent!r} does not play there")
            yield episode, listed
        yield from ((episode, []) for episode in episodes.values())

    def failed_calls(self) -> Iterator[tuple[EpisodeRow, FailedCallRow]]:
        """Yield the calls that failed although they took something, of the stored episodes."""
        episodes = {episode.episode: episode for episode in self.episodes}
        for row in self._connection.execute("SELECT * FROM failed_calls"):
            call = FailedCallRow(**dict(row))
            episode = episodes.get(call.episode)
            if episode is not None and 0 <= call.seat < len(episode.agents):
                yield episode, call

    def moves(self, episode: str) -> list[MoveRow]:
        """Return the moves of one episode in the order of play, with all columns."""
        query = (
            f"SELECT {', '.join(COLUMNS)} FROM moves"  # noqa: S608 - names of our own
            " WHERE episode = ? ORDER BY ply, seat, attempt"
        )
        return [_read_move(row) for row in self._connection.execute(query, (episode,))]


@contextmanager
def open_results(path: Path) -> Iterator[Results]:
    """Open a results file to read it. Raises ResultsError naming the file."""
    with closing(connect(path)) as connection, raise_results_errors(path):
        connection.row_factory = sqlite3.Row
        # Text that is not UTF-8 must not make the rest unreadable.
        connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
        connection.execute("BEGIN")
        try:
            yield Results(connection)
        except UnreadableRow as error:
            raise ResultsError(f"{path}: {error}") from error


def _read_episode(row: sqlite3.Row) -> EpisodeRow:
    values: dict[str, Any] = dict(row)
    where = f"episode {row['episode']!r}"
    values["agents"] = _parse_json(_AGENTS, f"{where}: agents", row["agents"])
    values["returns"] = _parse_json(_RETURNS, f"{where}: returns", row["returns"])
    episode = EpisodeRow(**values)
    # An episode without usable returns is counted as failed, never as a result.
    returns, seats = episode.returns or (), range(len(episode.agents))
    if episode.status in PLAYED and (
        len(returns) != len(seats) or not all(map(math.isfinite, returns))
    ):
        return replace(episode, status="failed", reason=f"returns are unusable: {row['returns']}")
    if episode.loser is not None and episode.loser not in seats:
        reason = f"loser is unusable: {episode.loser}"
        return replace(episode, status="failed", reason=reason, loser=None)
    return episode


def _read_move(row: sqlite3.Row) -> MoveRow:
    values: dict[str, Any] = dict(row)
    if values["latency_ms"] is not None and not math.isfinite(values["latency_ms"]):
        values["latency_ms"] = None
    where = f"a move of {row['episode']!r}: legal_actions"
    values["legal_actions"] = _parse_json(_LEGAL, where, row["legal_actions"])
    return MoveRow(**values)


def _parse_json(kind: TypeAdapter[Any], where: str, text: str | None) -> Any:
    """Return the value of a JSON column; None if it is NULL."""
    if text is None:
        return None
    try:
        return kind.validate_json(text)
    except ValidationError as error:
        raise UnreadableRow(f"{where}: {error.errors()[0]['msg']}") from error
