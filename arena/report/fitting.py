"""Tables that fit into a terminal: fewer columns, and long names with line breaks."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from arena.report.layout import Column

#: A longer name gets line breaks (`break_name`). The smaller limits are for tables that do not fit
#: with the larger ones.
_NAME_LIMITS = (40, 26, 20, 14)
#: Columns of the output if it is not a terminal, and with --wide: wide enough for any table.
WIDE = 10_000
#: The spaces between two columns.
_GAP = 2
#: A text of several words is not wrapped to fewer characters.
_TEXT = 26

#: The cells of a row, and its style.
StyledRow = tuple[Sequence[Text], str | None]


def print_fitting(
    console: Console,
    columns: Sequence[Column],
    list_rows: Callable[[int], Sequence[StyledRow]],
    *,
    note: str = "",
    rest: str = "use --wide or --json",
    plain: bool = False,
) -> None:
    """Print a table with as many of its columns as fit, and what the columns show.

    list_rows: makes the rows with names of at most this many characters in a line (`break_name`).
    note: comes before the explanations. rest: how to see the columns that are left out. plain:
    without a line under the header.
    """
    for limit in _NAME_LIMITS:
        rows = list_rows(limit)
        shown, fits = _choose(columns, [cells for cells, _ in rows], console.width)
        if fits:
            break
    table = RichTable(
        box=None if plain else SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, _GAP, 0, 0) if plain else (0, _GAP // 2),
        collapse_padding=True,
        header_style="" if plain else "table.header",
    )
    for number in shown:
        column = columns[number]
        table.add_column(
            column.name,
            justify="right" if column.numeric else "left",
            overflow="fold",
            no_wrap=not _wraps(column, [cells[number].plain for cells, _ in rows]),
        )
    for cells, style in rows:
        table.add_row(*(cells[number] for number in shown), style=style)
    console.print(table)
    for line in _explain(columns, shown, note, rest):
        console.print(Text(line, style="dim"))


def _explain(
    columns: Sequence[Column], shown: Sequence[int], note: str, rest: str
) -> Iterator[str]:
    """Yield the note, with a sentence for each column that is shown, and the names of others."""
    sentences = [note, *(columns[number].sentence for number in shown)]
    if text := " ".join(filter(None, sentences)):
        yield text
    hidden = [column.name for number, column in enumerate(columns) if number not in shown]
    if hidden:
        yield f"Not shown: {', '.join(hidden)} ({rest})."


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
    longest = max(map(cell_len, lines), default=0)
    if _wraps(column, texts):
        words = (cell_len(word) for line in lines for word in line.split())
        longest = max(min(_TEXT, longest), *words)
    return max(cell_len(column.name), longest)


def _wraps(column: Column, texts: Sequence[str]) -> bool:
    """Whether a column has texts of several words. Names were broken where they may be."""
    return not column.numeric and any(
        " " in line.strip() for text in texts for line in text.split("\n")
    )


def break_name(name: str, limit: int) -> str:
    """Return a long name with line breaks after punctuation, or else after hyphens.

    Longer parts lose their middle. limit: places in the terminal.
    """
    return "\n".join(
        _shorten(part, limit)
        for line in _break(name, "/(,:", limit)
        for part in _break(line, "-", limit)
    )


def _break(text: str, after: str, limit: int) -> list[str]:
    """Break a text after these characters into lines that are as long as the limit allows."""
    lines = [""]
    for piece in re.split(rf"(?<=[{re.escape(after)}])", text):
        if lines[-1] and cell_len(lines[-1] + piece) > limit:
            lines.append("")
        lines[-1] += piece
    return lines


def _shorten(text: str, limit: int) -> str:
    """Replace the middle of a text that is longer than the limit."""
    if cell_len(text) <= limit:
        return text
    start = _cut(text, (limit - 1) // 2)
    end = _cut(text[::-1], limit - 1 - (limit - 1) // 2)[::-1]
    return f"{start}…{end}"


def _cut(text: str, limit: int) -> str:
    """Return the start of a text that fits into `limit` places; a Chinese character takes two."""
    while cell_len(text) > limit:
        text = text[: min(limit, len(text) - 1)]
    return text
