"""Reads a results file, and only that: no configuration, no backend, no clock."""

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

from arena.results.database import ResultsError, connect, naming
from arena.results.rows import PLAYED, EpisodeRow, ModelRow, MoveRow

COLUMNS = tuple(field.name for field in fields(MoveRow))
#: What may be long; the tables do without.
TEXTS = ("problem", "legal_actions", "board", "prompt", "reply", "reasoning")
NUMBERS = ("latency_ms", "cost_usd")

#: What the columns hold that are JSON.
_AGENTS = TypeAdapter(tuple[str, ...])
_RETURNS = TypeAdapter(tuple[float, ...])
_LEGAL = TypeAdapter(tuple[tuple[int, str], ...])

#: Characters of an agent's or a game's name.
LONGEST_NAME = 10_000


class UnreadableRow(Exception):
    """A row that cannot be what the schema says."""


class Results:
    """One snapshot of a results file, though others may be writing to it."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        execute = connection.execute
        row = execute("SELECT name, config FROM experiments").fetchone()
        self.name: str = row[0] if row else ""
        self.config: str = row[1] if row else "{}"
        self.episodes = tuple(
            map(_episode, execute("SELECT * FROM episodes ORDER BY game, number, episode"))
        )
        listed = execute("SELECT agent, type, model, config FROM models")
        known = {row["agent"]: ModelRow(*row) for row in listed}
        played = {agent for episode in self.episodes for agent in episode.agents}
        self.participants: Mapping[str, ModelRow] = known | {
            agent: ModelRow(agent, "unknown", None, "{}") for agent in sorted(played - set(known))
        }
        for name in (*self.participants, *(episode.game for episode in self.episodes)):
            if len(name) > LONGEST_NAME:
                raise UnreadableRow(f"the name {name[:50]!r}... has {len(name):,} characters")
        #: Episodes that have replies in the journal and are not in the file yet.
        self.unfinished: int = execute(
            "SELECT COUNT(DISTINCT episode) FROM calls"
            " WHERE episode NOT IN (SELECT episode FROM episodes)"
        ).fetchone()[0]

    def light_moves(self) -> Iterator[tuple[EpisodeRow, list[MoveRow]]]:
        """Each episode with its rows in the order of play, less what may be long (TEXTS)."""
        light = ", ".join(f"NULL AS {name}" if name in TEXTS else name for name in COLUMNS)
        query = (
            f"SELECT {light} FROM moves"  # noqa: S608 - names of our own
            " WHERE episode IN (SELECT episode FROM episodes) ORDER BY episode, ply, seat, attempt"
        )
        rows = groupby(map(_move, self._connection.execute(query)), attrgetter("episode"))
        known = {episode.episode: episode for episode in self.episodes}
        for name, moves in rows:
            if name not in known:
                raise UnreadableRow(f"the moves of {name!r} are not in the order of their key")
            episode, listed = known.pop(name), list(moves)
            for move in listed:
                if move.agent is not None and move.agent not in episode.agents:
                    raise UnreadableRow(f"a move of {name!r}: {move.agent!r} does not play there")
            yield episode, listed
        yield from ((episode, []) for episode in known.values())

    def moves(self, episode: str) -> list[MoveRow]:
        """One episode's rows, in the order of play, complete."""
        query = (
            f"SELECT {', '.join(COLUMNS)} FROM moves"  # noqa: S608 - names of our own
            " WHERE episode = ? ORDER BY ply, seat, attempt"
        )
        return [_move(row) for row in self._connection.execute(query, (episode,))]


@contextmanager
def open_results(path: Path) -> Iterator[Results]:
    """The results in a file. Raises ResultsError naming the file where it has none."""
    with closing(connect(path)) as connection, naming(path):
        connection.row_factory = sqlite3.Row
        # What a model wrote need not be UTF-8 for the rest to be readable.
        connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
        connection.execute("BEGIN")
        try:
            yield Results(connection)
        except UnreadableRow as error:
            raise ResultsError(f"{path}: {error}") from error


def _episode(row: sqlite3.Row) -> EpisodeRow:
    values: dict[str, Any] = dict(row)
    where = f"episode {row['episode']!r}"
    values["agents"] = _json(_AGENTS, f"{where}: agents", row["agents"])
    values["returns"] = _json(_RETURNS, f"{where}: returns", row["returns"])
    episode = EpisodeRow(**values)
    # An episode that does not say who won is counted, but never as a result.
    returns, seats = episode.returns or (), range(len(episode.agents))
    if episode.status in PLAYED and (
        len(returns) != len(seats) or not all(map(math.isfinite, returns))
    ):
        return replace(episode, status="failed", reason=f"returns are unusable: {row['returns']}")
    if episode.loser is not None and episode.loser not in seats:
        reason = f"loser is unusable: {episode.loser}"
        return replace(episode, status="failed", reason=reason, loser=None)
    return episode


def _move(row: sqlite3.Row) -> MoveRow:
    values: dict[str, Any] = dict(row)
    for name in NUMBERS:
        if values[name] is not None and not math.isfinite(values[name]):
            values[name] = None
    where = f"a move of {row['episode']!r}: legal_actions"
    values["legal_actions"] = _json(_LEGAL, where, row["legal_actions"])
    return MoveRow(**values)


def _json(kind: TypeAdapter[Any], where: str, text: str | None) -> Any:
    """The value of a column that holds JSON; None where it is NULL."""
    if text is None:
        return None
    try:
        return kind.validate_json(text)
    except ValidationError as error:
        raise UnreadableRow(f"{where}: {error.errors()[0]['msg']}") from error
