"""Checks of a backend's replies before they are sent.

A reply that breaks the contract raises ContractError, which the caller gets as INTERNAL. Text
that cannot be sent and impossible numbers are replaced, because the rest of such a reply is
good, and it may have been paid for.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from enum import StrEnum
from operator import attrgetter
from typing import Any, TypeVar

from google.protobuf.message import Message as ProtoMessage

from arena_llm.types import (
    DEFAULT_RETURNS,
    CallReport,
    Choices,
    Completion,
    CostBasis,
    FinishReason,
    GenerationRequest,
    Image,
    JsonSchema,
    Message,
    Model,
    Reasoning,
    Refusal,
    Scoring,
    ScoringRequest,
    ServedBy,
    Text,
    ToolCall,
    ToolResult,
    Usage,
)
from arena_llm.v1 import reply_pb2
from arena_llm.wire import FieldError, to_message
from services.common.backend import BaseLLMBackend
from services.common.call import CallRecord
from services.common.captured import capture
from services.common.errors import ContractError, InvalidRequest, repair_text
from services.common.log import log
from services.common.service_info import SOFTWARE_VERSION
from services.common.validation import MAX_NAME

#: The numbers of a Usage, with the largest that can be sent.
_COUNTS = {
    **dict.fromkeys(
        (
            *("prompt_tokens", "completion_tokens", "reasoning_tokens"),
            *("cached_tokens", "cache_write_tokens", "image_tokens"),
        ),
        2**31 - 1,
    ),
    "cost_picousd": 2**63 - 1,
}

_read_counts = attrgetter(*_COUNTS)

T = TypeVar("T")


def check_type(value: object, expected: type[T], source: str, verb: str = "returned") -> T:
    """Return the value. Raises ContractError if it has another type.

    source, verb: for the message, such as "generate_response returned".
    """
    if not isinstance(value, expected):
        raise ContractError(f"{source} {verb} a {type(value).__name__}, not {expected.__name__}")
    return value


def check_fields(completion: Completion) -> None:
    """Raise ContractError if a field whose value is a class has another type."""
    check_type(completion.message, Message, "Completion.message", "is")
    check_type(completion.usage, Usage, "Completion.usage", "is")
    check_type(completion.served_by, ServedBy, "Completion.served_by", "is")


def check_completion(completion: Completion, request: GenerationRequest) -> Completion:
    """Return a completion that can be sent.

    Raises ContractError if it does not fit the request, and InvalidRequest if max_tokens ended
    it before its constraint was met. Tokens that were not requested are removed, because some
    providers always return them.
    """
    message = completion.message
    if message.role != "assistant":
        raise ContractError("the completion's message is not the assistant's")
    _check_parts(message)
    _check_constraint(completion, request)
    usage = repair_usage(completion.usage)
    if (
        completion.completion_tokens is not None or completion.prompt_tokens is not None
    ) and request.returns == DEFAULT_RETURNS:
        completion = replace(completion, completion_tokens=None, prompt_tokens=None)
    # Usually there is nothing to change, and a copy takes 10 us.
    return completion if usage is completion.usage else replace(completion, usage=usage)


M = TypeVar("M", bound=ProtoMessage)


def build_message(value: Any, message_type: type[M]) -> M:
    """Return a reply as its message. Text that cannot be sent is repaired."""
    try:
        return to_message(value, message_type)
    except FieldError:
        return to_message(_repair(value), message_type)


def _repair(value: Any) -> Any:
    """Return a value with texts that can be sent, in all that it holds."""
    if isinstance(value, str) and not isinstance(value, StrEnum):
        return repair_text(value)
    if isinstance(value, tuple):
        return tuple(map(_repair, value))
    if is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in fields(value)]
        return replace(value, **{name: _repair(getattr(value, name)) for name in names})
    return value


def _check_parts(message: Message) -> None:
    for part in message.parts:
        match part:
            case Text("") | Refusal(""):
                raise ContractError("a part of the completion is an empty text")
            case ToolCall(id, name) if not id or not name:
                raise ContractError("a tool call of the completion has no id or no name")
            case Image() | ToolResult():
                raise ContractError(f"the completion has a part of the kind {part.kind!r}")
            case Text() | Reasoning() | Refusal() | ToolCall():
                pass
            case _:
                kind = type(part).__name__
                raise ContractError(f"a part of Completion.message is a {kind}, not a Part")


def _check_constraint(completion: Completion, request: GenerationRequest) -> None:
    if completion.finish_reason in _NO_TEXT:
        return
    match request.constraint:
        case Choices(values) if completion.text not in values:
            if completion.finish_reason is FinishReason.LENGTH:
                raise InvalidRequest(
                    "config.max_tokens was reached before the reply was one of the choices",
                    field="config.max_tokens",
                    report=make_report(completion),
                )
            raise ContractError("the text is not one of the choices")
        case JsonSchema() if completion.finish_reason is FinishReason.STOP:
            # A stop string may cut the text. The backend checks the schema, because that may
            # take seconds.
            if not request.sampling.stop and not _is_json(completion.text):
                raise ContractError("the text is not JSON, although json_schema was requested")


#: The model did not try to keep the constraint.
_NO_TEXT = (FinishReason.REFUSAL, FinishReason.CONTENT_FILTER, FinishReason.TOOL_CALLS)


def make_report(completion: Completion) -> CallReport:
    """Return what a completion that is refused has tried and paid."""
    return CallReport(
        completion.request_id, completion.attempts, completion.usage, completion.served_by
    )


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except RecursionError:
        return True  # too deep for this parser
    except ValueError:
        return False
    return True


def check_scoring(scoring: Scoring, request: ScoringRequest) -> Scoring:
    """Return scores that can be sent. Raises ContractError if they do not fit the request."""
    if len(scoring.scores) != len(request.continuations):
        raise ContractError("there must be one score for each continuation")
    if any(math.isnan(score.logprob) for score in scoring.scores):
        raise ContractError("a log-probability is NaN")
    return replace(scoring, usage=repair_usage(scoring.usage))


def check_models(models: Sequence[Model], prefix: str) -> Sequence[Model]:
    """Return the models. Raises ContractError for a name without the prefix or a duplicate."""
    names = [check_type(model, Model, "get_available_models").name for model in models]
    for name in names:
        if not name.startswith(prefix):
            raise ContractError(f"the listed model {name!r} does not start with {prefix!r}")
    if len(set(names)) < len(names):
        raise ContractError("a model is listed twice")
    return models


def repair_usage(usage: Usage) -> Usage:
    """Return the usage. An impossible number becomes unknown, and the log names it."""
    odd = [
        name
        for value, (name, most) in zip(_read_counts(usage), _COUNTS.items(), strict=True)
        if value is not None and not 0 <= value <= most
    ]
    if not odd:
        return usage
    log.warning("a backend's usage is impossible", fields=", ".join(odd))
    unknown: dict[str, Any] = dict.fromkeys(odd)
    return replace(usage, **unknown)


class ReplyBuilder:
    """Completes the replies of one backend: who answered, cost, times, and the id."""

    def __init__(self, backend: BaseLLMBackend[Any]) -> None:
        self._name = backend.name
        self._prefix = f"{backend.name}_"
        #: host:port of this process.
        self.replica = ""
        #: True if the models run on this machine, so that they cost nothing.
        self.is_free = not backend.forwards_calls
        self._captures = backend.config.capture_content

    def build(
        self,
        request: GenerationRequest,
        completion: Completion,
        record: CallRecord,
        first: float | None = None,
    ) -> bytes:
        """Check the completion, add what the backend did not set, and serialize it.

        first: when the first part of the completion arrived, by time.perf_counter(); None for one
        that came whole.
        """
        check_fields(completion)
        if self.is_free and completion.usage.cost_picousd is None:  # also for a report of an error
            usage = replace(completion.usage, cost_picousd=0, cost_basis=CostBasis.FREE)
            completion = replace(completion, usage=usage)
        completion = check_completion(completion, request)
        if completion.served_by.model and not completion.served_by.model.startswith(self._prefix):
            raise ContractError(f"the completion's model does not start with {self._prefix!r}")
        if completion.id:
            record.add(id=completion.id[:MAX_NAME])
        if self._captures and record.span is not None:
            record.span.set_attributes(capture(request, completion))
        message = build_message(completion, reply_pb2.GenerateResponse)
        self.complete(message, request, record, first)
        return message.SerializeToString()

    def complete(
        self,
        message: Any,
        request: GenerationRequest | ScoringRequest,
        record: CallRecord,
        first: float | None = None,
    ) -> None:
        """Add to a reply what the backend did not set. first: as in `build`."""
        message.request_id = request.request_id
        served_by, usage, timings = message.served_by, message.usage, message.timings
        served_by.backend = self._name
        served_by.service_version = SOFTWARE_VERSION
        served_by.replica = self.replica
        if not served_by.model:
            served_by.model = request.model
        if self.is_free and not usage.HasField("cost_picousd"):
            usage.cost_picousd = 0
            usage.cost_basis = reply_pb2.COST_BASIS_FREE
        if not timings.HasField("total_seconds"):
            timings.queue_seconds = 0.0
            if first is not None:
                timings.first_token_seconds = first - record.started
            timings.total_seconds = time.perf_counter() - record.started
        record.add_usage(usage)
        record.add_timings(timings)

    def served_by(self, model: str) -> ServedBy:
        """Return what is known about who answers, before there is an answer."""
        return ServedBy(self._name, model, replica=self.replica, service_version=SOFTWARE_VERSION)


#: Marks a serialized reply as replayed when it is appended: the last of two values of a field
#: counts.
_REPLAYED = reply_pb2.GenerateResponse(replayed=True).SerializeToString()


def mark_replayed(reply: bytes) -> bytes:
    """Return a serialized GenerateResponse that says that it is replayed."""
    return reply + _REPLAYED
