"""Conditions: every model plays with every combination of some settings, each as a player."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

from arena.agents.settings import PromptSettings

#: The settings that conditions may vary: those of prompts, and how replies are made and read.
PROMPT_KEYS = tuple(PromptSettings.model_fields)
KEYS = (*PROMPT_KEYS, "reply", "reader", "system")

#: The most players that one model may become.
MAX_COMBINATIONS = 100
#: Characters. In a player's name, a longer value is replaced by its place in the list.
_LONGEST = 24


def check_conditions(conditions: Mapping[str, Sequence[Any]]) -> None:
    """Raise ValueError for an unknown key, equal values, or too many combinations."""
    count = 1
    for key, values in conditions.items():
        if key not in KEYS:
            raise ValueError(f"unknown key {key!r}; the keys are {', '.join(KEYS)}")
        if any(value in values[:place] for place, value in enumerate(values)):
            raise ValueError(f"{key}: lists a value twice")
        count *= len(values)
    if count > MAX_COMBINATIONS:
        raise ValueError(
            f"make {count:,} combinations of each model; the limit is {MAX_COMBINATIONS}"
        )


def cross_conditions(
    name: str,
    settings: Mapping[str, Any],
    conditions: Mapping[str, Sequence[Any]],
    prompt: Mapping[str, Any],
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield a name and settings for each combination; without conditions, the given ones.

    name, settings: of a player. prompt: for a player without one.
    """
    if not conditions:
        yield name, dict(settings)
        return
    base = settings.get("prompt", prompt)
    for values in product(*conditions.values()):
        chosen = dict(zip(conditions, values, strict=True))
        varied = {key: value for key, value in chosen.items() if key in PROMPT_KEYS}
        others = {key: value for key, value in chosen.items() if key not in PROMPT_KEYS}
        # A wrong prompt is reported where the file has it.
        whole = {"prompt": {**base, **varied}} if isinstance(base, Mapping) and varied else {}
        labels = [_label(key, value, conditions[key]) for key, value in chosen.items()]
        yield " ".join((name, *labels)), {**settings, **others, **whole}


def _label(key: str, value: Any, values: Sequence[Any]) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    plain = 0 < len(text) <= _LONGEST and not any(sign in text for sign in " ,/\\\n")
    return f"{key}={text if plain else values.index(value) + 1}"
