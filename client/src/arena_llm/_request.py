"""From the callers' arguments to a call that is ready to be sent: no I/O here.

Only what the wire cannot carry is refused here. All the rest is left to the
server, so that there is one judge.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import index
from types import TracebackType
from typing import SupportsIndex, TypeVar

from google.protobuf.message import Message as ProtoMessage
from google.protobuf.wrappers_pb2 import Int32Value, StringValue

from arena_llm import _convert
from arena_llm._call import Call
from arena_llm._connection import MAX_MESSAGE_BYTES
from arena_llm._convert import FieldError
from arena_llm._options import generation_request, input_of, listed
from arena_llm.errors import ArenaError, InvalidArgumentError
from arena_llm.types import (
    Availability,
    Completion,
    GenerateOptions,
    Message,
    ModelList,
    Score,
    ScoringRequest,
)
from arena_llm.v1 import models_pb2, score_pb2

P = TypeVar("P", bound=ProtoMessage)


def generate_call(
    model: str,
    prompt: str | None,
    messages: Iterable[Message] | None,
    options: GenerateOptions,
) -> Call[Completion]:
    """A Generate call."""
    with _refusals(model):
        request = generation_request(model, prompt, messages, **options)
        proto = _sized(_convert.generate_request_to_proto(request))
    return Call("Generate", proto, _convert.completion_from_proto, model, request.session)


def stream_call(
    model: str,
    prompt: str | None,
    messages: Iterable[Message] | None,
    options: GenerateOptions,
) -> Call[Completion]:
    """A StreamGenerate call: Generate's request, delivered as it grows."""
    return generate_call(model, prompt, messages, options)._replace(method="StreamGenerate")


def generate_calls(
    model: str,
    prompts: Iterable[str | Iterable[Message]],
    options: GenerateOptions,
    concurrency: int,
) -> list[Call[Completion] | ArenaError]:
    """A call for each prompt (a string, or messages), or the error in its place."""
    with _refusals(model):
        if not isinstance(concurrency, SupportsIndex) or index(concurrency) < 1:
            raise FieldError("concurrency", f"must be a whole number over 0, not {concurrency!r}")
        every = listed("prompts", prompts)

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
            input=input_of(prompt, messages),
            continuations=listed("continuations", continuations),
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


_SERVING = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}


def health_call() -> Call[str]:
    """A Check of grpc.health.v1 (see _channel), to its status's name."""

    def status(reply: Int32Value) -> str:
        return _SERVING.get(reply.value, str(reply.value))

    return Call("Health", StringValue(), status)


class _refusals:
    """Turns what the wire cannot carry into the client's error.

    A class, because it is around every request: @contextmanager costs three times this.
    """

    __slots__ = ("_model",)

    def __init__(self, model: str) -> None:
        self._model = model

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, FieldError):
            raise InvalidArgumentError(
                str(error),
                reason="INVALID_REQUEST",
                field=error.field,
                model=self._model if isinstance(self._model, str) else "",
            ) from None


def _sized(request: P) -> P:
    if (size := request.ByteSize()) > MAX_MESSAGE_BYTES:
        mebibytes, most = size / 2**20, MAX_MESSAGE_BYTES // 2**20
        raise FieldError("input", f"the request has {mebibytes:.0f} MiB of at most {most}")
    return request
