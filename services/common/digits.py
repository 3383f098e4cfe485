"""Reads whole numbers that a caller has written as text."""

from __future__ import annotations

#: Enough digits for every number here: as milliseconds, these are 31 years. int() raises ValueError
#: for more than 4300.
_MOST = 12


def read_digits(text: str) -> int | None:
    """Return the number of up to 12 ASCII digits; None for any other text."""
    if len(text) > _MOST or not (text.isascii() and text.isdecimal()):
        return None
    return int(text)
