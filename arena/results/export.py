"""Exports results as CSV or Parquet, one file for each table."""

from __future__ import annotations

import csv
import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Literal, NamedTuple

from arena.results.database import ResultsError, connect, raise_results_errors
from arena.results.integrity import list_columns

#: The agent and the return of each seat, with one row for each seat of each episode.
_SEATS = """
SELECT episodes.episode, game, number, status, agents.key, agents.value, returns.value
FROM episodes, json_each(iif(json_valid(agents), agents, '[]')) AS agents
LEFT JOIN json_each(iif(json_valid(returns), returns, '[]')) AS returns
    ON returns.key = agents.key
ORDER BY episodes.episode, agents.key
"""
_SEATS_COLUMNS = (
    ("episode", "TEXT"), ("game", "TEXT"), ("number", "INTEGER"), ("status", "TEXT"),
    ("seat", "INTEGER"), ("agent", "TEXT"), ("return", "REAL"),
)  # fmt: skip

#: JSON columns that are lists in Parquet.
_LISTS = {"agents": "TEXT", "returns": "REAL"}

#: A text that starts like this is a formula for a spreadsheet.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")

#: Number of rows in memory at a time.
_BATCH = 5_000

Format = Literal["csv", "parquet"]
Batches = Iterator[list[Sequence[Any]]]


class _Table(NamedTuple):
    """columns: the name and SQLite's type of each."""

    name: str
    query: str
    columns: Sequence[tuple[str, str]]


def export(results: Path, folder: Path, kind: Format) -> list[Path]:
    """Write <table>.csv or <table>.parquet into the folder. Returns the files.

    The tables are those of schema.sql except for the journal, and `seats` with the agent and
    the return of each seat. Rows are in the order of their keys, so equal results give equal CSV
    files. In CSV, NULL is an empty field, and a text that a spreadsheet would run has a ' before
    it. In Parquet, agents and returns are lists. Raises
    ResultsError.
    """
    files = []
    with closing(connect(results)) as connection, raise_results_errors(results):
        # One snapshot, because another process may be writing to the file.
        connection.execute("BEGIN")
        for table in _tables():
            path = folder / f"{table.name}.{kind}"
            try:
                folder.mkdir(parents=True, exist_ok=True)
                _WRITERS[kind](path, table.columns, _batches(connection, table.query))
            except OSError as error:
                raise ResultsError(f"{path}: cannot be written: {error.strerror}") from error
            files.append(path)
    return files


def _tables() -> Iterator[_Table]:
    for name in ("experiments", "models", "episodes", "moves", "failed_calls"):
        yield _Table(name, f"SELECT * FROM {name}", list_columns(name))  # noqa: S608 - our own names
    yield _Table("seats", _SEATS, _SEATS_COLUMNS)


def _batches(connection: sqlite3.Connection, query: str) -> Batches:
    rows = connection.execute(query)
    while batch := rows.fetchmany(_BATCH):
        yield batch


def _write_csv(path: Path, columns: Sequence[tuple[str, str]], batches: Batches) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        # Lines end with CR LF, as RFC 4180 says; else a CR in a reply would be left unquoted.
        writer = csv.writer(file)
        writer.writerow(name for name, _ in columns)
        for batch in batches:
            writer.writerows([_disarm(value) for value in row] for row in batch)


def _disarm(value: Any) -> Any:
    """Return a text that a spreadsheet would run as a formula with a ' before it.

    Replies of models and names of players come from outside. Numbers stay numbers.
    """
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _write_parquet(path: Path, columns: Sequence[tuple[str, str]], batches: Batches) -> None:
    # The import takes half a second, and nothing else needs it.
    import pyarrow as arrow
    from pyarrow.parquet import ParquetWriter

    types = {"TEXT": arrow.string(), "INTEGER": arrow.int64(), "REAL": arrow.float64()}
    schema = arrow.schema(
        [
            (name, arrow.list_(types[_LISTS[name]]) if name in _LISTS else types[kind])
            for name, kind in columns
        ]
    )
    with ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in batches:
            arrays = [
                arrow.array(_parse_lists(values) if field.name in _LISTS else values, field.type)
                for values, field in zip(zip(*batch, strict=True), schema, strict=True)
            ]
            writer.write_batch(arrow.record_batch(arrays, schema=schema))


def _parse_lists(texts: Sequence[str | None]) -> list[Any]:
    """Parse JSON columns as lists; None for NULL, and for text that is not a JSON list."""
    values = []
    for text in texts:
        try:
            value = json.loads(text or "null")
        except ValueError:
            value = None
        values.append(value if isinstance(value, list) else None)
    return values


_WRITERS = {"csv": _write_csv, "parquet": _write_parquet}
