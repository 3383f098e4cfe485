"""Values of a configuration that are checked; a wrong one names its key."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from arena_llm.errors import InvalidArgumentError
from arena_llm.validation.experiment import shown

#: No count of an experiment that will end.
_ENDLESS = 1e12


def number(
    mapping: Mapping[str, Any], key: str, where: str = "", *, whole: bool = False
) -> float | None:
    """The number under a key; where: the path of the mapping, up to its last dot."""
    value = mapping.get(key)
    if value is None:
        return None
    kind = int if whole else (int, float)
    # A bool is an int to Python, and to nobody else.
    if isinstance(value, bool) or not isinstance(value, kind) or not 0 < value < _ENDLESS:
        wanted = "a whole number of at least 1" if whole else "a number over 0"
        raise invalid(where + key, f"must be {wanted}, not {shown(value)}")
    return value


def word(
    mapping: Mapping[str, Any], key: str, known: Collection[str], where: str = ""
) -> str | None:
    """The string under a key, which is one of those known."""
    value = mapping.get(key)
    if value is None or (isinstance(value, str) and value in known):
        return value
    raise invalid(where + key, f"must be one of {', '.join(known)}, not {shown(value)}")


def invalid(where: str, problem: str) -> InvalidArgumentError:
    """The error of a wrong value: reason INVALID_CONFIG, with the key as `field`."""
    return InvalidArgumentError(f"{where}: {problem}", reason="INVALID_CONFIG", field=where)
