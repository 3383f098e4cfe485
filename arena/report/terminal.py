"""Prints the report's tables in a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from textwrap import indent

from rich.console import Console
from rich.text import Text

from arena.report.embed import Report
from arena.report.fitting import StyledRow, break_name, print_fitting
from arena.report.layout import Cell, Row, Table
from arena_llm.terminal import one_line

#: Maximum number of characters in a cell.
_MAX_CELL = 300


def print_tables(report: Report, console: Console) -> None:
    """Print the overview and all tables.

    Control characters in texts of models and servers are escaped, and markup has no effect.
    """
    tables = report.tables
    lines = [f"{fact.value} {fact.label} ({fact.detail})" for fact in tables.facts]
    console.print(Text(one_line(tables.name, _MAX_CELL), style="bold"))
    for line in (*lines, *tables.notes):
        console.print(Text(line))
    for table in tables.tables.values():
        if not table.page_only:
            console.print()
            console.print(Text(table.title, style="bold"))
            print_fitting(console, table.columns, partial(_list_rows, table), note=table.note)


def _list_rows(table: Table, limit: int) -> list[StyledRow]:
    """Return the texts of each row, and its style. limit: of the length of names."""
    games = len({row.game for row in table.rows}) > 1
    rows: list[StyledRow] = []
    for row in _ordered(table.rows):
        cells = [_text(cell, limit) for cell in row.cells]
        if row.agent:
            name = break_name(one_line(row.game or row.agent, _MAX_CELL), limit)
            cells.insert(0, Text(indent(name, "  ") if row.game else name))
        rows.append((cells, "bold" if games and not row.game else None))
    return rows


def _ordered(rows: Iterable[Row]) -> Iterator[Row]:
    """Yield each player's total, followed by the player's games."""
    listed = list(rows)
    for row in listed:
        if not row.game:
            yield row
            if row.agent:
                yield from (game for game in listed if game.game and game.agent == row.agent)


def _text(cell: Cell, limit: int) -> Text:
    text = one_line(f"{cell.text} {cell.detail}".rstrip(), _MAX_CELL)
    return Text(text if " " in text else break_name(text, limit))
