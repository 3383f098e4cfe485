"""From the callers' arguments to a call that is ready to be sent: no I/O here.

Only what the wire cannot carry is refused here. All the rest is left to the
server, so that there is one judge.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypedDict, TypeVar

from google.protobuf.message import Message as ProtoMessage
from google.protobuf.wrappers_pb2 import Int32Value, StringValue

from arena_llm import _convert
from arena_llm._channel import MAX_MESSAGE_BYTES
from arena_llm._convert import FieldError
from arena_llm.errors import ArenaError, InvalidArgumentError
from arena_llm.types import (
    Availability,
    Choices,
    Completion,
    Constraint,
    GenerationRequest,
    Input,
    JsonSchema,
    Message,
    ModelList,
    Regex,
    Sampling,
    Score,
    ScoringRequest,
)
from arena_llm.v1 import models_pb2, score_pb2

T = TypeVar("T")
V = TypeVar("V")
P = TypeVar("P", bound=ProtoMessage)


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


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One RPC, ready to be sent, and the way from its reply to what is returned."""

    method: str
    request: ProtoMessage
    convert: Callable[[Any], T]
    model: str = ""
    session: str = ""

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """For proxies that route and hash without reading bodies."""
        pairs = (("arena-model", self.model), ("arena-session", self.session))
        return tuple((key, value) for key, value in pairs if _legal_metadata(value))


def _legal_metadata(value: str) -> bool:
    """Printable ASCII that fits a header; the service reads the body for the rest."""
    return (
        0 < len(value) <= 1024
        and value.isascii()
        and value.isprintable()
        and value == value.strip()
    )


def generate_call(
    model: str,
    prompt: str | None,
    messages: Iterable[Message] | None,
    options: GenerateOptions,
) -> Call[Completion]:
    """A Generate call (StreamGenerate takes the same request)."""
    with _refusals(model):
        request = _generation(model, prompt, messages, **options)
        proto = _sized(_convert.generate_request_to_proto(request))
    return Call("Generate", proto, _convert.completion_from_proto, model, request.session)


def generate_calls(
    model: str,
    prompts: Iterable[str | Iterable[Message]],
    options: GenerateOptions,
    concurrency: int,
) -> list[Call[Completion] | ArenaError]:
    """A call for each prompt (a string, or messages), or the error in its place."""
    with _refusals(model):
        if concurrency < 1:
            raise FieldError("concurrency", f"must be at least 1, not {concurrency}")
        every = _list("prompts", prompts)

    def one(prompt: str | Iterable[Message]) -> Call[Completion] | ArenaError:
        try:
            if isinstance(prompt, str):
                return generate_call(model, prompt, None, options)
            return generate_call(model, None, prompt, options)
        except ArenaError as error:
            return error

    return [one(prompt) for prompt in every]


def score_call(
    model: str,
    prompt: str | None,
    continuations: Iterable[str],
    messages: Iterable[Message] | None,
    session: str,
    labels: Mapping[str, str] | None,
) -> Call[list[Score]]:
    """A Score call."""

    def scores(reply: score_pb2.ScoreResponse) -> list[Score]:
        return list(_convert.scoring_from_proto(reply).scores)

    with _refusals(model):
        request = ScoringRequest(
            model=model,
            input=_input(prompt, messages),
            continuations=_list("continuations", continuations),
            session=session,
            labels=labels or {},
        )
        proto = _sized(_convert.score_request_to_proto(request))
    return Call("Score", proto, scores, model, session)


def is_available_call(model: str) -> Call[Availability]:
    """An IsAvailable call; an empty model asks after the whole service."""
    with _refusals(model):
        proto = _convert.is_available_request_to_proto(model)
    return Call("IsAvailable", proto, _convert.availability_from_proto, model)


def list_models_call() -> Call[ModelList]:
    """A ListModels call."""
    return Call("ListModels", models_pb2.ListModelsRequest(), _convert.models_from_proto)


@contextmanager
def _refusals(model: str) -> Iterator[None]:
    """Turns what the wire cannot carry into the client's error."""
    try:
        yield
    except FieldError as error:
        raise InvalidArgumentError(
            str(error),
            reason="INVALID_REQUEST",
            field=error.field,
            model=model if isinstance(model, str) else "",
        ) from None


_SERVING = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}


def health_call() -> Call[str]:
    """A Check of grpc.health.v1 (see _channel), to its status's name."""

    def status(reply: Int32Value) -> str:
        return _SERVING.get(reply.value, str(reply.value))

    return Call("Health", StringValue(), status)


def _generation(
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
    stops = (stop,) if isinstance(stop, str) else _list("config.stop", stop or ())
    return GenerationRequest(
        model=model,
        input=_input(prompt, messages),
        # An unknown option is Sampling's TypeError, which names it.
        sampling=Sampling(stop=stops, **sampling),
        constraint=_constraint(choices, json_schema, regex),
        session=session or "",
        labels=labels or {},
        provider_options=provider_options or {},
    )


def _input(prompt: str | None, messages: Iterable[Message] | None) -> Input:
    if prompt is None and messages is not None:
        return _list("conversation.messages", messages)
    if prompt is None or messages is not None:
        raise FieldError("input", "give a prompt or messages, and not both")
    if not isinstance(prompt, str):
        raise FieldError("prompt", f"must be a string, not {type(prompt).__name__}")
    return prompt


def _constraint(
    choices: Sequence[str] | None, json_schema: Mapping[str, Any] | str | None, regex: str | None
) -> Constraint | None:
    options = {"choices": choices, "json_schema": json_schema, "regex": regex}
    given = [name for name, value in options.items() if value is not None]
    if len(given) > 1:
        raise FieldError("constraint", f"only one of {', '.join(given)} can hold")
    if choices is not None:
        return Choices(_list("constraint.choices", choices))
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


def _list(field: str, values: Iterable[V]) -> tuple[V, ...]:
    # A string is a sequence of strings as well: never what is meant here.
    if isinstance(values, str):
        raise FieldError(field, "must be a list, not one string")
    try:
        return tuple(values)
    except TypeError:
        raise FieldError(field, f"must be a list, not {type(values).__name__}") from None


def _sized(request: P) -> P:
    if (size := request.ByteSize()) > MAX_MESSAGE_BYTES:
        mebibytes, most = size / 2**20, MAX_MESSAGE_BYTES // 2**20
        raise FieldError("input", f"the request has {mebibytes:.0f} MiB of at most {most}")
    return request
