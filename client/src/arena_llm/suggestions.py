"""Suggests the name that a misspelled one may stand for, in errors of every part."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(name: str, names: Iterable[str], most: int = 3) -> str:
    """Return "; did you mean A or B?", to end a sentence; "" if no name is similar.

    most: the largest number of suggestions, the most similar one first.
    """
    similar = get_close_matches(name, list(names), most)
    return f"; did you mean {' or '.join(similar)}?" if similar else ""
