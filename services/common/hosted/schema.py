"""JSON schemas (draft 2020-12) for hosted models: bounded, compiled, and applied to replies.

A schema comes from a caller and runs in the service's event loop, so the work that one schema
can cause is bounded:

- services.common.validation bounds its length.
- A value is compared with a bounded number of subschemas. Two things multiply this number:
  references that fan out (`$defs` where each one refers twice to the next), and nested subschemas
  with unevaluatedProperties or unevaluatedItems. `_PathCounter` counts before the schema is used.
  Recursive references do not multiply it, because the library keeps results.
- The number of patterns and the compiled size of each are bounded. The time of a match is
  proportional to that size and to the length of the text. A pattern that needs backtracking
  (look-around, back references) takes the square of the length; it also stops after
  BACKTRACKS steps, and the text then counts as not matching.
- A reply is checked only if all of this comes to at most MAX_WORK.
- No reference may leave the schema, so nothing is fetched.
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

from services.common.digits import read_digits
from services.common.errors import InvalidRequest

FIELD = "constraint.json_schema"

#: Subschemas that one value may be compared with, including those behind references. One
#: comparison takes about 20 ns.
MAX_COMPARISONS = 10_000
#: The work for a whole reply, in comparisons: comparisons of one value times the number of values,
#: plus the work of the patterns.
MAX_WORK = 10_000_000
#: Patterns that one value may be matched with, including those behind references.
MAX_PATTERNS = 200
#: Bytes of one compiled pattern. A schema gets the smallest bound that all its patterns fit into,
#: which says how long a match may take.
_PATTERN_SIZES = (2_000, 16_000, 128_000, 1_000_000)
#: Bytes of all compiled patterns together. Compiling them takes a fifth of a second.
_COMPILED = 20_000_000
#: Steps of one backtracking pattern at each place in the text.
BACKTRACKS = 10_000

#: How often the library visits the subschemas of a schema with unevaluatedProperties or
#: unevaluatedItems: once to check them, then again to see which parts of the value they cover.
_UNEVALUATED_VISITS = 4

# The keywords of draft 2020-12 that hold subschemas: https://json-schema.org/draft/2020-12/json-schema-core
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
#: Keywords whose subschemas apply to parts of the value. They are always visited once.
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
    """A caller's schema, compiled.

    value: the schema as parsed JSON. Raises InvalidRequest for a text that is not a JSON schema,
    refers to something outside itself, or is too complex.
    """

    def __init__(self, text: str) -> None:
        try:
            self.value: Any = json.loads(text)
            self._comparisons, self._patterns = _PathCounter(self.value).count()
            # Checked before the patterns are compiled, because compiling takes most of the time.
            if self._comparisons > MAX_COMPARISONS:
                raise _invalid(
                    f"is too complex: including its references, it has more than "
                    f"{MAX_COMPARISONS} subschemas"
                )
            if self._patterns > MAX_PATTERNS:
                raise _invalid(
                    f"is too complex: including its references, it has more than "
                    f"{MAX_PATTERNS} patterns"
                )
            self._compile()
        except (ValueError, RecursionError, ValidationError, ReferencingError) as error:
            raise _invalid(f"is not a JSON schema: {_reason(error)}") from error

    def _compile(self) -> None:
        """Compile with the fastest engine and the smallest size that all patterns allow."""
        sizes = [size for size in _PATTERN_SIZES if size * self._patterns <= _COMPILED]
        options_to_try = [(backtracks, size) for backtracks in (False, True) for size in sizes]
        if not self._patterns:
            options_to_try = options_to_try[:1]
        for attempt in options_to_try:
            self._backtracks, self._size = attempt
            options: RegexOptions | FancyRegexOptions = RegexOptions(size_limit=self._size)
            if self._backtracks:
                options = FancyRegexOptions(BACKTRACKS, size_limit=self._size)
            try:
                self._validator = Draft202012Validator(
                    self.value, offline=True, pattern_options=options
                )
            except ValidationError as error:
                if attempt == options_to_try[-1] or not _is_pattern(error):
                    raise
            else:
                return

    def accepts(self, text: str) -> bool:
        """Whether the text is JSON that fits. Raises InvalidRequest if checking is too slow."""
        # An upper bound: each value except the first follows one of these characters.
        values = 1 + sum(map(text.count, ",[{"))
        if values * self._comparisons > MAX_WORK:
            raise _invalid(f"is too complex to check a reply of about {values} values")
        try:
            value = json.loads(text)
            if self._patterns and self._pattern_work(value) > MAX_WORK:
                raise _invalid(
                    f"has patterns that are too complex for a reply of {len(text)} characters"
                )
            return self._validator.is_valid(value)
        except (ValueError, RecursionError):
            return False

    def _pattern_work(self, value: Any) -> float:
        """The most work that the patterns can cause, in comparisons. The factors were measured
        with patterns that are as slow as their size allows, such as [ab]*a[ab]{300}[cd]."""
        lengths = map(len, _strings(value))
        steps = sum(n * n / 8 for n in lengths) if self._backtracks else 2 * sum(lengths)
        return steps * self._patterns * self._size / 1_000


class _PathCounter:
    """Counts the subschemas that a value is compared with, and their patterns, once for each path
    that leads to them."""

    def __init__(self, root: Any) -> None:
        self._root = root
        self._counts: dict[int, tuple[int, int]] = {}
        self._anchors: dict[str, list[Any]] = {}
        for name, schema in _anchors(root):
            self._anchors.setdefault(name, []).append(schema)

    def count(self) -> tuple[int, int]:
        """Count subschemas and patterns, each up to one more than its bound.

        Raises InvalidRequest for a reference that leaves the schema.
        """
        return self._count(self._root)

    def _count(self, schema: Any) -> tuple[int, int]:
        if not isinstance(schema, dict):
            return 1, 0
        if (counted := self._counts.get(id(schema))) is not None:
            return counted
        if schema is not self._root and isinstance(schema.get("$id"), str):
            raise _invalid("has an $id below its top level")
        subschemas, patterns = 1, _patterns(schema)
        self._counts[id(schema)] = 1, patterns  # for recursive references
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
        """The schema at a JSON pointer (RFC 6901); None if missing, which the library refuses."""
        target = self._root
        for step in pointer.split("/")[1:]:
            step = step.replace("~1", "/").replace("~0", "~")
            if isinstance(target, list):
                place = read_digits(step)
                target = target[place] if place is not None and place < len(target) else None
            else:
                target = target.get(step) if isinstance(target, dict) else None
        return target


def _subschemas(schema: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the keywords and the schemas directly inside. Definitions are left out, because they
    are counted at each reference."""
    for keyword, value in schema.items():
        if keyword in _ONE:
            yield keyword, value
        elif keyword in _LIST and isinstance(value, list):
            yield from ((keyword, part) for part in value)
        elif keyword in _MAP and isinstance(value, dict):
            yield from ((keyword, part) for part in value.values())


def _patterns(schema: dict[str, Any]) -> int:
    """The number of patterns in a schema, without those of its subschemas."""
    properties = schema.get("patternProperties")
    return ("pattern" in schema) + (len(properties) if isinstance(properties, dict) else 0)


def _strings(value: Any) -> Iterator[str]:
    """Yield every string in a JSON value, including names."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from value
        value = [*value.values()]
    if isinstance(value, list):
        for item in value:
            yield from _strings(item)


def _anchors(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield every object that has an anchor, even where the library would not look for one."""
    if isinstance(value, dict):
        for keyword in ("$anchor", "$dynamicAnchor"):
            if isinstance(name := value.get(keyword), str):
                yield name, value
        value = [*value.values()]
    if isinstance(value, list):
        for item in value:
            yield from _anchors(item)


def _reason(error: Exception) -> str:
    """The error in one line, with its place in the schema."""
    if isinstance(error, RecursionError) or "Recursion limit" in str(error):
        return "it is nested too deeply"
    if not isinstance(error, ValidationError):
        return str(error)[:200]
    place = "/".join(map(str, error.instance_path))
    message = error.message[:200]
    if _is_pattern(error):
        message += ", or one that is too large"
    return f"at {place[:100]}: {message}" if place else message


def _is_pattern(error: ValidationError) -> bool:
    """Whether the error is a pattern that cannot be compiled."""
    return error.message.endswith('is not a "regex"')


def _invalid(problem: str) -> InvalidRequest:
    return InvalidRequest(f"{FIELD} {problem}", field=FIELD)
