"""Values of the report as text."""

from __future__ import annotations

import pytest

from arena.report.cells import mean_cell, percent_cell
from arena.report.formatting import format_ends, format_signed
from arena.statistics.intervals import Mean

#: Rounds to zero.
TINY = -1e-9
MEAN = Mean(TINY, TINY, TINY, 2)


@pytest.mark.parametrize(
    "text",
    [
        format_signed(TINY),
        format_ends(TINY, 1.0, "+"),
        format_ends(TINY, 1.0),
        *mean_cell(MEAN)[:2],
        *percent_cell(MEAN)[:2],
    ],
)
def test_no_zero_is_negative(text: str) -> None:
    assert "-0" not in text
