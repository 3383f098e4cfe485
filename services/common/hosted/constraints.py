"""Constraints on hosted models: choices and JSON schemas.

A model with structured output gets a JSON schema as `response_format`; other models get an
instruction in the prompt. Every reply is checked. If the first reply does not fit, the model gets
it back with a stricter instruction, and may reply once more.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, ClassVar

from arena_llm.types import (
    AnyJsonObject,
    Choices,
    Completion,
    Constraint,
    Conversation,
    Enforcement,
    FinishReason,
    GenerationRequest,
    JsonSchema,
    Message,
    Reasoning,
    Text,
)
from services.common.errors import BackendError, ConstraintNotMet, InvalidRequest
from services.common.hosted.report import add_earlier, add_usage, make_report
from services.common.hosted.request import ResponseFormat, append_note, as_conversation

#: Calls the provider; the second argument is the `response_format`, or None.
Ask = Callable[[GenerationRequest, ResponseFormat | None], Awaitable[Completion]]


async def generate_constrained(
    request: GenerationRequest, ask: Ask, structured: bool
) -> Completion:
    """Return a completion whose text fits the request's constraint.

    structured: whether the model takes a JSON schema as `response_format`.
    A completion that took two replies has the tokens, cost and attempts of both, and so has the
    report of an error.

    Raises ConstraintNotMet if neither reply fits the constraint, and InvalidRequest for an invalid
    schema or a reply cut off by max_tokens.
    """
    constraint = request.constraint
    if constraint is None:
        return await ask(request, None)
    rule = make_rule(constraint)
    response_format = rule.response_format if structured else None
    instructs = rule.always_instructs or not structured
    prompt = append_note(request.input, rule.instruction) if instructs else request.input
    first = await ask(replace(request, input=prompt), response_format)
    enforcement = Enforcement.PROVIDER if structured else Enforcement.PROMPT
    first = replace(first, enforcement=enforcement)
    if (accepted := _accept(rule, first)) is not None:
        return accepted
    retry = Conversation(
        (
            *as_conversation(prompt),
            *([Message("assistant", first.text)] if first.text else []),
            Message("user", rule.stricter_instruction),
        )
    )
    try:
        second = await ask(replace(request, input=retry), response_format)
    except BackendError as error:
        add_earlier(error, first)
        raise
    second = replace(
        second,
        usage=add_usage(first.usage, second.usage),
        attempts=first.attempts + second.attempts,
        enforcement=enforcement,
    )
    if (accepted := _accept(rule, second)) is not None:
        return accepted
    raise ConstraintNotMet(
        f"{request.model} replied twice, and neither reply fits {rule.field}",
        field=rule.field,
        metadata={"tries": "2"},
        report=make_report(second),
    )


#: The model did not try to keep the constraint.
_NO_TRY = (FinishReason.REFUSAL, FinishReason.CONTENT_FILTER, FinishReason.TOOL_CALLS)


def _accept(rule: _Rule, completion: Completion) -> Completion | None:
    """The completion with the text that the rule accepts; None if it does not fit.

    Raises InvalidRequest if max_tokens cut it off.
    """
    if completion.finish_reason in _NO_TRY:
        return completion
    if (text := rule.accept(completion.text)) is not None:
        return _set_text(completion, text)
    if completion.finish_reason is FinishReason.LENGTH:
        raise InvalidRequest(
            "config.max_tokens was reached before the constrained reply was whole",
            field="config.max_tokens",
            report=make_report(completion),
        )
    return None


def _set_text(completion: Completion, text: str) -> Completion:
    """The completion with this text in place of its own."""
    message = completion.message
    if message.text == text:
        return completion
    others = [part for part in message.parts if not isinstance(part, Text)]
    states = (part.state for part in message.parts if isinstance(part, Text))
    texts = [Text(text, state=next(filter(None, states), None))]
    place = sum(isinstance(part, Reasoning) and bool(part.text) for part in others)
    return replace(
        completion, message=Message("assistant", (*others[:place], *texts, *others[place:]))
    )


class ChoicesRule:
    """The reply must be one of the strings, requested as an enum inside an object."""

    field = "constraint.choices"
    always_instructs = False

    def __init__(self, choices: Choices) -> None:
        self._values = choices.values
        lines = "\n".join(choices.values)
        self.instruction = f"Answer with exactly one of these lines and nothing else:\n{lines}"
        self.stricter_instruction = (
            "That is none of the allowed answers. Your whole reply must be one of these "
            f"lines, character by character, with nothing before or after it:\n{lines}"
        )
        properties = {"choice": {"type": "string", "enum": list(choices.values)}}
        schema = {
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }
        self.response_format = _build_response_format("choice", schema, strict=True)

    def accept(self, text: str) -> str | None:
        """Read a choice from the object or from plain text; None if it is not an allowed choice."""
        if text in self._values:
            return text
        text = _strip_fence(text)
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            value = text
        if isinstance(value, dict) and value.keys() == {"choice"}:
            value = value["choice"]
        if not isinstance(value, str):
            value = text  # a choice such as 5 is also a JSON number
        if value in self._values:
            return value
        matches = [choice for choice in self._values if choice.strip() == value.strip()]
        return matches[0] if len(matches) == 1 else None


class SchemaRule:
    """The reply must be JSON that a schema (draft 2020-12) accepts.

    Providers take only schemas of an object. Any other is requested as the field `value` of one.
    """

    field = "constraint.json_schema"
    always_instructs = False

    def __init__(self, constraint: JsonSchema) -> None:
        # Imported at the first schema, because the library takes 8 MB.
        from services.common.hosted.schema import Schema

        self._schema = Schema(constraint.schema)
        self.instruction = (
            "Answer with JSON that this JSON schema accepts, and nothing else:\n"
            f"{constraint.schema}"
        )
        self.stricter_instruction = f"That is not JSON that the schema accepts. {self.instruction}"
        value = self._schema.value
        self._is_wrapped = not _is_object(value)
        sent = wrap_schema(value) if self._is_wrapped else value
        self.response_format = _build_response_format(
            constraint.name or "reply", sent, strict=_is_strict(sent)
        )

    def accept(self, text: str) -> str | None:
        """The JSON text; None if it is not valid."""
        text = _strip_fence(text)
        if (
            self._is_wrapped
            and (inner := _unwrap(text)) is not None
            and self._schema.accepts(inner)
        ):
            return inner
        return text if self._schema.accepts(text) else None


class ObjectRule:
    """The reply must be any JSON object."""

    field = "constraint.json_object"
    instruction = "Answer with a JSON object and nothing else."
    stricter_instruction = f"That is not a JSON object. {instruction}"
    response_format: ClassVar[ResponseFormat] = {"type": "json_object"}
    #: OpenAI refuses this response_format if the messages do not mention JSON.
    always_instructs = True

    def accept(self, text: str) -> str | None:
        """The JSON text; None if it is not an object."""
        text = _strip_fence(text)
        try:
            return text if isinstance(json.loads(text), dict) else None
        except (ValueError, RecursionError):
            return None


_Rule = ChoicesRule | SchemaRule | ObjectRule


def make_rule(constraint: Constraint) -> _Rule:
    """Make the rule for a constraint. Raises InvalidRequest for an invalid schema."""
    match constraint:
        case AnyJsonObject():
            return ObjectRule()
        case Choices():
            return ChoicesRule(constraint)
        case JsonSchema():
            return SchemaRule(constraint)
        case _:
            raise AssertionError("the servicer refuses it")


_FENCED = re.compile(r"\s*```[\w-]*\n(.*?)\n?```\s*", re.DOTALL)


def _strip_fence(text: str) -> str:
    """The content of a Markdown code block, if the text is exactly one block."""
    match = _FENCED.fullmatch(text)
    return match[1] if match else text


def _build_response_format(name: str, schema: Any, strict: bool) -> ResponseFormat:
    """https://platform.openai.com/docs/guides/structured-outputs"""
    return {
        "type": "json_schema",
        "json_schema": {"name": name, "strict": strict, "schema": schema},
    }


def _is_object(schema: Any) -> bool:
    """Whether a schema is certainly one of objects."""
    if not isinstance(schema, dict):
        return False
    return schema.get("type") == "object" or ("type" not in schema and "properties" in schema)


def wrap_schema(schema: Any) -> dict[str, Any]:
    """Return the schema of an object whose only field `value` has this schema.

    Definitions move to the outer schema, and references to other places follow the move.
    """
    inner = dict(schema) if isinstance(schema, dict) else schema
    outer: dict[str, Any] = {"type": "object"}
    if isinstance(inner, dict):
        for name in ("$schema", *_DEFINITIONS):
            if name in inner:
                outer[name] = _move_references(inner.pop(name))
    outer["properties"] = {"value": _move_references(inner)}
    return {**outer, "required": ["value"], "additionalProperties": False}


_DEFINITIONS = ("$defs", "definitions")


def _move_references(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_move_references(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    moved = {}
    for name, value in schema.items():
        stays = not isinstance(value, str) or value.split("/")[1:2] in ([n] for n in _DEFINITIONS)
        if name == "$ref" and not stays and (value == "#" or value.startswith("#/")):
            value = f"#/properties/value{value[1:]}"
        moved[name] = _move_references(value)
    return moved


def _unwrap(text: str) -> str | None:
    """Return the JSON of the field `value`; None if the text is no object with it alone."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or value.keys() != {"value"}:
        return None
    return json.dumps(value["value"], ensure_ascii=False)


def _is_strict(schema: Any) -> bool:
    """Whether every object in the schema requires all its properties and allows no others.

    Providers answer 400 to `strict` with any other schema. Such a schema is sent without
    `strict`, and only the reply is checked.
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
