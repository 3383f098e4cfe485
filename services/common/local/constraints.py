"""Where a request holds its constraint."""

from __future__ import annotations

from arena_llm.types import Choices, Constraint, JsonSchema, Regex


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
