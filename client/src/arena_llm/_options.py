"""The options of a completion, and the way from them to a request."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from arena_llm._convert import FieldError
from arena_llm.types import (
    Choices,
    Constraint,
    GenerationRequest,
    Input,
    JsonSchema,
    Message,
    Regex,
    Sampling,
)

V = TypeVar("V")


def generation_request(
    model: str,
    prompt: str | None,
    messages: Iterable[Message] | None,
    *,
    stop: str | Sequence[str] | None = None,
    choices: Sequence[str] | None = None,
    json_schema: Mapping[str, Any] | str | None = None,
    regex: str | None = None,
    session: str = "",
    labels: Mapping[str, str] | None = None,
    provider_options: Mapping[str, Any] | None = None,
    **sampling: Any,
) -> GenerationRequest:
    stops = (stop,) if isinstance(stop, str) else listed("config.stop", stop or ())
    return GenerationRequest(
        model=model,
        input=input_of(prompt, messages),
        # An unknown option is Sampling's TypeError, which names it.
        sampling=Sampling(stop=stops, **sampling),
        constraint=_constraint(choices, json_schema, regex),
        session=session or "",
        labels=labels or {},
        provider_options=provider_options or {},
    )


def input_of(prompt: str | None, messages: Iterable[Message] | None) -> Input:
    if prompt is None and messages is not None:
        return listed("conversation.messages", messages)
    if prompt is None or messages is not None:
        raise FieldError("input", "give a prompt or messages, and not both")
    if not isinstance(prompt, str):
        raise FieldError("prompt", f"must be a string, not {type(prompt).__name__}")
    return prompt


def _constraint(
    choices: Sequence[str] | None, json_schema: Mapping[str, Any] | str | None, regex: str | None
) -> Constraint | None:
    if (choices is not None) + (json_schema is not None) + (regex is not None) > 1:
        options = {"choices": choices, "json_schema": json_schema, "regex": regex}
        given = [name for name, value in options.items() if value is not None]
        raise FieldError("constraint", f"only one of {', '.join(given)} can hold")
    if choices is not None:
        return Choices(listed("constraint.choices", choices))
    if json_schema is not None:
        return JsonSchema(_json(json_schema))
    return None if regex is None else Regex(regex)


def _json(schema: Mapping[str, Any] | str) -> str:
    if isinstance(schema, str):
        return schema
    try:
        return json.dumps(schema, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise FieldError("constraint.json_schema", f"is not JSON: {error}") from None


def listed(field: str, values: Iterable[V]) -> tuple[V, ...]:
    # A string is a sequence of strings as well: never what is meant here.
    if isinstance(values, str):
        raise FieldError(field, "must be a list, not one string")
    try:
        return tuple(values)
    except TypeError:
        raise FieldError(field, f"must be a list, not {type(values).__name__}") from None
