"""Checks that every field of a request is in its range, and that the backend honours it.

Repeated values are counted before they are copied or iterated, because a request of 13 MB can
hold a million labels, and all other calls wait while they are handled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Sized
from typing import Any

from google.protobuf import json_format
from google.protobuf.struct_pb2 import Struct

from arena_llm.types import SAMPLING_PARAMETERS, GenerationRequest
from arena_llm.v1 import generate_pb2, score_pb2
from services.common.backend import BaseLLMBackend
from services.common.errors import InvalidRequest, Unsupported

MAX_MESSAGES = 4096
MAX_CHOICES = 4096
MAX_LABELS = 16
#: Characters of a label's key or value.
MAX_LABEL = 128
#: Characters of a model's or a session's name.
MAX_NAME = 256
#: Characters of a JSON schema or a regular expression, which is compiled for each call.
MAX_PATTERN = 65_536
#: Bytes of provider_options on the wire.
MAX_OPTIONS = 65_536


def _fail(field: str, problem: str) -> InvalidRequest:
    return InvalidRequest(f"{field} {problem}", field=field)


class Refusals:
    """Refuses every field that a backend does not declare."""

    def __init__(self, backend: BaseLLMBackend[Any]) -> None:
        self._backend = backend
        self._parameters = [name for name in SAMPLING_PARAMETERS if name not in backend.parameters]

    def check_generate(self, request: GenerationRequest) -> None:
        """Raise Unsupported for the first field that the backend does not honour."""
        for name in self._parameters:
            if getattr(request.sampling, name) not in (None, ()):
                raise self._refusal(f"config.{name}")
        if request.constraint is not None:
            kind = request.constraint.name
            if kind not in self._backend.constraints:
                raise self._refusal(f"constraint.{kind}")
        if request.provider_options and not self._backend.takes_provider_options:
            raise self._refusal("provider_options")

    def check_score(self) -> None:
        """Raise Unsupported if the backend cannot score continuations."""
        if not self._backend.can_score:
            advice = self._backend.refused.get("score", "use a model that can")
            raise Unsupported(f"{self._backend.name} models cannot score continuations: {advice}")

    def _refusal(self, field: str) -> Unsupported:
        advice = self._backend.refused.get(field, "leave it out")
        return Unsupported(
            f"{self._backend.name} models do not honour {field}: {advice}", field=field
        )


def check_model(model: str) -> None:
    """Raise InvalidRequest if the model's name is empty or longer than MAX_NAME."""
    check_model_is_set(model)
    if len(model) > MAX_NAME:
        raise _fail("model", f"must be at most {MAX_NAME} characters long")


def check_model_is_set(model: str) -> None:
    """Raise InvalidRequest if the model's name is empty or blank."""
    if not model.strip():
        raise _fail("model", "must be set, such as hf_smollm2-135m-instruct")


def check_generate(request: generate_pb2.GenerateRequest) -> None:
    """Raise InvalidRequest, with the field, if the request breaks the contract."""
    check_model(request.model)
    _check_input(request)
    _check_labels(request.session, request.labels)
    for field, value in request.config.ListFields():
        parameter = SAMPLING_PARAMETERS[field.name]
        if parameter.max_items:
            _check_strings(f"config.{field.name}", value, parameter.max_items)
        elif problem := parameter.problem(value):
            raise _fail(f"config.{field.name}", f"{problem}, not {value}")
    if request.HasField("constraint"):
        _check_constraint(request.constraint)
    if request.HasField("provider_options"):
        _check_options(request.provider_options)


def check_score(request: score_pb2.ScoreRequest) -> None:
    """Raise InvalidRequest, with the field, if the request breaks the contract."""
    check_model(request.model)
    _check_input(request)
    _check_labels(request.session, request.labels)
    if not request.continuations:
        raise _fail("continuations", "must hold at least one string")
    _check_strings("continuations", request.continuations, MAX_CHOICES)


def _check_input(request: generate_pb2.GenerateRequest | score_pb2.ScoreRequest) -> None:
    match request.WhichOneof("input"):
        case None:
            raise _fail("input", "must be set: a prompt or a conversation")
        case "prompt":
            if not request.prompt:
                raise _fail("prompt", "must not be empty")
        case "conversation":
            _check_messages(request.conversation.messages)


_ROLES = frozenset(generate_pb2.Role.values()) - {generate_pb2.ROLE_UNSPECIFIED}


def _check_messages(messages: Sequence[generate_pb2.Message]) -> None:
    field = "conversation.messages"
    if not messages:
        raise _fail(field, "must hold at least one message")
    _check_count(field, messages, MAX_MESSAGES, "messages")
    for index, message in enumerate(messages):
        if message.role not in _ROLES:
            raise _fail(
                f"{field}[{index}].role", "must be ROLE_SYSTEM, ROLE_USER or ROLE_ASSISTANT"
            )


def _check_count(field: str, values: Sized, most: int, kind: str) -> None:
    """Raise InvalidRequest if there are more values than `most`."""
    if len(values) > most:
        raise _fail(field, f"must hold at most {most} {kind}, not {len(values)}")


def _check_labels(session: str, labels: Mapping[str, str]) -> None:
    if len(session) > MAX_NAME:
        raise _fail("session", f"must be at most {MAX_NAME} characters long")
    _check_count("labels", labels, MAX_LABELS, "labels")
    if not labels:
        return  # the usual case: this is faster than a copy of an empty map
    for key, value in dict(labels).items():
        if not key or len(key) > MAX_LABEL or len(value) > MAX_LABEL:
            raise _fail(
                "labels",
                f"must have keys of 1 to {MAX_LABEL} and values of at most {MAX_LABEL} characters",
            )


def _check_options(options: Struct) -> None:
    if (size := options.ByteSize()) > MAX_OPTIONS:
        raise _fail("provider_options", f"must take at most {MAX_OPTIONS} bytes, not {size}")
    try:
        json_format.MessageToDict(options)
    except ValueError as error:
        raise _fail("provider_options", "must be JSON: no NaN, no infinity") from error


def _check_strings(field: str, values: Sequence[str], most: int) -> None:
    _check_count(field, values, most, "strings")
    for index, value in enumerate(values):
        if not value:
            raise _fail(f"{field}[{index}]", "must not be empty")


def _check_constraint(constraint: generate_pb2.Constraint) -> None:
    match constraint.WhichOneof("kind"):
        case None:
            raise _fail("constraint", "must be choices, json_schema or regex")
        case "choices":
            values = constraint.choices.values
            if not values:
                raise _fail("constraint.choices", "must hold at least one string")
            _check_strings("constraint.choices.values", values, MAX_CHOICES)
            if len(set(values)) < len(values):
                raise _fail("constraint.choices.values", "must not hold duplicates")
        case "json_schema":
            _check_pattern("constraint.json_schema", constraint.json_schema.strip())
        case "regex":
            _check_pattern("constraint.regex", constraint.regex)


def _check_pattern(field: str, text: str) -> None:
    if not text:
        raise _fail(field, "must not be empty")
    if len(text) > MAX_PATTERN:
        raise _fail(field, f"must be at most {MAX_PATTERN} characters long, not {len(text)}")
