"""Amounts of money, as all commands and pages show them."""

from __future__ import annotations

import pytest

from arena_llm.prices import format_dollars
from arena_llm.types import to_picousd


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "$0.00"),
        (1234.567, "$1,234.57"),
        (12.345, "$12.35"),
        (0.6, "$0.60"),
        (0.0999, "$0.10"),
        (0.0123, "$0.012"),
        (0.00001, "$0.00001"),
        (0.000123, "$0.00012"),
        (0.0000137, "$0.000014"),
        (-0.5, "-$0.50"),
        (-0.00002, "-$0.00002"),
    ],
)
def test_dollars(value: float, text: str) -> None:
    assert format_dollars(to_picousd(value)) == text
