"""Single values of a provider's JSON: text, labels, counts, amounts.

A value that cannot be read is unknown. No function raises because of a value's type.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from itertools import chain
from typing import Any

from pydantic_core import from_json

from arena_llm.types import to_picousd
from services.common.errors import UnreadableAnswer, repair_text

#: The wire has token counts as int32.
_MAX_TOKENS = 2**31 - 1

#: US dollars. No single call costs more, so a larger amount is a provider's mistake.
_MAX_USD = 1e6

#: Characters of a number in text. Python's own numbers have fewer.
_MAX_DIGITS = 40


def load_json(data: bytes) -> Any:
    """Parse JSON. Raises ValueError if the bytes are not JSON.

    Accepts what some providers send although the standard forbids it: half a surrogate pair,
    NaN, bytes that are not UTF-8, integers of any length.
    """
    try:
        return from_json(data)
    except ValueError:
        pass
    try:
        return json.loads(data.decode("utf-8-sig", "replace"), parse_int=_parse_integer)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def is_complete_json(data: bytes) -> bool:
    """Whether the bytes are one complete JSON value."""
    try:
        load_json(data)
    except ValueError:
        return False
    return True


def load_values(data: bytes) -> list[Any]:
    """Parse all JSON values in the bytes. Some servers send several in a row as a stream.

    Raises ValueError if the bytes do not begin with JSON, and UnreadableAnswer if something
    else follows it.
    """
    try:
        return [load_json(data)]
    except ValueError as error:
        problem = error
    values: list[Any] = []
    text = data.decode("utf-8-sig", "replace").strip()
    place = 0
    try:
        while place < len(text):
            value, place = _DECODER.raw_decode(text, place)
            values.append(value)
            place = _BLANKS.match(text, place).end()  # type: ignore[union-attr] # always matches
    except (ValueError, RecursionError):
        if values:
            reason = str(problem)[:100]
            raise UnreadableAnswer(f"the provider's answer cannot be read: {reason}") from problem
    if not values:
        raise problem
    return values


def list_objects(values: Iterable[Any]) -> list[Any]:
    """Return the values without null, and with the items of lists in place of the lists.

    Some servers send an answer or all chunks in a list, and null to keep a connection alive.
    """
    items = chain.from_iterable(value if isinstance(value, list) else (value,) for value in values)
    return [item for item in items if item is not None]


def _parse_integer(text: str) -> int | float:
    return int(text) if len(text) <= _MAX_DIGITS else float(text)


_DECODER = json.JSONDecoder(parse_int=_parse_integer)
_BLANKS = re.compile(r"\s*")


def label(value: Any) -> str:
    """An id or a name, which may be a number; "" for any other type."""
    if isinstance(value, str):
        return repair_text(value)
    return str(value) if type(value) in (int, float) else ""


def number(value: Any) -> float | None:
    """A finite number, which may be text; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str) and len(value) > _MAX_DIGITS:
        return None
    try:
        result = float(value)
    except (ValueError, OverflowError):
        return None
    return result if math.isfinite(result) else None


def count(value: Any) -> int | None:
    """A number of tokens; None if it is negative, has a fraction or exceeds int32."""
    if type(value) is int:
        return value if 0 <= value <= _MAX_TOKENS else None
    result = number(value)
    if result is None or result != int(result) or not 0 <= result <= _MAX_TOKENS:
        return None
    return int(result)


def picousd(value: Any) -> int | None:
    """10^-12 US dollars for an amount in US dollars; None if it is negative or absurd.

    An object has the amount in `total_cost`.
    """
    if isinstance(value, dict):
        value = value.get("total_cost")
    result = number(value)
    if result is None or not 0 <= result <= _MAX_USD:
        return None
    try:
        return to_picousd(value)
    except (ValueError, ArithmeticError):  # an exponent that a Decimal cannot have
        return to_picousd(result)
