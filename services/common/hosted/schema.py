"""JSON schemas (draft 2020-12) for hosted models: bounded, compiled, and applied to replies.

A schema comes from a caller and is checked in the service's event loop, so the work that
one schema can cause is bounded:

- Its length is bounded by services.common.validation.
- Patterns run in linear time. Those that need backtracking (look-around, back references)
  stop after BACKTRACKS steps, and the text then counts as not matching.
- References that fan out (`$defs` where each one refers twice to the next) multiply the
  subschemas that a value is compared with. `_Comparisons` counts them before the schema is
  used. References that lead back to themselves do not multiply: the library keeps results.
- No reference leaves the schema, so nothing is fetched.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from jsonschema_rs import Draft202012Validator, FancyRegexOptions, ReferencingError, ValidationError

from services.common.errors import InvalidRequest

FIELD = "constraint.json_schema"

#: Subschemas that one value may be compared with, references followed. One comparison takes
#: about 20 ns.
MAX_COMPARISONS = 10_000
#: The same for a whole reply: comparisons of one value times the values in the reply.
MAX_WORK = 10_000_000
#: Steps of one backtracking pattern; 10,000 take less than a millisecond.
BACKTRACKS = 10_000

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


class Schema:
    """A caller's schema, ready to check replies.

    value: the schema as parsed JSON. Raises InvalidRequest for a text that is not a JSON
    schema, refers to something outside itself, or is too complex.
    """

    def __init__(self, text: str) -> None:
        try:
            self.value: Any = json.loads(text)
            self._comparisons = _Comparisons(self.value).count(self.value)
            self._validator = Draft202012Validator(
                self.value,
                offline=True,
                pattern_options=FancyRegexOptions(backtrack_limit=BACKTRACKS),
            )
        except (ValueError, RecursionError, ValidationError, ReferencingError) as error:
            raise _invalid(f"is not a JSON schema: {_reason(error)}") from error
        if self._comparisons > MAX_COMPARISONS:
            raise _invalid(
                f"is too complex: with its references followed, it has more than "
                f"{MAX_COMPARISONS} subschemas"
            )

    def accepts(self, text: str) -> bool:
        """Whether the text is JSON that fits; InvalidRequest if the check would take too long."""
        # An upper bound: each value but the first follows one of these characters.
        values = 1 + sum(map(text.count, ",[{"))
        if values * self._comparisons > MAX_WORK:
            raise _invalid(f"is too complex to check a reply of about {values} values")
        try:
            return self._validator.is_valid(json.loads(text))
        except (ValueError, RecursionError):
            return False


class _Comparisons:
    """Counts the subschemas that a value is compared with, once for each way to each."""

    def __init__(self, root: Any) -> None:
        self._root = root
        self._counts: dict[int, int] = {}
        self._anchors: dict[str, list[Any]] = {}
        for name, schema in _anchors(root):
            self._anchors.setdefault(name, []).append(schema)

    def count(self, schema: Any) -> int:
        """At least 1, at most one more than MAX_COMPARISONS.

        Raises InvalidRequest for a reference that leaves the schema.
        """
        if not isinstance(schema, dict):
            return 1
        key = id(schema)
        if key not in self._counts:
            if schema is not self._root and isinstance(schema.get("$id"), str):
                raise _invalid("has an $id below its top level")
            self._counts[key] = 1  # for references back to it
            parts = [*_subschemas(schema), *self._targets(schema)]
            # Capped, because the true number can have thousands of digits.
            self._counts[key] = min(1 + sum(map(self.count, parts)), MAX_COMPARISONS + 1)
        return self._counts[key]

    def _targets(self, schema: dict[str, Any]) -> Iterator[Any]:
        for keyword in _REFERENCES:
            if isinstance(reference := schema.get(keyword), str):
                if not reference.startswith("#"):
                    raise _invalid("refers to a schema outside itself")
                fragment = unquote(reference[1:])
                if fragment and not fragment.startswith("/"):
                    yield from self._anchors.get(fragment, ())
                else:
                    yield self._at(fragment)

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


def _subschemas(schema: dict[str, Any]) -> Iterator[Any]:
    """The schemas directly inside, without definitions: those count where they are used."""
    for keyword, value in schema.items():
        if keyword in _ONE:
            yield value
        elif keyword in _LIST and isinstance(value, list):
            yield from value
        elif keyword in _MAP and isinstance(value, dict):
            yield from value.values()


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
    return f"at {place[:100]}: {error.message[:200]}" if place else error.message[:200]


def _invalid(problem: str) -> InvalidRequest:
    return InvalidRequest(f"{FIELD} {problem}", field=FIELD)
