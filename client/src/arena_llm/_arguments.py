"""Turns the arguments of the clients' methods into requests. No I/O.

Only what the wire cannot carry is refused here. The server checks everything else, so
that each rule has one place.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from arena_llm.suggestions import did_you_mean
from arena_llm.types import (
    DEFAULT_REASONING,
    DEFAULT_RETURNS,
    DEFAULT_SAMPLING,
    PARAMETERS,
    AnyJsonObject,
    CacheUse,
    Choices,
    Constraint,
    Continuation,
    Conversation,
    GenerateOptions,
    GenerationRequest,
    Grammar,
    Input,
    JsonSchema,
    Message,
    ProviderRouting,
    RawPrompt,
    ReasoningOptions,
    Regex,
    ReturnOptions,
    Sampling,
    Tool,
    ToolChoice,
)
from arena_llm.wire import FieldError

T = TypeVar("T")

#: What callers may give as a conversation: its messages, or a Conversation.
Messages = Iterable[Message | Mapping[str, Any]] | Conversation
#: What callers may give as a prompt: a text, or a raw prompt.
Prompt = str | RawPrompt


def make_request_id() -> str:
    """Return an id that no other call has, so that the service can recognize a repeated call."""
    return secrets.token_hex(16)


def build_request(
    model: str,
    prompt: Prompt | None,
    messages: Messages | None,
    *,
    choices: Sequence[str] | None = None,
    json_schema: Mapping[str, Any] | str | JsonSchema | None = None,
    regex: str | None = None,
    grammar: Grammar | None = None,
    json_object: bool | None = None,
    tools: Sequence[Tool] | None = None,
    tool_choice: ToolChoice | None = None,
    routing: ProviderRouting | None = None,
    session: str = "",
    labels: Mapping[str, str] | None = None,
    request_id: str = "",
    template_arguments: Mapping[str, Any] | None = None,
    provider_options: Mapping[str, Any] | None = None,
    fallback_models: Sequence[str] | None = None,
    cache_use: CacheUse | str | None = None,
    **parameters: Any,
) -> GenerationRequest:
    groups = _group_parameters(parameters)
    # The mapper skips a default without looking into it.
    return GenerationRequest(
        model=model,
        input=build_input(prompt, messages),
        sampling=Sampling(**groups["config"]) if groups["config"] else DEFAULT_SAMPLING,
        constraint=_build_constraint(
            choices=choices,
            json_schema=json_schema,
            regex=regex,
            grammar=grammar,
            json_object=json_object or None,
        ),
        reasoning=ReasoningOptions(**groups["reasoning"])
        if groups["reasoning"]
        else DEFAULT_REASONING,
        tools=check_list("tools", tools or ()),
        tool_choice=tool_choice,
        returns=ReturnOptions(**groups["returns"]) if groups["returns"] else DEFAULT_RETURNS,
        routing=routing,
        session=session or "",
        request_id=request_id or make_request_id(),
        labels=labels or {},
        template_arguments_json=to_json("template_arguments_json", template_arguments or ""),
        provider_options_json=to_json("provider_options_json", provider_options or ""),
        fallback_models=None
        if fallback_models is None
        else check_list("fallback_models.names", fallback_models),
        cache_use=cache_use,  # type: ignore[arg-type]  # the mapper also takes its text
    )


def _group_parameters(options: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the options by message ("config") and field ("seed"), without those that are None.

    Raises TypeError for an unknown option.
    """
    groups: dict[str, dict[str, Any]] = {"config": {}, "reasoning": {}, "returns": {}}
    for name, value in options.items():
        if (parameter := PARAMETERS.get(name)) is None:
            raise TypeError(describe_unknown_option(name))
        if value is None:
            continue
        if parameter.max_items and not parameter.keyed:
            value = (value,) if isinstance(value, str) else check_list(parameter.path, value)
        group, _, field = parameter.path.partition(".")
        groups[group][field] = value
    return groups


def describe_unknown_option(name: str) -> str:
    options = sorted(GenerateOptions.__annotations__)
    hint = did_you_mean(name, options, most=1) or f"; the options are {', '.join(options)}"
    return f"a completion has no option {name!r}{hint}"


def build_input(prompt: Prompt | None, messages: Messages | None) -> Input:
    if prompt is None and messages is not None:
        if isinstance(messages, Conversation):
            return messages
        field = "conversation.messages"
        return Conversation(
            tuple(
                _build_message(f"{field}[{position}]", message)
                for position, message in enumerate(check_list(field, messages))
            )
        )
    if prompt is None or messages is not None:
        raise FieldError("input", "give a prompt or messages, and not both")
    if not isinstance(prompt, str | RawPrompt):
        raise FieldError("prompt", f"must be a string, not {type(prompt).__name__}")
    return prompt


def _build_message(path: str, message: Message | Mapping[str, Any]) -> Message:
    """Return a mapping as a Message, and any other value unchanged."""
    if not isinstance(message, Mapping):
        return message
    if message.keys() != {"role", "content"} or not isinstance(message["content"], str):
        raise FieldError(
            path,
            "must be Message(role, parts), or a mapping with exactly the keys role and content, "
            "whose content is a string",
        )
    return Message(message["role"], message["content"])


def build_continuation(field: str, value: object) -> Continuation:
    match value:
        case Continuation():
            return value
        case str():
            return Continuation(value)
        case Sequence() if not isinstance(value, bytes):  # bytes are integers, too
            return Continuation(token_ids=tuple(value))
    raise FieldError(field, f"must be a text or token ids, not {type(value).__name__}")


def _build_constraint(**options: Any) -> Constraint | None:
    given = {name: value for name, value in options.items() if value is not None}
    if len(given) > 1:
        raise FieldError("constraint", f"{' and '.join(given)} exclude each other: give one")
    for name, value in given.items():
        match name:
            case "choices":
                return Choices(check_list("constraint.choices", value))
            case "json_schema" if not isinstance(value, JsonSchema):
                return JsonSchema(to_json("constraint.json_schema", value))
            case "regex":
                return Regex(value)
            case "json_object":
                return AnyJsonObject()
            case "grammar" if not isinstance(value, Grammar):
                raise FieldError("constraint.grammar", f"must be a Grammar, not {value!r}")
        return value  # type: ignore[no-any-return]  # a Grammar or a JsonSchema
    return None


def to_json(field: str, value: Mapping[str, Any] | str) -> str:
    """Return the value as JSON text; a string is JSON text already."""
    if isinstance(value, str):
        return value
    if not isinstance(value, Mapping):
        raise FieldError(field, f"must be a mapping, not {type(value).__name__}")
    try:
        return json.dumps(value, allow_nan=False)
    except RecursionError:
        raise FieldError(field, "is nested too deeply") from None
    except (TypeError, ValueError) as error:
        raise FieldError(field, f"is not JSON: {error}") from None


def check_list(field: str, values: Iterable[T]) -> tuple[T, ...]:
    # A string is a sequence of strings too, but a caller never means that here.
    if isinstance(values, str):
        raise FieldError(field, "must be a list, not one string")
    try:
        return tuple(values)
    except TypeError:
        raise FieldError(field, f"must be a list, not {type(values).__name__}") from None
