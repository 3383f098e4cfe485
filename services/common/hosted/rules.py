"""What a constrained reply must be: the wish, the schema, the judge."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from arena_llm.types import Choices, Constraint, JsonSchema, Regex
from services.common.hosted.schema import FIELD, Schema

ResponseFormat = Mapping[str, Any]


class ChoicesRule:
    """One of the strings: as an enum inside an object, which is what providers take."""

    field = "constraint.choices"

    def __init__(self, choices: Choices) -> None:
        self._values = choices.values
        lines = "\n".join(choices.values)
        self.wish = f"Answer with exactly one of these lines and nothing else:\n{lines}"
        self.stricter = (
            "That is none of the allowed answers. Your whole reply must be one of these "
            f"lines, character by character, with nothing before or after it:\n{lines}"
        )
        properties = {"choice": {"type": "string", "enum": list(choices.values)}}
        self.response_format = _format("choice", _closed(properties), strict=True)

    def accept(self, text: str) -> str | None:
        """The bare choice, from the object or from plain text; None where it is none."""
        if text in self._values:
            return text
        text = _unfenced(text)
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            value = text
        if isinstance(value, dict) and value.keys() == {"choice"}:
            value = value["choice"]
        if not isinstance(value, str):
            value = text  # such as the move 5, which is JSON as well
        if value in self._values:
            return value
        fits = [known for known in self._values if known.strip() == value.strip()]
        return fits[0] if len(fits) == 1 else None


class SchemaRule:
    """JSON that a schema (draft 2020-12) accepts."""

    field = FIELD

    def __init__(self, constraint: JsonSchema) -> None:
        self._schema = Schema(constraint.schema)
        self.wish = (
            "Answer with JSON that this JSON schema accepts, and nothing else:\n"
            f"{constraint.schema}"
        )
        self.stricter = f"That is not JSON that the schema accepts. {self.wish}"
        value = self._schema.value
        self.response_format = _format("reply", value, strict=_is_strict(value))

    def accept(self, text: str) -> str | None:
        """The JSON, where it is valid."""
        text = _unfenced(text)
        return text if self._schema.accepts(text) else None


_FENCED = re.compile(r"\s*```[\w-]*\n(.*?)\n?```\s*", re.DOTALL)


def _unfenced(text: str) -> str:
    """What stands in a Markdown code block, where the text is nothing but one."""
    match = _FENCED.fullmatch(text)
    return match[1] if match else text


def rule_of(constraint: Constraint) -> ChoicesRule | SchemaRule:
    """The rule of a constraint; raises InvalidRequest."""
    match constraint:
        case Choices():
            return ChoicesRule(constraint)
        case JsonSchema():
            return SchemaRule(constraint)
        case Regex():
            raise AssertionError("the servicer refuses it")


def _format(name: str, schema: Any, strict: bool) -> ResponseFormat:
    """https://platform.openai.com/docs/guides/structured-outputs"""
    return {
        "type": "json_schema",
        "json_schema": {"name": name, "strict": strict, "schema": schema},
    }


def _closed(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _is_strict(schema: Any) -> bool:
    """Whether the schema is of the closed kind that `strict` asks for.

    Every object names all its properties as required and allows no others; providers
    answer 400 to any other schema with `strict`, so that one goes out without and is
    checked on return alone.
    """
    if isinstance(schema, list):
        return all(map(_is_strict, schema))
    if not isinstance(schema, dict):
        return True
    if schema.get("type") == "object" or "properties" in schema:
        names = set(schema.get("properties", {}))
        if (
            schema.get("additionalProperties") is not False
            or set(schema.get("required", ())) != names
        ):
            return False
    return all(map(_is_strict, schema.values()))
