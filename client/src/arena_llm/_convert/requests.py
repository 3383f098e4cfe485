"""Requests to and from the wire."""

from __future__ import annotations

from collections.abc import Iterable
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
    """Names the field at which protobuf refuses a value (type, range, lone surrogate)."""

    __slots__ = ("_path",)

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, _UNFIT) and not isinstance(error, FieldError):
            raise FieldError(self._path, str(error)) from None


_UNFIT = (TypeError, ValueError, AttributeError, OverflowError, RecursionError)


def _fill_conversation(proto: generate_pb2.Conversation, messages: Iterable[Message]) -> None:
    proto.SetInParent()
    with _field("conversation.messages"):
        for index, message in enumerate(messages):
            with _field(f"conversation.messages[{index}].role"):
                role = _ROLES.get(message.role)
                if role is None:
                    raise ValueError(f"must be one of {', '.join(_ROLES)}, not {message.role!r}")
            with _field(f"conversation.messages[{index}].content"):
                proto.messages.add(role=role, content=message.content)


def _fill_common(
    proto: generate_pb2.GenerateRequest | score_pb2.ScoreRequest,
    request: GenerationRequest | ScoringRequest,
) -> None:
    with _field("model"):
        proto.model = request.model
    if isinstance(request.input, str):
        with _field("prompt"):
            proto.prompt = request.input
    else:
        _fill_conversation(proto.conversation, request.input)
    with _field("session"):
        proto.session = request.session
    if request.labels:
        with _field("labels"):
            proto.labels.update(request.labels)


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
            proto.config.stop.extend(request.sampling.stop)
    match request.constraint:
        case Choices(values):
            with _field("constraint.choices"):
                proto.constraint.choices.SetInParent()
                proto.constraint.choices.values.extend(values)
        case JsonSchema(schema):
            with _field("constraint.json_schema"):
                proto.constraint.json_schema = schema
        case Regex(pattern):
            with _field("constraint.regex"):
                proto.constraint.regex = pattern
    if request.provider_options:
        with _field("provider_options"):
            proto.provider_options.update(dict(request.provider_options))
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
        proto.continuations.extend(request.continuations)
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
        proto.model = model
    return proto
