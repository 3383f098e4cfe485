"""Turns OpenAI's and vLLM's parameters into options of our client, and the fields of errors back.

What the services check is not checked here. Their errors name a field of our contract, which
`find_param` turns into the caller's word for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic_core import to_json

from arena_llm.types import Grammar, GrammarSyntax, JsonSchema
from gateway.errors import ApiError
from gateway.schema.chat import ChatRequest
from gateway.schema.common import (
    JsonObjectFormat,
    JsonSchemaFormat,
    SamplingRequest,
)
from gateway.schema.completion import CompletionRequest

#: Parameters with the same name and meaning as an option of our client.
_SAME = frozenset(
    {
        *("temperature", "top_p", "seed", "presence_penalty", "frequency_penalty", "min_p"),
        *("repetition_penalty", "min_tokens", "stop_token_ids", "ignore_eos"),
        "reasoning_effort",
    }
)

#: The caller's words for the fields of our contract. The longest match counts; "" means that the
#: rest of the path is the caller's word.
_PARAMS = {
    "config": "",
    "reasoning.effort": "reasoning_effort",
    "returns.token_ids": "return_token_ids",
    "conversation.messages": "messages",
    "conversation.continue_last_message": "continue_final_message",
    "conversation": "messages",
    "raw": "prompt",
    "raw.text": "prompt",
    "raw.token_ids": "prompt",
    "raw.add_special_tokens": "add_special_tokens",
    "template_arguments_json": "chat_template_kwargs",
    "session": "prompt_cache_key",
}
_TEXTS = {
    ".parts[": ".content[",
    ".parameters_json_schema": ".parameters",
}


def build_options(
    request: SamplingRequest, params: dict[str, str], request_id: str, session: str
) -> dict[str, Any]:
    """Return the options that both endpoints share, and add the words for their fields."""
    options: dict[str, Any] = {
        name: value
        for name in request.model_fields_set & _SAME
        if (value := getattr(request, name)) is not None
    }
    options["request_id"] = request_id
    if session:
        options["session"] = session
    if request.stop:
        options["stop"] = request.stop
    if request.top_k is not None:
        options["top_k"] = 0 if request.top_k == -1 else request.top_k  # vLLM's word for "off"
    if request.logit_bias:
        options["logit_bias"] = _to_bias(request.logit_bias)
    if request.return_token_ids:
        options["token_ids"] = True
    if request.user:
        options["labels"] = {"user": request.user}
        params["labels"] = "user"
    constraints = list(_list_constraints(request))
    if len(constraints) > 1:
        _, _, param = constraints[1]
        raise ApiError(
            400, f"{constraints[0][2]} and {param} exclude each other", code="invalid_value",
            param=param,
        )  # fmt: skip
    for name, value, param in constraints:
        options[name] = value
        params["constraint"] = param
    return options


def build_chat_options(
    request: ChatRequest, params: dict[str, str], request_id: str, session: str
) -> dict[str, Any]:
    """Return the options of a chat completion, without its tools."""
    options = build_options(request, params, request_id, session or request.prompt_cache_key or "")
    most = request.max_completion_tokens
    if most is not None:
        params["config.max_tokens"] = "max_completion_tokens"
        if request.max_tokens not in (None, most):
            raise ApiError(
                400, "max_tokens and max_completion_tokens differ: give one of them",
                code="invalid_value", param="max_tokens",
            )  # fmt: skip
    if (most := most if most is not None else request.max_tokens) is not None:
        options["max_tokens"] = most
    if request.logprobs:
        options["top_logprobs"] = request.top_logprobs or 0
        params["returns.top_logprobs"] = "logprobs" if request.top_logprobs is None else (
            "top_logprobs"
        )  # fmt: skip
    elif request.top_logprobs:
        raise ApiError(
            400, "top_logprobs needs logprobs: true", code="invalid_value", param="top_logprobs"
        )
    if request.metadata:
        options["labels"] = {**request.metadata, **options.get("labels", {})}
        params["labels"] = "metadata"
    if request.chat_template_kwargs:
        options["template_arguments"] = request.chat_template_kwargs
    continues = bool(request.continue_final_message)
    if request.add_generation_prompt not in (None, not continues):
        raise ApiError(
            400, "add_generation_prompt must be the opposite of continue_final_message",
            code="invalid_value", param="add_generation_prompt",
        )  # fmt: skip
    return options


def _to_bias(bias: Mapping[str, float]) -> dict[int, float]:
    try:
        return {int(token): value for token, value in bias.items()}
    except ValueError:
        raise ApiError(
            400, "logit_bias must map token ids to numbers", code="invalid_value",
            param="logit_bias",
        ) from None  # fmt: skip


def _list_constraints(request: SamplingRequest) -> Iterator[tuple[str, Any, str]]:
    """Yield each constraint: the option, its value, and the caller's word for it."""
    if isinstance(request, ChatRequest | CompletionRequest):
        match request.response_format:
            case JsonObjectFormat():
                yield "json_object", True, "response_format"
            case JsonSchemaFormat(json_schema=named):
                schema = dict(named.schema_ or {})
                if named.description:
                    schema.setdefault("description", named.description)
                yield "json_schema", _to_schema(schema, named.name), "response_format"
    if not request.model_fields_set & _GUIDED:
        return
    if request.structured_outputs is not None:
        given = request.structured_outputs
        for key, option in _STRUCTURED.items():
            if (value := getattr(given, key)) not in (None, False):
                param = f"structured_outputs.{key.rstrip('_')}"
                yield option, _to_constraint(option, value), param
    for name, option in _GUIDES.items():
        if (value := getattr(request, name)) is not None:
            yield option, _to_constraint(option, value), name


_STRUCTURED = {
    "json_": "json_schema",
    "regex": "regex",
    "choice": "choices",
    "grammar": "grammar",
    "json_object": "json_object",
}
_GUIDES = {
    "guided_json": "json_schema",
    "guided_regex": "regex",
    "guided_choice": "choices",
    "guided_grammar": "grammar",
}
_GUIDED = frozenset({"structured_outputs", *_GUIDES})


def _to_constraint(option: str, value: Any) -> Any:
    if option == "grammar":
        return Grammar(GrammarSyntax.GBNF, value)
    return _to_schema(value) if option == "json_schema" else value


def _to_schema(schema: dict[str, Any] | str, name: str = "") -> JsonSchema:
    text = schema if isinstance(schema, str) else to_json(schema).decode()
    return JsonSchema(text, name)


def find_param(field: str, params: Mapping[str, str]) -> str | None:
    """Return the caller's word for a field of our contract; None for an empty field.

    params: the words of this request, by the field's path; _PARAMS has those of every request.
    """
    if not field:
        return None
    known = {**_PARAMS, **params}
    fits = [path for path in known if field == path or field.startswith((f"{path}.", f"{path}["))]
    if fits:
        path = max(fits, key=len)
        if path == "constraint":  # its parts have other names in the caller's request
            return known[path]
        field = (known[path] + field[len(path) :]).lstrip(".")
    for ours, theirs in _TEXTS.items():
        field = field.replace(ours, theirs)
    if field.startswith("tools["):
        place, dot, rest = field.partition(".")
        field = f"{place}.function{dot}{rest}"
    return field
