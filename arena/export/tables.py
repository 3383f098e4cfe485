"""Exports results as CSV or Parquet, one file for each table."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import fields
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

from arena.games.sandbox import Sandbox
from arena.results.database import ResultsError, raise_results_errors
from arena.results.reader import Query, Reader
from arena.results.rows import EpisodeRow, FailedCallRow, ModelRow, MoveRow, ScoreRow, SeatRow
from arena.results.upgrade import open_to_read
from arena.solvers.episodes import MoveJudge

#: JSON columns that are lists in Parquet.
_LISTS = {"agents": "TEXT", "returns": "REAL", "versions": "TEXT", "best": "TEXT"}

#: A text that starts like this is a formula for a spreadsheet. Some programs leave out spaces and
#: control characters before it, or read the wide forms of the signs alike.
_FORMULA = re.compile(r"[\t\r\n]|[\s\x00-\x1f\ufeff]*[=+\-@＝＋－＠]")  # noqa: RUF001 - see above

#: Number of rows in memory at a time.
_BATCH = 5_000

TableFormat = Literal["csv", "parquet"]
Batches = Iterator[list[Sequence[Any]]]


class _Table(NamedTuple):
    """columns: the name and SQLite's type of each."""

    name: str
    columns: Sequence[tuple[str, str]]
    rows: Callable[[Reader], Iterator[Sequence[Any]]]


def export_tables(
    results: Path, folder: Path, kind: TableFormat, query: Query | None = None
) -> list[Path]:
    """Write <table>.csv or <table>.parquet into the folder. Returns the files.

    query: restricts the export to an experiment. The tables are models (all players), episodes,
    moves, failed_calls, seats, scores, and quality (of the moves that a solver can judge). They do
    not say when and by whom an episode was played, so equal results give equal CSV files. In
    CSV, NULL is an empty field, legal_actions is JSON, and a text that a spreadsheet would run has
    a ' before it. In Parquet, agents, returns, versions and best are lists. Raises ResultsError.
    """
    files = []
    with open_to_read(results) as connection, raise_results_errors(results):
        # Text that is not UTF-8 must not make the rest unreadable.
        connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
        reader = Reader(connection, query)
        for table in TABLES:
            path = folder / f"{table.name}.{kind}"
            try:
                folder.mkdir(parents=True, exist_ok=True)
                _WRITERS[kind](path, table.columns, _batches(table.rows(reader)))
            except OSError as error:
                raise ResultsError(f"{path}: cannot be written: {error.strerror}") from error
            files.append(path)
    return files


def _columns_of(row: type, *left_out: str) -> list[tuple[str, str]]:
    """Return the columns of a class of rows.py."""
    kinds = {"int": "INTEGER", "float": "REAL"}
    return [
        (field.name, kinds.get(str(field.type).removesuffix(" | None"), "TEXT"))
        for field in fields(row)
        if field.name not in left_out
    ]


def _values(row: Any, columns: Sequence[tuple[str, str]]) -> list[Any]:
    """Return a row's columns; tuples and mappings become JSON."""
    return [
        json.dumps(value, separators=(",", ":")) if isinstance(value, tuple | dict) else value
        for value in (getattr(row, name) for name, _ in columns)
    ]


_MODELS = _columns_of(ModelRow)
# The time would make equal results differ.
_EPISODES = _columns_of(EpisodeRow, "ended")
_MOVES = _columns_of(MoveRow)
_FAILED_CALLS = _columns_of(FailedCallRow)
_QUALITY = [
    ("episode", "TEXT"), ("ply", "INTEGER"), ("seat", "INTEGER"), ("agent", "TEXT"),
    ("regret", "REAL"), ("best", "TEXT"),
]  # fmt: skip
_SCORES = _columns_of(ScoreRow)
_COUNTS = _columns_of(SeatRow, "seat", "version")
_SEATS = [
    ("episode", "TEXT"), ("game", "TEXT"), ("number", "INTEGER"), ("status", "TEXT"),
    ("seat", "INTEGER"), ("agent", "TEXT"), ("return", "REAL"), ("version", "TEXT"), *_COUNTS,
]  # fmt: skip


def _list_models(reader: Reader) -> Iterator[Sequence[Any]]:
    for _, model in sorted(reader.participants.items()):
        yield _values(model, _MODELS)


def _list_episodes(reader: Reader) -> Iterator[Sequence[Any]]:
    for episode in reader.episodes():
        yield _values(episode, _EPISODES)


def _list_moves(reader: Reader) -> Iterator[Sequence[Any]]:
    for episode in reader.episodes():
        for move in reader.moves(episode):
            yield _values(move, _MOVES)


def _list_failed_calls(reader: Reader) -> Iterator[Sequence[Any]]:
    for call in reader.failed_calls():
        yield _values(call, _FAILED_CALLS)


def _list_seats(reader: Reader) -> Iterator[Sequence[Any]]:
    for episode in reader.episodes():
        for seat, row in enumerate(reader.seats_of(episode)):
            yield [
                episode.episode, episode.game, episode.number, episode.status,
                seat, episode.agents[seat], episode.returns and episode.returns[seat], row.version,
                *_values(row, _COUNTS),
            ]  # fmt: skip


def _list_quality(reader: Reader) -> Iterator[Sequence[Any]]:
    with closing(Sandbox()) as sandbox:
        judge = MoveJudge(sandbox)
        for episode in reader.episodes():
            moves = reader.moves(episode, ("prompt", "reply", "reasoning", "tokens"))
            for (ply, seat), judged in judge.judge(episode, moves).items():
                best = json.dumps(judged.best, separators=(",", ":"))
                yield [episode.episode, ply, seat, episode.agents[seat], judged.regret, best]


def _list_scores(reader: Reader) -> Iterator[Sequence[Any]]:
    rows = sorted(reader.scores(), key=lambda row: (row.agent, row.game, row.version, row.state))
    for row in rows:
        yield _values(row, _SCORES)


TABLES = (
    _Table("models", _MODELS, _list_models),
    _Table("episodes", _EPISODES, _list_episodes),
    _Table("moves", _MOVES, _list_moves),
    _Table("failed_calls", _FAILED_CALLS, _list_failed_calls),
    _Table("seats", _SEATS, _list_seats),
    _Table("scores", _SCORES, _list_scores),
    _Table("quality", _QUALITY, _list_quality),
)


def _batches(rows: Iterator[Sequence[Any]]) -> Batches:
    while batch := list(islice(rows, _BATCH)):
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
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def _write_parquet(path: Path, columns: Sequence[tuple[str, str]], batches: Batches) -> None:
    # The import takes half a second, and nothing else needs it.
    try:
        import pyarrow as arrow
        from pyarrow.parquet import ParquetWriter
    except ImportError as error:
        raise ResultsError(
            f"pyarrow, which writes Parquet, is not installed ({error}): run "
            "`make setup WITH=parquet`, install the extra parquet of arena-llm-services, or choose "
            "another format"
        ) from error

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
