"""Constraints in the language of llguidance, which both local engines use."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable

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


def constraint_field(constraint: Constraint | None) -> str:
    """The request field to name in an error: the constraint's, or "config" without one."""
    return "config" if constraint is None else f"constraint.{constraint.kind}"


def make_unusable_error(field: str, why: str) -> InvalidRequest:
    """The error of a constraint that cannot be used."""
    return InvalidRequest(f"{field} cannot be used: {' '.join(why.split())[:500]}", field=field)


def check_schema_cost(schema: str, field: str = "constraint.json_schema") -> None:
    """Raise InvalidRequest for a JSON schema that is not JSON or blocks the service for seconds.

    field: the request field that has it.
    """
    multiples: list[int] = []

    def collect(pairs: list[tuple[str, object]]) -> None:
        multiples.extend(
            value for name, value in pairs if name == "multipleOf" and isinstance(value, int)
        )

    try:
        json.loads(schema, object_pairs_hook=collect)
    except RecursionError:
        pass  # the engine refuses it
    except ValueError as error:
        raise InvalidRequest(f"{field} is not JSON: {error}", field=field) from error
    _check_multiples(multiples, field)


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
    return text if "%llguidance" in text else _LARK_MARK + text


def _check_multiples(multiples: Iterable[int], field: str) -> None:
    if math.lcm(*(multiple for multiple in multiples if multiple > 0)) > MAX_MULTIPLE:
        raise InvalidRequest(
            f"{field} has multipleOf with a least common multiple over {MAX_MULTIPLE}: leave "
            "it out, and check the number in the reply",
            field=field,
        )
