"""Constraints in the language of llguidance, which both local engines use."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from contextlib import suppress
from functools import partial

from llguidance.gbnf_to_lark import gbnf_to_lark

from arena_llm.types import Constraint, Grammar, GrammarSyntax
from services.common.errors import InvalidRequest

#: The largest allowed least common multiple of a schema's `multipleOf` values. A grammar for
#: multiples of n has n states: 10,000 take 0.05 s to compile, 300,000 take 3 s.
MAX_MULTIPLE = 10_000

#: The schema of any JSON object.
ANY_OBJECT = '{"type": "object"}'
#: Marks a grammar as Lark, for libraries that otherwise guess its syntax.
_LARK_MARK = "%llguidance {}\n"
_MULTIPLE = re.compile(r'"multipleOf"\s*:\s*(\d+)')
_JSON_IN_LARK = re.compile(r"%json\s*")
#: The engine reads numbers as float64, which has every integer up to this one.
_MAX_EXACT = 2**53
#: Members of a schema whose numbers are compared with those of a reply.
_VALUES = frozenset(("const", "enum", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"))


def constraint_field(constraint: Constraint | None) -> str:
    """The request field to name in an error: the constraint's, or "config" without one."""
    return "config" if constraint is None else f"constraint.{constraint.kind}"


def make_unusable_error(field: str, why: str) -> InvalidRequest:
    """The error of a constraint that cannot be used."""
    return InvalidRequest(f"{field} cannot be used: {' '.join(why.split())[:500]}", field=field)


def check_schema_cost(schema: str, field: str = "constraint.json_schema") -> None:
    """Raise InvalidRequest for a JSON schema that the engine would not honour.

    It is not JSON, blocks the service for seconds, or has integers that would be rounded. field:
    the request field that has it.
    """
    multiples: list[int] = []

    def check(pairs: list[tuple[str, object]]) -> dict[str, object]:
        multiples.extend(
            value for name, value in pairs if name == "multipleOf" and isinstance(value, int)
        )
        return _check_members(field, pairs)

    try:
        json.loads(schema, object_pairs_hook=check)
    except RecursionError:
        pass  # the engine refuses it
    except ValueError as error:
        raise InvalidRequest(f"{field} is not JSON: {error}", field=field) from error
    _check_multiples(multiples, field)


def _check_members(field: str, pairs: list[tuple[str, object]]) -> dict[str, object]:
    """An object of a schema. Raises InvalidRequest for integers that would be rounded."""
    for name, value in pairs:
        if name in _VALUES:
            _check_exact(value, field)
    return dict(pairs)


def _check_exact(value: object, field: str) -> None:
    match value:
        case bool():
            return
        case int() if abs(value) > _MAX_EXACT:
            raise InvalidRequest(
                f"{field} has the integer {str(value)[:40]}, which would be rounded: numbers are "
                "exact up to 2^53; use a string, or constraint.regex",
                field=field,
            )
        case dict():
            for member in value.values():
                _check_exact(member, field)
        case list():
            for item in value:
                _check_exact(item, field)


def read_grammar(grammar: Grammar) -> str:
    """The grammar in Lark. Raises InvalidRequest for GBNF that cannot be read."""
    field = constraint_field(grammar)
    text = grammar.text
    if grammar.syntax is GrammarSyntax.GBNF:
        try:
            text = gbnf_to_lark(text)
        except Exception as error:  # the converter raises any
            raise make_unusable_error(field, str(error)) from error
    # Lark may have JSON schemas inside.
    _check_multiples(map(int, _MULTIPLE.findall(text)), field)
    decoder = json.JSONDecoder(object_pairs_hook=partial(_check_members, field))
    for match in _JSON_IN_LARK.finditer(text):
        with suppress(json.JSONDecodeError, RecursionError):  # the engine refuses it
            decoder.raw_decode(text, match.end())
    return text if "%llguidance" in text else _LARK_MARK + text


def _check_multiples(multiples: Iterable[int], field: str) -> None:
    if math.lcm(*(multiple for multiple in multiples if multiple > 0)) > MAX_MULTIPLE:
        raise InvalidRequest(
            f"{field} has multipleOf with a least common multiple over {MAX_MULTIPLE}: leave "
            "it out, and check the number in the reply",
            field=field,
        )
