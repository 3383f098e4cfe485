"""The options of a completion, and the way from them to a request."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypedDict, TypeVar

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


class GenerateOptions(TypedDict, total=False):
    """Options of generate, stream and generate_many.

    Absent or None means the backend's default. A backend that cannot honour an
    option that is given says so (UnsupportedError); none is dropped in silence.

    temperature: 0 (greedy) to 100.
    top_p: nucleus sampling, over 0 and up to 1.
    top_k: sample from the k likeliest tokens; 0 is off.
    max_tokens: most completion tokens, at least 1.
    seed: of the sampling, 0 or more.
    stop: strings before which the text ends (at most 16), or one such string.
    presence_penalty, frequency_penalty: -2 to 2.
    logprobs: 0 to 20 alternatives with each token's log-probability.
    choices: exactly one of these strings comes back (1 to 4096).
    json_schema: the text is JSON that this schema (dict or JSON text) accepts.
    regex: the whole text matches this pattern. One of the three at most.
    session: names the game, to keep its prefix cache on one replica.
    labels: for accounting, such as {"experiment": "e1"}; at most 16.
    provider_options: passed to the provider as they are (JSON types).
    """

    max_tokens: int | None
    temperature: float | None
    top_p: float | None
    top_k: int | None
    seed: int | None
    stop: str | Sequence[str] | None
    presence_penalty: float | None
    frequency_penalty: float | None
    logprobs: int | None
    choices: Sequence[str] | None
    json_schema: Mapping[str, Any] | str | None
    regex: str | None
    session: str
    labels: Mapping[str, str] | None
    provider_options: Mapping[str, Any] | None


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
