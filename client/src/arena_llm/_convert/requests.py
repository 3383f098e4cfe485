"""Requests to and from the wire."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any

from google.protobuf import json_format

from arena_llm.types import (
    Choices,
    Constraint,
    GenerationRequest,
    Input,
    JsonSchema,
    Message,
    Regex,
    Sampling,
    ScoringRequest,
)
from arena_llm.v1 import generate_pb2, models_pb2, score_pb2

_ROLES = {
    "system": generate_pb2.ROLE_SYSTEM,
    "user": generate_pb2.ROLE_USER,
    "assistant": generate_pb2.ROLE_ASSISTANT,
}
_ROLE_NAMES = {number: name for name, number in _ROLES.items()}

_SCALARS = (
    "temperature",
    "top_p",
    "top_k",
    "max_tokens",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "logprobs",
)


class FieldError(ValueError):
    """A value that its field of the wire cannot hold; `field` is the field's path."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field


class _field:
    """Names the field at which protobuf refuses a value (type, range, lone surrogate).

    expected: what the field must be, where Python's own words for a wrong type do not help.
    """

    __slots__ = ("_expected", "_path")

    def __init__(self, path: str, expected: str = "") -> None:
        self._path = path
        self._expected = expected

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        match error:
            case FieldError():
                return
            case UnicodeEncodeError():
                problem = f"must not hold a lone surrogate: character {error.start} is one"
            case TypeError() | AttributeError() if self._expected:
                problem = self._expected
            case TypeError() | AttributeError() | ValueError() | OverflowError():
                problem = str(error)
            case _:
                return
        raise FieldError(self._path, problem) from None


def _text(path: str, value: str) -> str:
    # Protobuf would take bytes as well.
    if not isinstance(value, str):
        raise FieldError(path, f"must be a string, not {type(value).__name__}")
    return value


def _texts(path: str, values: Sequence[str]) -> Sequence[str]:
    for index, value in enumerate(values):
        if not isinstance(value, str):
            raise FieldError(
                path, f"must hold strings only: value {index} is {type(value).__name__}"
            )
    return values


def _labels(labels: Mapping[str, str]) -> Mapping[str, str]:
    if not isinstance(labels, Mapping):
        raise FieldError("labels", f"must map strings to strings, not be {type(labels).__name__}")
    for key, value in labels.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise FieldError("labels", f"must map strings to strings: {key!r} does not")
    return labels


#: Levels of provider_options. Protobuf parses 100 messages inside each other, and a level
#: takes three.
_MAX_DEPTH = 32


def _options(options: Mapping[str, Any]) -> dict[str, Any]:
    if _is_deeper(options, _MAX_DEPTH):
        raise FieldError("provider_options", f"must be nested at most {_MAX_DEPTH} levels deep")
    return dict(options)


def _is_deeper(value: Any, levels: int) -> bool:
    parts = value.values() if isinstance(value, Mapping) else value
    if isinstance(parts, str) or not isinstance(parts, Collection):
        return False
    return levels == 0 or any(_is_deeper(part, levels - 1) for part in parts)


def _fill_conversation(proto: generate_pb2.Conversation, messages: Iterable[Message]) -> None:
    proto.SetInParent()
    for index, message in enumerate(messages):
        path = f"conversation.messages[{index}]"
        kind = type(message).__name__
        with _field(f"{path}.role", f"must be that of a Message, and this is {kind}"):
            role = _ROLES.get(message.role)
            if role is None:
                raise ValueError(f"must be one of {', '.join(_ROLES)}, not {message.role!r}")
        with _field(f"{path}.content"):
            content = _text(f"{path}.content", message.content)
            proto.messages.add(role=role, content=content)


def _fill_common(
    proto: generate_pb2.GenerateRequest | score_pb2.ScoreRequest,
    request: GenerationRequest | ScoringRequest,
) -> None:
    with _field("model"):
        proto.model = _text("model", request.model)
    if isinstance(request.input, str):
        with _field("prompt"):
            proto.prompt = request.input
    else:
        _fill_conversation(proto.conversation, request.input)
    with _field("session"):
        proto.session = _text("session", request.session)
    if request.labels:
        with _field("labels"):
            proto.labels.update(_labels(request.labels))


def generate_request_to_proto(request: GenerationRequest) -> generate_pb2.GenerateRequest:
    """Raises FieldError where a value does not fit its field."""
    proto = generate_pb2.GenerateRequest()
    _fill_common(proto, request)
    for name in _SCALARS:
        value = getattr(request.sampling, name)
        if value is not None:
            with _field(f"config.{name}"):
                setattr(proto.config, name, value)
    if request.sampling.stop:
        with _field("config.stop"):
            proto.config.stop.extend(_texts("config.stop", request.sampling.stop))
    match request.constraint:
        case Choices(values):
            with _field("constraint.choices"):
                proto.constraint.choices.SetInParent()
                proto.constraint.choices.values.extend(_texts("constraint.choices", values))
        case JsonSchema(schema):
            with _field("constraint.json_schema"):
                proto.constraint.json_schema = _text("constraint.json_schema", schema)
        case Regex(pattern):
            with _field("constraint.regex"):
                proto.constraint.regex = _text("constraint.regex", pattern)
    if request.provider_options:
        with _field("provider_options", "must map strings to JSON values"):
            proto.provider_options.update(_options(request.provider_options))
    return proto


def generate_request_from_proto(
    proto: generate_pb2.GenerateRequest, deadline: float | None = None
) -> GenerationRequest:
    """The request must have been validated: an input is set, roles are known."""
    sampling = {field.name: value for field, value in proto.config.ListFields()}
    sampling["stop"] = tuple(sampling.get("stop", ()))
    options = (
        _plain(json_format.MessageToDict(proto.provider_options))
        if proto.HasField("provider_options")
        else {}
    )
    return GenerationRequest(
        model=proto.model,
        input=_input(proto),
        sampling=Sampling(**sampling),
        constraint=_constraint(proto.constraint),
        session=proto.session,
        labels=dict(proto.labels),
        provider_options=options,
        deadline=deadline,
    )


def _plain(value: Any) -> Any:
    """Struct has no integers, so that 3 arrives as 3.0: providers want it back."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


def _input(proto: generate_pb2.GenerateRequest | score_pb2.ScoreRequest) -> Input:
    if proto.WhichOneof("input") == "prompt":
        return proto.prompt
    # The roles are those of Message's Literal, by construction of the table.
    return tuple(
        Message(role=_ROLE_NAMES[m.role], content=m.content)  # type: ignore[arg-type]
        for m in proto.conversation.messages
    )


def _constraint(proto: generate_pb2.Constraint) -> Constraint | None:
    match proto.WhichOneof("kind"):
        case "choices":
            return Choices(tuple(proto.choices.values))
        case "json_schema":
            return JsonSchema(proto.json_schema)
        case "regex":
            return Regex(proto.regex)
    return None


def score_request_to_proto(request: ScoringRequest) -> score_pb2.ScoreRequest:
    """Raises FieldError where a value does not fit its field."""
    proto = score_pb2.ScoreRequest()
    _fill_common(proto, request)
    with _field("continuations"):
        proto.continuations.extend(_texts("continuations", request.continuations))
    return proto


def score_request_from_proto(proto: score_pb2.ScoreRequest) -> ScoringRequest:
    """The request must have been validated: an input is set, roles are known."""
    return ScoringRequest(
        model=proto.model,
        input=_input(proto),
        continuations=tuple(proto.continuations),
        session=proto.session,
        labels=dict(proto.labels),
    )


def is_available_request_to_proto(model: str) -> models_pb2.IsAvailableRequest:
    """Raises FieldError where the name does not fit its field."""
    proto = models_pb2.IsAvailableRequest()
    with _field("model"):
        proto.model = _text("model", model)
    return proto
