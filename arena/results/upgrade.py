"""Results files of release 0.1, which have costs in dollars (REAL) and fewer columns.

They are read through a view, and converted when an experiment continues.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from arena.results.rows import canonical_json, convert_old_reply

#: PRAGMA user_version of these files.
OLD_VERSION = 2

OLD_SCHEMA = (Path(__file__).parent / "schema_2.sql").read_text(encoding="utf-8")
OLD_METER = "CREATE TABLE meter (tokens INTEGER NOT NULL, cost_usd REAL NOT NULL)"

#: A floating point number of dollars, rounded to a whole number of 10^-12 dollars. Costs under
#: a thousand dollars become exactly the decimal number that was stored.
_COST = "iif(abs(cost_usd) < 1e6, CAST(round(cost_usd * 1e12) AS INTEGER), NULL)"


def make_view(connection: sqlite3.Connection, columns: Sequence[str]) -> None:
    """Let the name `moves` mean a table with today's columns on this connection only."""
    connection.execute(f"CREATE TEMP VIEW moves AS {_select(connection, columns, 'main.moves')}")


def convert(
    connection: sqlite3.Connection, create_moves: str, columns: Sequence[str], version: int
) -> None:
    """Convert a file in a transaction of the caller.

    create_moves: the statement that creates today's table moves. columns: its columns.
    """
    select = _select(connection, columns, "old_moves")
    connection.execute("DROP TABLE IF EXISTS meter")
    connection.execute("ALTER TABLE moves RENAME TO old_moves")
    connection.execute(create_moves)
    connection.execute(f"INSERT INTO moves {select}")
    connection.execute("DROP TABLE old_moves")
    replies = connection.execute("SELECT reply, episode, ply, seat, attempt FROM calls").fetchall()
    connection.executemany(
        "UPDATE calls SET reply = ? WHERE episode = ? AND ply = ? AND seat = ? AND attempt = ?",
        [(_convert_reply(text), *key) for text, *key in replies],
    )
    connection.execute(f"PRAGMA user_version = {version}")


def _convert_reply(text: str) -> str:
    try:
        return canonical_json(convert_old_reply(json.loads(text)))
    except (ValueError, ArithmeticError, TypeError, RecursionError):
        return text  # not a reply of the arena: reading it will say so


def _select(connection: sqlite3.Connection, columns: Sequence[str], table: str) -> str:
    """Return a query for today's columns from the file's own table moves, under this name."""
    own = [row[1] for row in connection.execute("PRAGMA main.table_info(moves)")]
    expressions = (
        name if name in own else f"{_COST if name == 'cost_picousd' else 'NULL'} AS {name}"
        for name in columns
    )
    return f"SELECT {', '.join(expressions)} FROM {table}"  # noqa: S608 - our own names
