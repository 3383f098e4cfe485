"""Reads whole numbers that a caller has written as text."""

from __future__ import annotations

#: More digits are no number of anything here: as milliseconds, these are 31 years. For more than
#: 4300 int() raises ValueError.
_MOST = 12


def read_digits(text: str) -> int | None:
    """Return the number of up to 12 ASCII digits; None for any other text."""
    if len(text) > _MOST or not (text.isascii() and text.isdecimal()):
        return None
    return int(text)
