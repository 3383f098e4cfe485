"""JSON schemas (draft 2020-12) for hosted models: bounded, compiled, and applied to replies.

A schema comes from a caller and is checked in the service's event loop, so the work that
one schema can cause is bounded:

- Its length is bounded by services.common.validation.
- A value is compared with a bounded number of subschemas. Two things multiply it: references
  that fan out (`$defs` where each one refers twice to the next), and nested subschemas with
  unevaluatedProperties or unevaluatedItems. `_Paths` counts before the schema is used.
  References that lead back to themselves do not multiply: the library keeps results.
- The number of patterns and the compiled size of each are bounded. A match takes time in
  proportion to that size and to the text's length. A pattern that needs backtracking
  (look-around, back references) takes the square of the length; it also stops after
  BACKTRACKS steps, and the text then counts as not matching.
- A reply is checked only where all of this comes to MAX_WORK at most.
- No reference leaves the schema, so nothing is fetched.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from jsonschema_rs import (
    Draft202012Validator,
    FancyRegexOptions,
    ReferencingError,
    RegexOptions,
    ValidationError,
)

from services.common.errors import InvalidRequest

FIELD = "constraint.json_schema"

#: Subschemas that one value may be compared with, references followed. One comparison takes
#: about 20 ns.
MAX_COMPARISONS = 10_000
#: For a whole reply, in comparisons: those of one value times the values in the reply, and
#: what the patterns take.
MAX_WORK = 10_000_000
#: Patterns that one value may be matched with, references followed.
MAX_PATTERNS = 200
#: Bytes of one compiled pattern. The smallest bound of these that all patterns of a schema
#: keep to says how long they may take.
_PATTERN_SIZES = (2_000, 16_000, 128_000, 1_000_000)
#: Bytes of all compiled patterns together; to compile them takes a fifth of a second.
_COMPILED = 20_000_000
#: Steps of one backtracking pattern at each place in the text.
BACKTRACKS = 10_000

#: How often the library visits the subschemas of one with unevaluatedProperties or
#: unevaluatedItems: it checks them, and asks each again which parts of the value it covers.
_UNEVALUATED_VISITS = 4

# Where draft 2020-12 has subschemas: https://json-schema.org/draft/2020-12/json-schema-core
_ONE = frozenset(
    [
        "not",
        "if",
        "then",
        "else",
        "items",
        "contains",
        "propertyNames",
        "additionalProperties",
        "unevaluatedItems",
        "unevaluatedProperties",
    ]
)
_LIST = frozenset(["allOf", "anyOf", "oneOf", "prefixItems"])
_MAP = frozenset(["properties", "patternProperties", "dependentSchemas"])
_REFERENCES = ("$ref", "$dynamicRef")
#: Whose subschemas look at parts of the value, and are visited once in any case.
_PARTS = frozenset(
    [
        "items",
        "prefixItems",
        "properties",
        "patternProperties",
        "propertyNames",
        "additionalProperties",
        "unevaluatedItems",
        "unevaluatedProperties",
    ]
)


class Schema:
    """A caller's schema, ready to check replies.

    value: the schema as parsed JSON. Raises InvalidRequest for a text that is not a JSON
    schema, refers to something outside itself, or is too complex.
    """

    def __init__(self, text: str) -> None:
        try:
            self.value: Any = json.loads(text)
            self._comparisons, self._patterns = _Paths(self.value).count()
            # Before the patterns are compiled, which takes most of the time.
            if self._comparisons > MAX_COMPARISONS:
                raise _invalid(
                    f"is too complex: with its references followed, it has more than "
                    f"{MAX_COMPARISONS} subschemas"
                )
            if self._patterns > MAX_PATTERNS:
                raise _invalid(
                    f"is too complex: with its references followed, it has more than "
                    f"{MAX_PATTERNS} patterns"
                )
            self._compile()
        except (ValueError, RecursionError, ValidationError, ReferencingError) as error:
            raise _invalid(f"is not a JSON schema: {_reason(error)}") from error

    def _compile(self) -> None:
        """Compile with the fastest engine and the smallest size that suit all patterns."""
        sizes = [size for size in _PATTERN_SIZES if size * self._patterns <= _COMPILED]
        ways = [(backtracks, size) for backtracks in (False, True) for size in sizes]
        for way in ways if self._patterns else ways[:1]:
            self._backtracks, self._size = way
            options: RegexOptions | FancyRegexOptions = RegexOptions(size_limit=self._size)
            if self._backtracks:
                options = FancyRegexOptions(BACKTRACKS, size_limit=self._size)
            try:
                self._validator = Draft202012Validator(
                    self.value, offline=True, pattern_options=options
                )
            except ValidationError as error:
                if way == ways[-1] or not _is_pattern(error):
                    raise
            else:
                return

    def accepts(self, text: str) -> bool:
        """Whether the text is JSON that fits; InvalidRequest if the check would take too long."""
        # An upper bound: each value but the first follows one of these characters.
        values = 1 + sum(map(text.count, ",[{"))
        if values * self._comparisons > MAX_WORK:
            raise _invalid(f"is too complex to check a reply of about {values} values")
        try:
            value = json.loads(text)
            if self._patterns and self._matching(value) > MAX_WORK:
                raise _invalid(
                    f"has patterns that are too complex for a reply of {len(text)} characters"
                )
            return self._validator.is_valid(value)
        except (ValueError, RecursionError):
            return False

    def _matching(self, value: Any) -> float:
        """What the patterns may take, in comparisons. The factors are measured on patterns
        that are as slow as their size allows, such as [ab]*a[ab]{300}[cd]."""
        lengths = map(len, _strings(value))
        steps = sum(n * n / 8 for n in lengths) if self._backtracks else 2 * sum(lengths)
        return steps * self._patterns * self._size / 1_000


class _Paths:
    """Counts the subschemas that a value is compared with, and the patterns in them, once for
    each way to each."""

    def __init__(self, root: Any) -> None:
        self._root = root
        self._counts: dict[int, tuple[int, int]] = {}
        self._anchors: dict[str, list[Any]] = {}
        for name, schema in _anchors(root):
            self._anchors.setdefault(name, []).append(schema)

    def count(self) -> tuple[int, int]:
        """Subschemas and patterns, each at most one more than its bound.

        Raises InvalidRequest for a reference that leaves the schema.
        """
        return self._count(self._root)

    def _count(self, schema: Any) -> tuple[int, int]:
        if not isinstance(schema, dict):
            return 1, 0
        if (known := self._counts.get(id(schema))) is not None:
            return known
        if schema is not self._root and isinstance(schema.get("$id"), str):
            raise _invalid("has an $id below its top level")
        subschemas, patterns = 1, _patterns(schema)
        self._counts[id(schema)] = 1, patterns  # for references back to it
        visits = 1
        if "unevaluatedProperties" in schema or "unevaluatedItems" in schema:
            visits = _UNEVALUATED_VISITS
        for keyword, part in (*_subschemas(schema), *self._targets(schema)):
            more = self._count(part)
            times = 1 if keyword in _PARTS else visits
            subschemas += times * more[0]
            patterns += times * more[1]
        # Capped, because the true numbers can have thousands of digits.
        count = min(subschemas, MAX_COMPARISONS + 1), min(patterns, MAX_PATTERNS + 1)
        self._counts[id(schema)] = count
        return count

    def _targets(self, schema: dict[str, Any]) -> Iterator[tuple[str, Any]]:
        for keyword in _REFERENCES:
            if isinstance(reference := schema.get(keyword), str):
                if not reference.startswith("#"):
                    raise _invalid("refers to a schema outside itself")
                fragment = unquote(reference[1:])
                if fragment and not fragment.startswith("/"):
                    yield from ((keyword, target) for target in self._anchors.get(fragment, ()))
                else:
                    yield keyword, self._at(fragment)

    def _at(self, pointer: str) -> Any:
        """What stands there (RFC 6901); None if nothing does, which the library refuses."""
        target = self._root
        for step in pointer.split("/")[1:]:
            step = step.replace("~1", "/").replace("~0", "~")
            if isinstance(target, list) and step.isdecimal() and int(step) < len(target):
                target = target[int(step)]
            else:
                target = target.get(step) if isinstance(target, dict) else None
        return target


def _subschemas(schema: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The keywords with the schemas directly inside, without definitions: those count where
    they are used."""
    for keyword, value in schema.items():
        if keyword in _ONE:
            yield keyword, value
        elif keyword in _LIST and isinstance(value, list):
            yield from ((keyword, part) for part in value)
        elif keyword in _MAP and isinstance(value, dict):
            yield from ((keyword, part) for part in value.values())


def _patterns(schema: dict[str, Any]) -> int:
    """How many patterns a schema has itself."""
    properties = schema.get("patternProperties")
    return ("pattern" in schema) + (len(properties) if isinstance(properties, dict) else 0)


def _strings(value: Any) -> Iterator[str]:
    """Every text in a JSON value, names too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from value
        value = [*value.values()]
    if isinstance(value, list):
        for item in value:
            yield from _strings(item)


def _anchors(value: Any) -> Iterator[tuple[str, Any]]:
    """Every dictionary that has a name, even in places where none is looked up."""
    if isinstance(value, dict):
        for keyword in ("$anchor", "$dynamicAnchor"):
            if isinstance(name := value.get(keyword), str):
                yield name, value
        value = [*value.values()]
    if isinstance(value, list):
        for item in value:
            yield from _anchors(item)


def _reason(error: Exception) -> str:
    """The error in one line, with the place in the schema."""
    if isinstance(error, RecursionError) or "Recursion limit" in str(error):
        return "it is nested too deeply"
    if not isinstance(error, ValidationError):
        return str(error)[:200]
    place = "/".join(map(str, error.instance_path))
    said = error.message[:200]
    if _is_pattern(error):
        said += ", or one that is too large"
    return f"at {place[:100]}: {said}" if place else said


def _is_pattern(error: ValidationError) -> bool:
    """Whether a pattern cannot be compiled."""
    return error.message.endswith('is not a "regex"')


def _invalid(problem: str) -> InvalidRequest:
    return InvalidRequest(f"{FIELD} {problem}", field=FIELD)
