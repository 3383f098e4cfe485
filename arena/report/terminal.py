"""Prints the report's tables in a terminal."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from textwrap import indent

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from arena.report.embed import Report
from arena.report.layout import Cell, Row, Table
from arena_llm.terminal import one_line

#: Maximum number of characters in a cell.
_MAX_CELL = 300
#: A name gets line breaks after punctuation if it is longer than this many characters and
#: longer than a fifth of the terminal's width. Shorter names are not broken.
_MAX_NAME = 16
#: A narrower terminal has one space between columns, not two.
_ROOMY = 100


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
            console.print(_render(table, console.width))


def _render(table: Table, width: int) -> RichTable:
    rich_table = RichTable(
        title=Text(table.title, style="bold"),
        caption=Text(table.note, style="dim") if table.note else None,
        box=SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, int(width >= _ROOMY)),
        collapse_padding=True,
        title_justify="left",
        caption_justify="left",
    )
    for number, column in enumerate(table.columns):
        rich_table.add_column(
            column.name,
            justify="right" if column.numeric else "left",
            overflow="fold",
            no_wrap=number == 0,
        )
    games = len({row.game for row in table.rows}) > 1
    for row in _ordered(table.rows):
        cells = [_text(cell, width) for cell in row.cells]
        if row.agent:
            name = _break_name(one_line(row.game or row.agent, _MAX_CELL), width)
            cells.insert(0, Text(indent(name, "  ") if row.game else name))
        rich_table.add_row(*cells, style="bold" if games and not row.game else None)
    return rich_table


def _ordered(rows: Iterable[Row]) -> Iterator[Row]:
    """Yield each player's total, followed by the player's games."""
    listed = list(rows)
    for row in listed:
        if not row.game:
            yield row
            if row.agent:
                yield from (game for game in listed if game.game and game.agent == row.agent)


def _text(cell: Cell, width: int) -> Text:
    text = one_line(f"{cell.text} {cell.detail}".rstrip(), _MAX_CELL)
    return Text(text if " " in text else _break_name(text, width))


def _break_name(name: str, width: int) -> str:
    """Return a long name with line breaks after punctuation."""
    limit = max(_MAX_NAME, width // 5)
    lines = [""]
    for piece in re.split(r"(?<=[/(,:])", name):
        if lines[-1] and len(lines[-1]) + len(piece) > limit:
            lines.append("")
        lines[-1] += piece
    return "\n".join(lines)
