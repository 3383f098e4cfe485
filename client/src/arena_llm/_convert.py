"""Domain types to and from the wire: pure functions, each used by both ends."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Any

from google.protobuf import json_format

from arena_llm.types import (
    Availability,
    Capability,
    Choices,
    Completion,
    Constraint,
    Credits,
    EngineLoad,
    FinishReason,
    GenerationRequest,
    Input,
    JsonSchema,
    Message,
    Model,
    ModelList,
    ModelState,
    Price,
    Regex,
    Sampling,
    Score,
    Scoring,
    ScoringRequest,
    Timings,
    TokenLogprob,
    TopLogprob,
    UnreachableBackend,
    Usage,
)
from arena_llm.v1 import generate_pb2, models_pb2, score_pb2

_ROLES = {
    "system": generate_pb2.ROLE_SYSTEM,
    "user": generate_pb2.ROLE_USER,
    "assistant": generate_pb2.ROLE_ASSISTANT,
}
_ROLE_NAMES = {number: name for name, number in _ROLES.items()}

_FINISH = {
    FinishReason.UNKNOWN: generate_pb2.FINISH_REASON_UNSPECIFIED,
    FinishReason.STOP: generate_pb2.FINISH_REASON_STOP,
    FinishReason.LENGTH: generate_pb2.FINISH_REASON_LENGTH,
    FinishReason.CONTENT_FILTER: generate_pb2.FINISH_REASON_CONTENT_FILTER,
}
_FINISH_NAMES = {number: reason for reason, number in _FINISH.items()}

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


# --- requests ---------------------------------------------------------------


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
    config = proto.config
    scalars = {name: getattr(config, name) for name in _SCALARS if config.HasField(name)}
    return GenerationRequest(
        model=proto.model,
        input=_input(proto),
        sampling=Sampling(stop=tuple(config.stop), **scalars),
        constraint=_constraint(proto.constraint),
        session=proto.session,
        labels=dict(proto.labels),
        provider_options=_plain(json_format.MessageToDict(proto.provider_options)),
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


# --- answers ----------------------------------------------------------------


def _usage_to_proto(usage: Usage) -> generate_pb2.Usage:
    return generate_pb2.Usage(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        cached_tokens=usage.cached_tokens,
        cost_usd=usage.cost_usd,
    )


def _usage_from_proto(proto: generate_pb2.Usage) -> Usage:
    return Usage(
        prompt_tokens=proto.prompt_tokens,
        completion_tokens=proto.completion_tokens,
        reasoning_tokens=proto.reasoning_tokens,
        cached_tokens=proto.cached_tokens,
        cost_usd=proto.cost_usd if proto.HasField("cost_usd") else None,
    )


def completion_to_proto(completion: Completion) -> generate_pb2.GenerateResponse:
    """One whole completion to the wire."""
    timings = completion.timings
    return generate_pb2.GenerateResponse(
        text=completion.text,
        reasoning=completion.reasoning,
        finish_reason=_FINISH[completion.finish_reason],
        usage=_usage_to_proto(completion.usage),
        model=completion.model,
        backend=completion.backend,
        id=completion.id,
        timings=generate_pb2.Timings(
            queue_seconds=timings.queue_seconds,
            first_token_seconds=timings.first_token_seconds,
            total_seconds=timings.total_seconds,
        ),
        logprobs=[
            generate_pb2.TokenLogprob(
                token=t.token,
                logprob=t.logprob,
                top=[generate_pb2.TopLogprob(token=a.token, logprob=a.logprob) for a in t.top],
            )
            for t in completion.logprobs
        ],
        attempts=completion.attempts,
    )


def completion_from_proto(proto: generate_pb2.GenerateResponse) -> Completion:
    """One whole completion from the wire."""
    timings = proto.timings
    return Completion(
        text=proto.text,
        reasoning=proto.reasoning,
        finish_reason=_FINISH_NAMES.get(proto.finish_reason, FinishReason.UNKNOWN),
        usage=_usage_from_proto(proto.usage),
        model=proto.model,
        backend=proto.backend,
        id=proto.id,
        timings=Timings(timings.queue_seconds, timings.first_token_seconds, timings.total_seconds),
        logprobs=tuple(
            TokenLogprob(t.token, t.logprob, tuple(TopLogprob(a.token, a.logprob) for a in t.top))
            for t in proto.logprobs
        ),
        attempts=proto.attempts,
    )


def scoring_to_proto(scoring: Scoring) -> score_pb2.ScoreResponse:
    """Scores to the wire."""
    return score_pb2.ScoreResponse(
        scores=[
            score_pb2.ContinuationScore(continuation=s.text, logprob=s.logprob, tokens=s.tokens)
            for s in scoring.scores
        ],
        model=scoring.model,
        backend=scoring.backend,
        usage=_usage_to_proto(scoring.usage),
    )


def scoring_from_proto(proto: score_pb2.ScoreResponse) -> Scoring:
    """Scores from the wire."""
    return Scoring(
        scores=tuple(Score(s.continuation, s.logprob, s.tokens) for s in proto.scores),
        usage=_usage_from_proto(proto.usage),
        model=proto.model,
        backend=proto.backend,
    )


# --- models -----------------------------------------------------------------

_STATES = {
    ModelState.READY: models_pb2.MODEL_STATE_READY,
    ModelState.LOADING: models_pb2.MODEL_STATE_LOADING,
    ModelState.NOT_LOADED: models_pb2.MODEL_STATE_NOT_LOADED,
    ModelState.MISCONFIGURED: models_pb2.MODEL_STATE_MISCONFIGURED,
    ModelState.UNKNOWN: models_pb2.MODEL_STATE_UNKNOWN,
}
_STATE_NAMES = {number: state for state, number in _STATES.items()}

_CAPABILITY_NAMES = {
    models_pb2.Capability.Value(f"CAPABILITY_{capability.name}"): capability
    for capability in Capability
}


def _unreachable_to_proto(
    unreachable: Iterable[UnreachableBackend],
) -> list[models_pb2.UnreachableBackend]:
    return [
        models_pb2.UnreachableBackend(backend=u.backend, address=u.address, detail=u.detail)
        for u in unreachable
    ]


def _unreachable_from_proto(
    protos: Iterable[models_pb2.UnreachableBackend],
) -> tuple[UnreachableBackend, ...]:
    return tuple(UnreachableBackend(u.backend, u.address, u.detail) for u in protos)


def availability_to_proto(availability: Availability) -> models_pb2.IsAvailableResponse:
    """A model's availability to the wire."""
    proto = models_pb2.IsAvailableResponse(
        available=availability.available,
        state=_STATES[availability.state],
        detail=availability.detail,
        warnings=availability.warnings,
        reason=availability.reason,
        unreachable=_unreachable_to_proto(availability.unreachable),
    )
    if (credit := availability.credits) is not None:
        proto.credits.CopyFrom(
            models_pb2.Credits(
                balance_usd=credit.balance_usd, limit_remaining_usd=credit.limit_remaining_usd
            )
        )
    if (load := availability.load) is not None:
        proto.load.CopyFrom(
            models_pb2.EngineLoad(
                running=load.running, waiting=load.waiting, generated_tokens=load.generated_tokens
            )
        )
    return proto


def availability_from_proto(proto: models_pb2.IsAvailableResponse) -> Availability:
    """A model's availability from the wire."""
    credit, load = proto.credits, proto.load
    return Availability(
        available=proto.available,
        state=_STATE_NAMES.get(proto.state, ModelState.UNKNOWN),
        detail=proto.detail,
        warnings=tuple(proto.warnings),
        credits=Credits(
            credit.balance_usd if credit.HasField("balance_usd") else None,
            credit.limit_remaining_usd if credit.HasField("limit_remaining_usd") else None,
        )
        if proto.HasField("credits")
        else None,
        load=EngineLoad(load.running, load.waiting, load.generated_tokens)
        if proto.HasField("load")
        else None,
        reason=proto.reason,
        unreachable=_unreachable_from_proto(proto.unreachable),
    )


def models_to_proto(models: ModelList) -> models_pb2.ListModelsResponse:
    """A list of models to the wire."""
    return models_pb2.ListModelsResponse(
        models=[
            models_pb2.ModelInfo(
                name=m.name,
                backend=m.backend,
                description=m.description,
                context_length=m.context_length,
                capabilities=[f"CAPABILITY_{c.name}" for c in m.capabilities],
                price=models_pb2.Price(
                    prompt_usd=m.price.prompt_usd, completion_usd=m.price.completion_usd
                )
                if m.price
                else None,
            )
            for m in models.models
        ],
        unreachable=_unreachable_to_proto(models.unreachable),
    )


def models_from_proto(proto: models_pb2.ListModelsResponse) -> ModelList:
    """A list of models from the wire."""
    return ModelList(
        models=tuple(
            Model(
                name=m.name,
                backend=m.backend,
                description=m.description,
                context_length=m.context_length if m.HasField("context_length") else None,
                capabilities=tuple(
                    _CAPABILITY_NAMES[c] for c in m.capabilities if c in _CAPABILITY_NAMES
                ),
                price=Price(m.price.prompt_usd, m.price.completion_usd)
                if m.HasField("price")
                else None,
            )
            for m in proto.models
        ),
        unreachable=_unreachable_from_proto(proto.unreachable),
    )
