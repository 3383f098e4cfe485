"""Constraints of local models: their field in the request, and what a schema may cost."""

from __future__ import annotations

import json
import math
from contextlib import suppress

from arena_llm.types import Choices, Constraint, JsonSchema, Regex
from services.common.errors import InvalidRequest

#: A grammar for multiples of n has n states, and one for multiples of several numbers has
#: as many as their least common multiple: 10,000 take 0.05 s to compile, 300,000 take 3 s.
MAX_MULTIPLE = 10_000


def constraint_field(constraint: Constraint | None) -> str:
    """The path of the request's field, for errors; without a constraint, of its parameters."""
    match constraint:
        case None:
            return "config"
        case Choices():
            return "constraint.choices"
        case JsonSchema():
            return "constraint.json_schema"
        case Regex():
            return "constraint.regex"


def check_schema_cost(schema: str) -> None:
    """Raise InvalidRequest if compiling the JSON schema would hold the service for seconds.

    What is not JSON is left to the engine, which names the fault.
    """
    multiples: list[int] = []

    def collect(pairs: list[tuple[str, object]]) -> None:
        multiples.extend(
            value for name, value in pairs if name == "multipleOf" and isinstance(value, int)
        )

    with suppress(ValueError, RecursionError):
        json.loads(schema, object_pairs_hook=collect)
    if math.lcm(*(multiple for multiple in multiples if multiple > 0)) > MAX_MULTIPLE:
        field = constraint_field(JsonSchema(schema))
        raise InvalidRequest(
            f"{field} has multipleOf with a least common multiple over {MAX_MULTIPLE}: leave "
            "it out, and check the number in the reply",
            field=field,
        )
