"""Checks that a request keeps to the contract: which fields are set, ranges, sizes.

Repeated values are counted before they are copied or iterated, because a request of 13 MB can
hold a million labels, and all other calls wait while they are handled.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence, Sized
from typing import Any

from arena_llm.types import PARAMETERS_BY_PATH
from arena_llm.v1 import content_pb2, generate_pb2, score_pb2
from services.common.content import check_conversation
from services.common.errors import make_field_error
from services.common.unknown import make_unknown_value

MAX_CHOICES = 4096
MAX_LABELS = 16
#: Characters of a label's key or value.
MAX_LABEL = 128
#: Characters of a model's name.
MAX_NAME = 256
#: Models that may answer in place of another one.
MAX_FALLBACKS = 8
#: Characters of a session's name.
MAX_SESSION = 128
#: Characters of a JSON schema, a regular expression or a grammar, which is compiled for each call.
MAX_PATTERN = 65_536
#: Bytes of a field that holds a JSON object.
MAX_JSON = 65_536
#: The deepest nesting of such a JSON object.
MAX_JSON_DEPTH = 32
MAX_TOOLS = 128
#: Log-probabilities of one reply: tokens times alternatives. 400,000 take about 8 MB.
MAX_LOGPROBS = 400_000
#: Token ids that are looked at together.
_PIECE = 16_384

_TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


def check_model(model: str) -> None:
    """Raise InvalidRequest if the model's name is empty or longer than MAX_NAME."""
    check_model_is_set(model)
    if len(model) > MAX_NAME:
        raise make_field_error("model", f"must be at most {MAX_NAME} characters long")


def check_model_is_set(model: str) -> None:
    """Raise InvalidRequest if the model's name is empty or blank."""
    if not model.strip():
        raise make_field_error("model", "must be set, such as hf_smollm2-135m-instruct")


def check_generate(request: generate_pb2.GenerateRequest) -> None:
    """Raise InvalidRequest or UnknownField, with the field, if the request breaks the contract."""
    _check_request(request)
    if request.HasField("tool_choice"):
        _check_tool_choice(request)
    if request.HasField("returns"):
        _check_reply_size(request)
    if request.HasField("fallback_models"):
        check_fallbacks(request.fallback_models, request.model)


def check_score(request: score_pb2.ScoreRequest) -> None:
    """Check a request for scores. Raises InvalidRequest."""
    _check_request(request)
    if not request.continuations and not request.prompt_logprobs:
        raise make_field_error("continuations", "must hold at least one continuation")


def check_count_tokens(request: score_pb2.CountTokensRequest) -> None:
    """Check a request for a number of tokens. Raises InvalidRequest."""
    _check_request(request)


def _check_request(
    request: generate_pb2.GenerateRequest | score_pb2.ScoreRequest | score_pb2.CountTokensRequest,
) -> None:
    """Check each field that is set. A field that several requests have means the same in all."""
    check_model(request.model)
    if request.WhichOneof("input") is None:
        raise make_field_error("input", "must be set: a prompt, a conversation or raw")
    for field, value in request.ListFields():
        if check := _FIELD_CHECKS.get(field.name):
            check(value)


def _check_prompt(prompt: str) -> None:
    if not prompt:
        raise make_field_error("prompt", "must not be empty")


def _check_raw(raw: content_pb2.RawPrompt) -> None:
    if not raw.text and not raw.token_ids.ids:
        raise make_field_error("raw", "must hold a text or token ids, not empty")
    _check_token_ids("raw.token_ids", raw.token_ids)


def _check_token_ids(field: str, tokens: content_pb2.TokenIds) -> None:
    ids = tokens.ids
    # In pieces, because other threads wait while a function of C runs.
    for start in range(0, len(ids), _PIECE):
        if min(ids[start : start + _PIECE]) < 0:
            raise make_field_error(field, "must hold token ids only: integers of at least 0")


def _check_session(session: str) -> None:
    if len(session) > MAX_SESSION:
        raise make_field_error("session", f"must be at most {MAX_SESSION} characters long")


def _check_request_id(request_id: str) -> None:
    if not _REQUEST_ID.fullmatch(request_id):
        raise make_field_error(
            "request_id", 'must be at most 64 letters (a-z, A-Z), digits, "_" and "-"'
        )


def _check_labels(labels: Mapping[str, str]) -> None:
    _check_count("labels", labels, MAX_LABELS, "labels")
    for key, value in dict(labels).items():  # items() of a protobuf map takes three times as long
        if not key or len(key) > MAX_LABEL or len(value) > MAX_LABEL:
            raise make_field_error(
                "labels",
                f"must have keys of 1 to {MAX_LABEL} and values of at most {MAX_LABEL} characters",
            )


def _check_cache_use(use: int) -> None:
    if use not in generate_pb2.CacheUse.values():
        raise make_unknown_value("cache_use", use)


def _check_boundary(boundary: int) -> None:
    if boundary not in score_pb2.ContinuationBoundary.values():
        raise make_unknown_value("boundary", boundary)


def _check_continuations(continuations: Sequence[score_pb2.Continuation]) -> None:
    _check_count("continuations", continuations, MAX_CHOICES, "continuations")
    for index, continuation in enumerate(continuations):
        field = f"continuations[{index}]"
        if not continuation.text and not continuation.token_ids.ids:
            raise make_field_error(field, "must not be empty")
        _check_token_ids(f"{field}.token_ids", continuation.token_ids)


def _check_top_logprobs(count: int) -> None:
    if problem := PARAMETERS_BY_PATH["returns.top_logprobs"].problem(count):
        raise make_field_error("top_logprobs", f"{problem}, not {count}")


def _check_parameters(group: str) -> Callable[[Any], None]:
    """Return the check of a message whose fields are in PARAMETERS_BY_PATH."""
    descriptor: Any = generate_pb2.GenerateRequest.DESCRIPTOR.fields_by_name[group].message_type
    parameters = {
        field.number: PARAMETERS_BY_PATH[f"{group}.{field.name}"] for field in descriptor.fields
    }

    def check(message: Any) -> None:
        for field, value in message.ListFields():
            parameter = parameters[field.number]
            if field.enum_type is not None:
                _check_enum(parameter.path, field, value)
            elif parameter.max_items:
                _check_count(parameter.path, value, parameter.max_items, "values")
                plain = dict(value) if parameter.keyed else list(value)
                if problem := parameter.problem(plain):
                    raise make_field_error(parameter.path, problem)
            elif problem := parameter.problem(value):
                raise make_field_error(parameter.path, f"{problem}, not {value}")

    return check


def _check_enum(path: str, field: Any, value: int) -> None:
    """Refuse a number without a name, and a member of a oneof that is set to 0."""
    if value not in field.enum_type.values_by_number:
        raise make_unknown_value(path, value)
    if value == 0:
        raise make_field_error(path, "must not be UNSPECIFIED")


def _check_constraint(constraint: generate_pb2.Constraint) -> None:
    match constraint.WhichOneof("kind"):
        case None:
            raise make_field_error(
                "constraint", "must be choices, json_schema, regex, grammar or json_object"
            )
        case "choices":
            values = constraint.choices.values
            if not values:
                raise make_field_error("constraint.choices", "must hold at least one string")
            _check_strings("constraint.choices.values", values, MAX_CHOICES)
            if len(set(values)) < len(values):
                raise make_field_error("constraint.choices.values", "must not hold duplicates")
        case "json_schema":
            _check_pattern("constraint.json_schema", constraint.json_schema.schema.strip())
            if (name := constraint.json_schema.name) and not _TOOL_NAME.fullmatch(name):
                raise make_field_error("constraint.json_schema.name", _NAME_RULE)
        case "regex":
            _check_pattern("constraint.regex", constraint.regex.pattern)
        case "grammar":
            _check_pattern("constraint.grammar", constraint.grammar.text)
            syntax = constraint.grammar.syntax
            if syntax not in generate_pb2.GrammarSyntax.values():
                raise make_unknown_value("constraint.grammar.syntax", syntax)
            if not syntax:
                raise make_field_error("constraint.grammar.syntax", "must be set")


_NAME_RULE = 'must be 1 to 64 letters (a-z, A-Z), digits, "_" and "-"'


def _check_tool_choice(request: generate_pb2.GenerateRequest) -> None:
    choice = request.tool_choice
    if not request.tools:
        raise make_field_error("tool_choice", "needs tools")
    if choice.mode not in content_pb2.ToolMode.values():
        raise make_unknown_value("tool_choice.mode", choice.mode)
    names = {tool.name for tool in request.tools}
    _check_count("tool_choice.names", choice.names, MAX_TOOLS, "names")
    for index, name in enumerate(choice.names):
        if name not in names:
            raise make_field_error(f"tool_choice.names[{index}]", "is not the name of a tool")


def _check_tools(tools: Sequence[content_pb2.Tool]) -> None:
    _check_count("tools", tools, MAX_TOOLS, "tools")
    for index, tool in enumerate(tools):
        if not _TOOL_NAME.fullmatch(tool.name):
            raise make_field_error(f"tools[{index}].name", _NAME_RULE)
        _check_json(f"tools[{index}].parameters_json_schema", tool.parameters_json_schema)
    if len({tool.name for tool in tools}) < len(tools):
        raise make_field_error("tools", "must not hold two tools with the same name")


def _check_reply_size(request: generate_pb2.GenerateRequest) -> None:
    """Refuse a request whose reply could be too large to be sent."""
    returns, tokens = request.returns, request.config.max_tokens
    columns = returns.top_logprobs + len(returns.logprob_token_ids)
    if tokens * columns > MAX_LOGPROBS:
        raise make_field_error(
            "returns.top_logprobs",
            f"times config.max_tokens must be at most {MAX_LOGPROBS} log-probabilities",
        )


def _check_routing(routing: generate_pb2.ProviderRouting) -> None:
    for name, values in (("providers", routing.providers), ("precisions", routing.precisions)):
        _check_strings(f"routing.{name}", values, 64)
        for index, value in enumerate(values):
            if len(value) > MAX_LABEL:
                field = f"routing.{name}[{index}]"
                raise make_field_error(field, f"must be at most {MAX_LABEL} characters long")


def check_fallbacks(fallbacks: generate_pb2.FallbackModels, model: str) -> None:
    """Raise InvalidRequest for a list of models that may answer in place of this one."""
    _check_strings("fallback_models.names", fallbacks.names, MAX_FALLBACKS)
    for index, name in enumerate(fallbacks.names):
        field = f"fallback_models.names[{index}]"
        if len(name) > MAX_NAME:
            raise make_field_error(field, f"must be at most {MAX_NAME} characters long")
        if name == model or name in fallbacks.names[:index]:
            raise make_field_error(field, "must not be a model that was called before")


def _check_json(field: str, text: str) -> None:
    """Refuse what is not a JSON object, is too large, or is nested too deeply."""
    if not text:
        return
    if (size := len(text.encode())) > MAX_JSON:
        raise make_field_error(field, f"must take at most {MAX_JSON} bytes, not {size}")
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise make_field_error(field, "must be JSON, without NaN and infinity") from None
    if not isinstance(value, dict):
        raise make_field_error(field, "must be a JSON object")
    if "\\u" in text and not _is_text(value):
        raise make_field_error(field, "must not hold a lone surrogate")
    # Few brackets cannot be nested deeply; the walk takes 10 ms for a long list.
    brackets = text.count("{") + text.count("[")
    if brackets > MAX_JSON_DEPTH and _is_deeper(value, MAX_JSON_DEPTH):
        raise make_field_error(field, f"must be nested at most {MAX_JSON_DEPTH} levels deep")


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


def _is_text(value: Any) -> bool:
    """Whether the texts in a JSON value can be encoded: the escape of half a pair cannot."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except (UnicodeEncodeError, RecursionError):
        return False
    return True


def _is_deeper(value: Any, levels: int) -> bool:
    if levels == 0:
        return True
    parts = value.values() if isinstance(value, dict) else value
    return any(_is_deeper(part, levels - 1) for part in parts if isinstance(part, dict | list))


def _check_count(field: str, values: Sized, most: int, kind: str) -> None:
    """Raise InvalidRequest if there are more values than `most`."""
    if len(values) > most:
        raise make_field_error(field, f"must hold at most {most} {kind}, not {len(values)}")


def _check_strings(field: str, values: Sequence[str], most: int) -> None:
    _check_count(field, values, most, "strings")
    for index, value in enumerate(values):
        if not value:
            raise make_field_error(f"{field}[{index}]", "must not be empty")


def _check_pattern(field: str, text: str) -> None:
    if not text:
        raise make_field_error(field, "must not be empty")
    if len(text) > MAX_PATTERN:
        raise make_field_error(
            field, f"must be at most {MAX_PATTERN} characters long, not {len(text)}"
        )


#: The check of each field of a request that has one, except `model`.
_FIELD_CHECKS: Mapping[str, Callable[[Any], None]] = {
    "prompt": _check_prompt,
    "conversation": check_conversation,
    "raw": _check_raw,
    "session": _check_session,
    "request_id": _check_request_id,
    "labels": _check_labels,
    "config": _check_parameters("config"),
    "reasoning": _check_parameters("reasoning"),
    "returns": _check_parameters("returns"),
    "constraint": _check_constraint,
    "routing": _check_routing,
    "tools": _check_tools,
    "continuations": _check_continuations,
    "boundary": _check_boundary,
    "cache_use": _check_cache_use,
    "top_logprobs": _check_top_logprobs,
    "template_arguments_json": lambda text: _check_json("template_arguments_json", text),
    "provider_options_json": lambda text: _check_json("provider_options_json", text),
}
