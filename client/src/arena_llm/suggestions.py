"""Texts that the client, the services and the arena share in errors about files and names."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

#: What pydantic writes before the message of a validator's exception.
_LABELS = ("Value error, ", "Assertion failed, ")


def did_you_mean(name: str, names: Iterable[str], most: int = 3) -> str:
    """Return "; did you mean A or B?", to end a sentence; "" if no name is similar.

    most: the largest number of suggestions, the most similar one first.
    """
    similar = get_close_matches(name, [*dict.fromkeys(names)], most)
    return f"; did you mean {' or '.join(similar)}?" if similar else ""


def strip_label(message: str) -> str:
    """Return a message of pydantic without the label that it puts before a validator's words."""
    for label in _LABELS:
        message = message.removeprefix(label)
    return message
