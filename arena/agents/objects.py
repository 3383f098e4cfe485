"""Reads the JSON objects in a reply, also with the small faults that models make."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from typing import Any

#: Keys that name the action; the first one that an object has counts.
KEYS = ("action", "move", "choice", "answer")


class NoChoice(ValueError):
    """A reply states no choice, or several. The message can be shown to the player."""


class Pairs(dict[str, Any]):
    """An object. A repeated key has all of its values, so that none is preferred in silence."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__()
        for key, value in pairs:
            if key in self and key.strip().lower() in KEYS and self[key] != value:
                raise NoChoice("the reply names several actions")
            self[key] = value


#: Numbers stay texts: 1.0 is not the action 1, and a long number costs no time.
_DECODER = json.JSONDecoder(
    strict=False, object_pairs_hook=Pairs, parse_int=str, parse_float=str, parse_constant=str
)
#: Quotes, colons and commas that a keyboard of another language writes.
_TYPOGRAPHIC = str.maketrans("\u201c\u201d\uff02\uff1a\uff0c\uff5b\uff5d", '""":,{}')
_TRAILING_COMMA = re.compile(r",(\s*[}\]])")
#: Objects after this many are not read, and a reply with more labels has no choice.
MAX_PLACES = 50


def read_objects(body: str) -> Iterator[tuple[Any, int, int]]:
    """The objects and lists in a text that are not inside of another one: start and end of each."""
    place = 0
    for _ in range(MAX_PLACES):
        start = body.find("{", place)
        if start < 0:
            return
        # A list of several objects is a list of candidates.
        listed = re.search(r"\[\s*$", body[place:start])
        start = place + listed.start() if listed else start
        try:
            value, end = _DECODER.raw_decode(body, start)
        except RecursionError:
            return
        except json.JSONDecodeError:
            end = _find_end(body, start)
            if (value := _repair(body[start:end])) is None:
                # What is inside of a broken object may be part of its reasoning.
                place = max(end, start + 1)
                continue
        yield value, start, end
        place = end


def _find_end(body: str, start: int) -> int:
    """The end of an object by its braces; quotes may be single or double."""
    depth, quote, place = 0, "", start
    while place < len(body):
        sign = body[place]
        if quote:
            if sign == "\\":
                place += 1
            elif sign == quote:
                quote = ""
        elif sign == '"' or (sign == "'" and body[place - 1] in " {[:,\n"):
            quote = sign
        elif sign in "{}":
            depth += 1 if sign == "{" else -1
            if depth == 0:
                return place + 1
        place += 1
    return len(body)


def _repair(text: str) -> Any:
    """Read an object with trailing commas or single quotes; None if that does not help."""
    for changed in (text, text.translate(_TYPOGRAPHIC)):
        try:
            return _DECODER.decode(_TRAILING_COMMA.sub(r"\1", changed))
        except (json.JSONDecodeError, RecursionError):
            pass
    try:
        tree = ast.parse(text, mode="eval").body
        if not isinstance(tree, ast.Dict):
            return None
        pairs = [(ast.literal_eval(k), ast.literal_eval(v)) for k, v in _items(tree)]
        return Pairs([(key, value) for key, value in pairs if isinstance(key, str)])
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError) as error:
        if isinstance(error, NoChoice):
            raise
        return None


def _items(tree: ast.Dict) -> Iterator[tuple[ast.expr, ast.expr]]:
    for key, value in zip(tree.keys, tree.values, strict=True):
        if key is not None:
            yield key, value
