"""Names the stored figure that is too large to be added up: SQLite's own error does not."""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from pathlib import Path

#: SQLite's error for a sum of whole numbers with more than 63 bits.
OVERFLOW = "integer overflow"

#: The figures of each table that are added up.
_FIGURES = {
    "seats": (
        *("prompt_tokens", "completion_tokens", "reasoning_tokens", "cost_picousd"),
        *("turns", "first_legal", "calls", "ok", "illegal", "unparseable", "errors"),
        *("reasoned", "uncounted", "unpriced"),
    ),
    "runs": ("tokens", "cost_picousd", "uncounted", "unpriced", "bounded", "unpriced_picousd"),
    "failed_calls": ("prompt_tokens", "completion_tokens", "cost_picousd", "max_cost_picousd"),
    "calls": ("prompt_tokens", "completion_tokens", "cost_picousd"),
}


def describe_overflow(path: Path) -> str:
    """Return which figure of a file is the largest, for an error."""
    largest = (0, "a figure")
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        connection.execute("PRAGMA trusted_schema = OFF")
        for table, names in _FIGURES.items():
            for name in names:
                value = f"reply ->> '{name}'" if table == "calls" else name
                query = f"SELECT max({value}), min({value}) FROM {table}"  # noqa: S608 - our own names
                with suppress(sqlite3.Error):  # a table or column that an earlier release lacks
                    for found in connection.execute(query).fetchone():
                        if isinstance(found, int):
                            largest = max(largest, (abs(found), f"{table}.{name} of {found:,}"))
    return f"{largest[1]} is too large to be added up"
