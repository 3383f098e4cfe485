"""Single values of a provider's JSON: text, labels, counts, amounts.

A value that cannot be read is unknown. Nothing here raises because of a value's type.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

from pydantic_core import from_json

from services.common.errors import UnreadableAnswer
from services.common.text import utf8

#: Usage has its counts as int32 on the wire.
_MOST_TOKENS = 2**31 - 1

#: US dollars. No single call costs more; a larger figure is a provider's mistake.
_MOST_USD = 1e6

#: Characters of a number in text; Python's own numbers have fewer.
_NUMBER_LENGTH = 40


def load_json(data: bytes) -> Any:
    """The bytes as a JSON value; raises ValueError if they are not JSON.

    Python's json accepts what some providers send and the standard forbids: half a
    surrogate pair, NaN, bytes that are not UTF-8, integers of any length.
    """
    try:
        return from_json(data)
    except ValueError:
        pass
    try:
        return json.loads(data.decode("utf-8-sig", "replace"), parse_int=_integer)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def is_whole(data: bytes) -> bool:
    """Whether the bytes are one complete JSON value."""
    try:
        load_json(data)
    except ValueError:
        return False
    return True


def load_values(data: bytes) -> list[Any]:
    """Every JSON value in the bytes. Some servers send several in a row in place of a stream.

    Raises ValueError if the bytes do not begin with one, and UnreadableAnswer if other text
    follows one.
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
            place = _BLANKS.match(text, place).end()  # type: ignore[union-attr] # it always does
    except (ValueError, RecursionError):
        if values:
            reason = str(problem)[:100]
            raise UnreadableAnswer(f"the provider's answer cannot be read: {reason}") from problem
    if not values:
        raise problem
    return values


def _integer(text: str) -> int | float:
    return int(text) if len(text) <= _NUMBER_LENGTH else float(text)


_DECODER = json.JSONDecoder(parse_int=_integer)
_BLANKS = re.compile(r"\s*")


class HalfPairs:
    """Joins a character that a provider splits over two pieces of a text.

    JSON may escape an emoji as two surrogates, and some servers send each with its own
    token. The first waits for the next piece; one that stays alone becomes U+FFFD.
    """

    def __init__(self) -> None:
        self._half = ""

    def join(self, text: str) -> str:
        """The next piece, as far as its characters are whole."""
        if not text or (not self._half and text.isascii()):
            return text
        text = self._half + text
        self._half = text[-1] if "\ud800" <= text[-1] <= "\udbff" else ""
        return utf8(text[:-1] if self._half else text)

    def rest(self) -> str:
        """What still waits, at the end of the text."""
        half, self._half = self._half, ""
        return utf8(half)


def label(value: Any) -> str:
    """An id or a name, also where it is a number; "" where it is neither."""
    if isinstance(value, str):
        return utf8(value)
    return str(value) if type(value) in (int, float) else ""


def number(value: Any) -> float | None:
    """A finite number, also in text; None where there is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str) and len(value) > _NUMBER_LENGTH:
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def count(value: Any) -> int | None:
    """A number of tokens; None where it is negative, has a fraction or exceeds int32."""
    if type(value) is int:
        return value if 0 <= value <= _MOST_TOKENS else None
    found = number(value)
    if found is None or found != int(found) or not 0 <= found <= _MOST_TOKENS:
        return None
    return int(found)


def amount(value: Any) -> float | None:
    """US dollars; None where they are negative or absurd. An object has a `total_cost`."""
    if isinstance(value, dict):
        value = value.get("total_cost")
    found = number(value)
    # Plus zero makes 0.0 of -0.0.
    return None if found is None or not 0 <= found <= _MOST_USD else found + 0.0
