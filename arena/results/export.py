"""Results as CSV or Parquet: one file for each table, for those who do not speak SQL."""

from __future__ import annotations

import csv
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

from arena.results.database import ResultsError, connect, naming

#: The journal is no result.
_TABLES = ("experiments", "models", "episodes", "moves")

#: Rows in memory at once.
_BATCH = 5_000

Format = Literal["csv", "parquet"]


def export(results: Path, folder: Path, kind: Format) -> list[Path]:
    """Write <table>.csv or <table>.parquet into the folder, and tell which files.

    Columns are those of schema.sql, rows in the order of the keys: equal results give
    equal CSV files. In CSV, NULL is an empty field. Raises ResultsError.
    """
    files = []
    with closing(connect(results)) as connection, naming(results):
        # One state of the file, though others may be writing to it.
        connection.execute("BEGIN")
        for table in _TABLES:
            path = folder / f"{table}.{kind}"
            try:
                folder.mkdir(parents=True, exist_ok=True)
                _WRITERS[kind](path, _columns(connection, table), _batches(connection, table))
            except OSError as error:
                raise ResultsError(f"{path}: cannot be written: {error.strerror}") from error
            files.append(path)
    return files


def _columns(connection: sqlite3.Connection, table: str) -> list[tuple[str, str]]:
    """Name and SQLite's type of each."""
    return [(row[1], row[2]) for row in connection.execute(f"PRAGMA table_info({table})")]


def _batches(connection: sqlite3.Connection, table: str) -> Iterator[list[Sequence[Any]]]:
    rows = connection.execute(f"SELECT * FROM {table}")  # noqa: S608 - names of our own
    while batch := rows.fetchmany(_BATCH):
        yield batch


def _write_csv(
    path: Path, columns: list[tuple[str, str]], batches: Iterator[list[Sequence[Any]]]
) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(name for name, _ in columns)
        for batch in batches:
            writer.writerows(batch)


def _write_parquet(
    path: Path, columns: list[tuple[str, str]], batches: Iterator[list[Sequence[Any]]]
) -> None:
    # It takes half a second to import, and nothing else needs it.
    import pyarrow as arrow
    from pyarrow.parquet import ParquetWriter

    types = {"TEXT": arrow.string(), "INTEGER": arrow.int64(), "REAL": arrow.float64()}
    schema = arrow.schema([(name, types[kind]) for name, kind in columns])
    with ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in batches:
            arrays = [
                arrow.array(values, field.type)
                for values, field in zip(zip(*batch, strict=True), schema, strict=True)
            ]
            writer.write_batch(arrow.record_batch(arrays, schema=schema))


_WRITERS = {"csv": _write_csv, "parquet": _write_parquet}
