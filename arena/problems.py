"""What pydantic finds in an experiment's file, in words for those who write it."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from pydantic_core import ErrorDetails

#: Of pydantic's types of errors those that speak of Python, or of nothing to be done.
_WORDS = {
    "missing": "is missing",
    "dict_type": "must be a mapping",
    "list_type": "must be a list",
}


def told(problem: ErrorDetails, known: Iterable[str]) -> str:
    """What is wrong with a value; known: the keys that may stand beside its own."""
    if problem["type"] == "extra_forbidden":
        keys = sorted(known)
        near = get_close_matches(str(problem["loc"][-1]), keys, n=1)
        return f"is no known key; {'near it' if near else 'there are'}: {', '.join(near or keys)}"
    return _WORDS.get(problem["type"]) or problem["msg"].removeprefix("Value error, ")
