"""Reads and changes what a results file contains."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import fields
from pathlib import Path
from typing import Any

from arena.export.tables import TABLES
from arena.results.database import connect
from arena.results.reader import Reader
from arena.results.rows import MoveRow
from arena.results.transcript import compress, decompress
from arena.results.upgrade import open_to_read

_MODEL = [field.name for field in fields(MoveRow)].index("model")


def count_replies(path: Path) -> int:
    """The number of replies in the journal and in the episodes that have not failed."""
    rows = content(path)
    failed = {row[0] for row in rows["episodes"] if row[5] == "failed"}
    answered = [row for row in rows["moves"] if row[_MODEL] and row[0] not in failed]
    return len(rows["calls"]) + len(answered)


def content(path: Path) -> dict[str, list[Any]]:
    """All rows, also of the journal, except for when and by whom an episode was played."""
    with open_to_read(path) as connection:
        reader = Reader(connection)
        rows: dict[str, list[Any]] = {
            table.name: [list(row) for row in table.rows(reader)] for table in TABLES
        }
        rows["calls"] = connection.execute("SELECT * FROM calls").fetchall()
        rows["experiments"] = connection.execute("SELECT * FROM experiments").fetchall()
    return rows


def select(path: Path, query: str) -> list[tuple[object, ...]]:
    """The rows of a query."""
    with closing(connect(path)) as connection:
        return connection.execute(query).fetchall()


def change_moves(path: Path, change: Callable[[dict[str, list[Any]]], object]) -> None:
    """Change the stored columns of each episode's moves, as another program could."""
    with closing(sqlite3.connect(path)) as connection, connection:
        rows = connection.execute(
            "SELECT transcripts.episode, moves, dictionary FROM transcripts JOIN episodes"
            " ON episodes.id = transcripts.episode JOIN games ON games.id = episodes.game"
        ).fetchall()
        for episode, blob, dictionary in rows:
            columns = json.loads(decompress(blob, dictionary or b""))
            change(columns)
            connection.execute(
                "UPDATE transcripts SET moves = ? WHERE episode = ?",
                (compress(json.dumps(columns).encode(), dictionary or b""), episode),
            )
