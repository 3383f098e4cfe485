"""Prints the report's tables in a terminal."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from textwrap import indent

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from arena.report.embed import Report
from arena.report.layout import Cell, Column, Row, Table
from arena_llm.terminal import one_line

#: Maximum number of characters in a cell.
_MAX_CELL = 300
#: A longer name gets line breaks after punctuation; a part without punctuation loses its middle.
#: The shorter limits are for tables that do not fit with the longer ones.
_NAME_LIMITS = (40, 26, 20, 14)
#: Columns of the output if it is not a terminal, and with --wide: wide enough for any table.
WIDE = 1_000
#: The spaces between two columns.
_GAP = 2
#: A text of several words is not wrapped to fewer characters.
_TEXT = 26


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
            _print_table(table, console)


def _print_table(table: Table, console: Console) -> None:
    for limit in _NAME_LIMITS:
        rows = list(_list_rows(table, limit))
        shown, fits = _choose(table.columns, [cells for cells, _ in rows], console.width)
        if fits:
            break
    rich_table = RichTable(
        box=SIMPLE_HEAD, pad_edge=False, padding=(0, _GAP // 2), collapse_padding=True
    )
    for number in shown:
        column = table.columns[number]
        whole = not _wraps(column, [cells[number].plain for cells, _ in rows])
        rich_table.add_column(
            column.name,
            justify="right" if column.numeric else "left",
            overflow="fold",
            no_wrap=whole,
        )
    for cells, style in rows:
        rich_table.add_row(*(cells[number] for number in shown), style=style)
    console.print()
    console.print(Text(table.title, style="bold"))
    console.print(rich_table)
    for line in _explain(table, shown):
        console.print(Text(line, style="dim"))


def _explain(table: Table, shown: Sequence[int]) -> Iterator[str]:
    """Yield the note, with a sentence for each column that is shown, and the names of others."""
    sentences = [table.note, *(table.columns[number].sentence for number in shown)]
    if text := " ".join(filter(None, sentences)):
        yield text
    hidden = [column.name for number, column in enumerate(table.columns) if number not in shown]
    if hidden:
        yield f"Not shown: {', '.join(hidden)} (use --wide or --json)."


def _choose(
    columns: Sequence[Column], rows: Sequence[Sequence[Text]], width: int
) -> tuple[list[int], bool]:
    """Return the numbers of the columns to show, and whether they fit into the width.

    Columns that are not needed are added in the order of their importance while they fit.
    """
    widths = [
        _measure(column, [cells[at].plain for cells in rows]) for at, column in enumerate(columns)
    ]
    widths = [found + _GAP for found in widths]
    shown = {number for number, column in enumerate(columns) if not column.extra}
    for number in sorted(range(len(columns)), key=lambda number: columns[number].extra):
        if sum(widths[other] for other in shown | {number}) <= width:
            shown.add(number)
    return sorted(shown), sum(widths[number] for number in shown) <= width


def _measure(column: Column, texts: Sequence[str]) -> int:
    """Return the least width of a column."""
    lines = [line for text in texts for line in text.split("\n")]
    longest = max(map(len, lines), default=0)
    if _wraps(column, texts):
        words = (len(word) for line in lines for word in line.split())
        longest = max(min(_TEXT, longest), *words)
    return max(len(column.name), longest)


def _wraps(column: Column, texts: Sequence[str]) -> bool:
    """Whether a column has texts of several words. Names were broken where they may be."""
    return not column.numeric and any(
        " " in line.strip() for text in texts for line in text.split("\n")
    )


def _list_rows(table: Table, limit: int) -> Iterator[tuple[list[Text], str | None]]:
    """Yield the texts of each row, and its style. limit: of the length of names."""
    games = len({row.game for row in table.rows}) > 1
    for row in _ordered(table.rows):
        cells = [_text(cell, limit) for cell in row.cells]
        if row.agent:
            name = _break_name(one_line(row.game or row.agent, _MAX_CELL), limit)
            cells.insert(0, Text(indent(name, "  ") if row.game else name))
        yield cells, "bold" if games and not row.game else None


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
    return Text(text if " " in text else _break_name(text, limit))


def _break_name(name: str, limit: int) -> str:
    """Return a long name with line breaks after punctuation; longer parts lose their middle."""
    lines = [""]
    for piece in re.split(r"(?<=[/(,:])", name):
        if lines[-1] and len(lines[-1]) + len(piece) > limit:
            lines.append("")
        lines[-1] += piece
    return "\n".join(_shorten(line, limit) for line in lines)


def _shorten(text: str, limit: int) -> str:
    """Replace the middle of a text that is longer than the limit."""
    if len(text) <= limit:
        return text
    start = (limit - 1) // 2
    return f"{text[:start]}…{text[start + 1 - limit :]}"
