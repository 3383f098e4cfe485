"""The parts of a table: columns, rows and cells, for the terminal, the page and JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple


class Column(NamedTuple):
    """A column.

    explain: one sentence on what it shows; empty if the name says it. extra: if the terminal is
    too narrow, columns with the highest number are left out first; those with 0 never are.
    legend: the colour of the bar on the page that the column explains. key: its name in JSON, if
    it differs.
    """

    name: str
    numeric: bool = True
    explain: str = ""
    extra: int = 0
    legend: str = ""
    key: str = ""

    @property
    def sentence(self) -> str:
        """The explanation with the column's name."""
        return f"{self.name}: {self.explain}." if self.explain else ""


class Cell(NamedTuple):
    """A cell: its text, a smaller second part, and its value for JSON and for sorting.

    link: the address on the page of the replays that the cell counts. links: further addresses,
    each with a name.
    """

    text: str
    detail: str = ""
    value: Any = None
    link: str = ""
    links: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """A row. agent: the player in the first column; "" in tables that are not about players.

    game: "" for the sum over all games. bar: named parts of a bar on the page. interval: low
    end, value and high end of a line on the page.
    """

    cells: Sequence[Cell]
    agent: str = ""
    game: str = ""
    bar: Sequence[tuple[str, int]] = ()
    interval: tuple[float, float, float] | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """A table. id: its anchor on the page, and its key in JSON.

    by_game: each row is about one game or all games, and the page shows one game at a time.
    page_only: the terminal leaves the table out, and the page shows it folded.
    """

    id: str
    title: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    note: str = ""
    graphic: Literal["", "bar", "interval"] = ""
    by_game: bool = False
    page_only: bool = False

    @property
    def explanation(self) -> str:
        """The note, and a sentence for each column that needs one."""
        return " ".join(filter(None, [self.note, *(column.sentence for column in self.columns)]))


class Fact(NamedTuple):
    """A figure of the overview. state: "good" or "bad" colours it on the page."""

    value: str
    label: str
    detail: str
    state: str = ""


@dataclass(frozen=True, slots=True)
class Tables:
    """The overview and all tables of a report."""

    name: str
    facts: Sequence[Fact]
    notes: Sequence[str]
    tables: Mapping[str, Table] = field(default_factory=dict)


def to_json(tables: Tables) -> dict[str, Any]:
    """Return the tables as JSON values: for each row its player, game, and a value per column.

    columns: what the columns show.
    """
    return {
        "name": tables.name,
        "overview": [fact._asdict() for fact in tables.facts],
        "notes": list(tables.notes),
        "tables": {table.id: list(_json_rows(table)) for table in tables.tables.values()},
        "columns": {
            table.id: {
                column.key or column.name: column.explain
                for column in table.columns
                if column.explain
            }
            for table in tables.tables.values()
        },
    }


def _json_rows(table: Table) -> Iterator[dict[str, Any]]:
    for row in table.rows:
        values: dict[str, Any] = {"player": row.agent} if row.agent else {}
        if table.by_game:
            values["game"] = row.game or None
        columns = table.columns[1:] if row.agent else table.columns
        yield values | {
            column.key or column.name: cell.value
            for column, cell in zip(columns, row.cells, strict=True)
        }
