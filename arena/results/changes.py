"""Names the settings in which an experiment differs from the one that a results file holds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

#: Keys of an experiment's file that do not decide any game: a run may change them.
FREE_KEYS = frozenset(
    (
        "description", "results", "episodes_in_flight", "max_cost_usd", "max_tokens_total", "ray",
        "estimate", "timeout_seconds", "prices",
    )
)  # fmt: skip

#: Number of changes that are named. Further ones are only counted.
_MAX_CHANGES = 3
#: Longer values are cut.
_MAX_LENGTH = 60

_NOT_SET = object()


def describe_changes(stored: str, current: str) -> str:
    """Describe the changed keys of two configurations in JSON: "seed was 1 and is 2".

    Empty if nothing that decides a game has changed.
    """
    changes = list(_compare("", _load(stored), _load(current)))
    shown = [f"{key} was {_show(old)} and is {_show(new)}" for key, old, new in changes]
    if len(shown) > _MAX_CHANGES:
        shown[_MAX_CHANGES:] = [f"{len(shown) - _MAX_CHANGES} more"]
    return ", ".join(shown)


def _load(config: str) -> Any:
    try:
        return json.loads(config)
    except (ValueError, RecursionError):  # the results file may be manipulated
        return {}


def _compare(path: str, old: Any, new: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield each difference: its path, the old and the new value."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys((*old, *new)):
            if key not in FREE_KEYS:
                where = f"{path}.{key}".lstrip(".")
                yield from _compare(where, old.get(key, _NOT_SET), new.get(key, _NOT_SET))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from _compare(f"{path}[{index}]", before, after)
    elif old != new:
        yield path, old, new


def _show(value: Any) -> str:
    if value is _NOT_SET:
        return "not set"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MAX_LENGTH else f"{text[:_MAX_LENGTH]}..."
