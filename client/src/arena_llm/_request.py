"""Builds calls from the arguments of the clients' methods. No I/O.

Only what the wire cannot carry is refused here. The server checks everything else, so
that each rule has one place.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from operator import index
from typing import Any, Generic, NamedTuple, SupportsIndex, TypeVar

from google.protobuf.message import Message as ProtoMessage
from google.protobuf.wrappers_pb2 import Int32Value, StringValue

from arena_llm._codecs import to_field_error
from arena_llm.connection import MAX_MESSAGE_BYTES
from arena_llm.errors import ArenaError, InvalidArgumentError
from arena_llm.suggestions import did_you_mean
from arena_llm.types import (
    PARAMETERS,
    AnyJsonObject,
    Availability,
    Choices,
    Completion,
    Constraint,
    Continuation,
    ContinuationBoundary,
    Conversation,
    CountRequest,
    GenerateOptions,
    GenerationRequest,
    Grammar,
    Input,
    JsonSchema,
    Message,
    ModelList,
    ProviderRouting,
    RawPrompt,
    ReasoningOptions,
    Regex,
    ReturnOptions,
    Sampling,
    Scoring,
    ScoringRequest,
    ServiceInfo,
    TokenCount,
    Tool,
    ToolChoice,
)
from arena_llm.v1 import (
    REVISION,
    generate_pb2,
    models_pb2,
    reply_pb2,
    score_pb2,
    service_info_pb2,
)
from arena_llm.wire import FieldError, from_message, to_message

T = TypeVar("T")
P = TypeVar("P", bound=ProtoMessage)

#: What callers may give as a conversation: its messages, or a Conversation.
Messages = Iterable[Message | Mapping[str, Any]] | Conversation
#: What callers may give as a prompt: a text, or a raw prompt.
Prompt = str | RawPrompt
#: The position of a prompt, with its completion or the error of its call.
Outcome = tuple[int, Completion | ArenaError]


class Call(NamedTuple, Generic[T]):
    """One RPC that is ready to be sent, and the function that converts its reply."""

    method: str
    request: ProtoMessage
    convert: Callable[[Any], T]
    model: str = ""
    session: str = ""

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Headers for proxies, which route and hash calls without reading bodies."""
        pairs = (("arena-model", self.model), ("arena-session", self.session))
        headers = tuple((key, value) for key, value in pairs if _fits_header(value))
        return (*headers, ("arena-contract", str(REVISION)))


def _fits_header(value: str) -> bool:
    """Whether a value can be a header. The service reads other values from the body."""
    return (
        0 < len(value) <= 1024
        and value.isascii()
        and value.isprintable()
        and value == value.strip()
    )


def build_generate_call(
    model: str, prompt: Prompt | None, messages: Messages | None, options: GenerateOptions
) -> Call[Completion]:
    """Build a Generate call."""
    with _InvalidArguments(model):
        request = _build_request(model, prompt, messages, **options)
        message = _check_size(to_message(request, generate_pb2.GenerateRequest))
    return Call("Generate", message, _read_completion, model, request.session)


def build_stream_call(
    model: str, prompt: Prompt | None, messages: Messages | None, options: GenerateOptions
) -> Call[Completion]:
    """Build a StreamGenerate call. Its request is that of Generate."""
    return build_generate_call(model, prompt, messages, options)._replace(method="StreamGenerate")


def build_generate_calls(
    model: str,
    prompts: Iterable[Prompt | Messages],
    options: GenerateOptions,
    concurrency: int,
) -> Iterator[Call[Completion] | ArenaError]:
    """Return an iterator that builds a call for each prompt, or its error in place of it.

    Raises InvalidArgumentError for wrong arguments, and TypeError for an unknown option, before
    the first prompt is read.
    """
    with _InvalidArguments(model):
        if not isinstance(concurrency, SupportsIndex) or index(concurrency) < 1:
            raise FieldError("concurrency", f"must be a whole number over 0, not {concurrency!r}")
        if isinstance(prompts, str) or not isinstance(prompts, Iterable):
            raise FieldError("prompts", f"must be a list, not {type(prompts).__name__}")
    for name in options:
        if name not in GenerateOptions.__annotations__:
            raise TypeError(_describe_unknown_option(name))

    def build(prompt: Prompt | Messages) -> Call[Completion] | ArenaError:
        try:
            if isinstance(prompt, str | RawPrompt):
                return build_generate_call(model, prompt, None, options)
            return build_generate_call(model, None, prompt, options)
        except ArenaError as error:
            return error

    return map(build, prompts)


def build_score_call(
    model: str,
    prompt: Prompt | None,
    continuations: Iterable[str | Sequence[int]],
    messages: Messages | None,
    *,
    boundary: ContinuationBoundary | str | None,
    prompt_logprobs: bool,
    top_logprobs: int | None,
    session: str,
    labels: Mapping[str, str] | None,
    template_arguments: Mapping[str, Any] | None,
) -> Call[Scoring]:
    """Build a Score call."""
    with _InvalidArguments(model):
        request = ScoringRequest(
            model=model,
            input=_build_input(prompt, messages),
            continuations=tuple(
                _build_continuation(f"continuations[{index}]", value)
                for index, value in enumerate(_check_list("continuations", continuations))
            ),
            boundary=boundary,  # type: ignore[arg-type]  # the mapper also takes its text
            prompt_logprobs=prompt_logprobs,
            top_logprobs=top_logprobs,
            session=session,
            request_id=_make_request_id(),
            labels=labels or {},
            template_arguments_json=_to_json("template_arguments_json", template_arguments or ""),
        )
        message = _check_size(to_message(request, score_pb2.ScoreRequest))
    texts = [continuation.text or "" for continuation in request.continuations]
    return Call("Score", message, partial(_read_scoring, texts), model, session)


def _read_scoring(texts: Sequence[str], reply: score_pb2.ScoreResponse) -> Scoring:
    scoring = from_message(reply, Scoring)
    pairs = zip(scoring.scores, texts, strict=False)
    return replace(scoring, scores=tuple(replace(score, text=text) for score, text in pairs))


def build_count_call(
    model: str,
    prompt: Prompt | None,
    messages: Messages | None,
    *,
    tools: Sequence[Tool] | None,
    template_arguments: Mapping[str, Any] | None,
    return_tokens: bool,
) -> Call[TokenCount]:
    """Build a CountTokens call."""
    with _InvalidArguments(model):
        request = CountRequest(
            model=model,
            input=_build_input(prompt, messages),
            tools=_check_list("tools", tools or ()),
            template_arguments_json=_to_json("template_arguments_json", template_arguments or ""),
            return_tokens=return_tokens,
        )
        message = _check_size(to_message(request, score_pb2.CountTokensRequest))
    return Call("CountTokens", message, partial(from_message, kind=TokenCount), model)


def build_availability_call(model: str) -> Call[Availability]:
    """Build an IsAvailable call."""
    with _InvalidArguments(model):
        message = models_pb2.IsAvailableRequest(model=_check_text("model", model))
    return Call("IsAvailable", message, partial(from_message, kind=Availability), model)


def build_models_call(name_prefix: str, page_token: str) -> Call[ModelList]:
    """Build a ListModels call for one page."""
    with _InvalidArguments(""):
        prefix = _check_text("name_prefix", name_prefix)
        message = models_pb2.ListModelsRequest(name_prefix=prefix, page_token=page_token)
    return Call("ListModels", message, partial(from_message, kind=ModelList))


def _check_text(field: str, value: str) -> str:
    """Return a string that protobuf can hold. Raises FieldError for other values."""
    if not isinstance(value, str):
        raise FieldError(field, f"must be a string, not {type(value).__name__}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise FieldError(field, to_field_error(error).problem) from None
    return value


def join_pages(pages: Sequence[ModelList]) -> ModelList:
    """Return the pages of a list of models as one list."""
    models = [model for page in pages for model in page.models]
    unreachable = dict.fromkeys(backend for page in pages for backend in page.unreachable)
    return ModelList(tuple(models), unreachable=tuple(unreachable))


def build_info_call() -> Call[ServiceInfo]:
    """Build a GetServiceInfo call."""
    message = service_info_pb2.GetServiceInfoRequest()
    return Call("GetServiceInfo", message, partial(from_message, kind=ServiceInfo))


def build_health_call() -> Call[str]:
    """Build a Check call of grpc.health.v1 (see _transport); it returns the status's name."""
    names = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}

    def convert(reply: Int32Value) -> str:
        return names.get(reply.value, str(reply.value))

    return Call("Health", StringValue(), convert)


def _read_completion(reply: reply_pb2.GenerateResponse) -> Completion:
    return from_message(reply, Completion)


def _make_request_id() -> str:
    """Return an id that no other call has, so that the service can recognize a repeated call."""
    return secrets.token_hex(16)


def _build_request(
    model: str,
    prompt: Prompt | None,
    messages: Messages | None,
    *,
    choices: Sequence[str] | None = None,
    json_schema: Mapping[str, Any] | str | None = None,
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
    **parameters: Any,
) -> GenerationRequest:
    groups = _group_parameters(parameters)
    return GenerationRequest(
        model=model,
        input=_build_input(prompt, messages),
        sampling=Sampling(**groups["config"]),
        constraint=_build_constraint(
            choices=choices,
            json_schema=json_schema,
            regex=regex,
            grammar=grammar,
            json_object=json_object or None,
        ),
        reasoning=ReasoningOptions(**groups["reasoning"]),
        tools=_check_list("tools", tools or ()),
        tool_choice=tool_choice,
        returns=ReturnOptions(**groups["returns"]),
        routing=routing,
        session=session or "",
        request_id=request_id or _make_request_id(),
        labels=labels or {},
        template_arguments_json=_to_json("template_arguments_json", template_arguments or ""),
        provider_options_json=_to_json("provider_options_json", provider_options or ""),
    )


def _group_parameters(options: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the options by message ("config") and field ("seed"), without those that are None.

    Raises TypeError for an unknown option.
    """
    groups: dict[str, dict[str, Any]] = {"config": {}, "reasoning": {}, "returns": {}}
    for name, value in options.items():
        if (parameter := PARAMETERS.get(name)) is None:
            raise TypeError(_describe_unknown_option(name))
        if value is None:
            continue
        if parameter.max_items and not parameter.keyed:
            value = (value,) if isinstance(value, str) else _check_list(parameter.path, value)
        group, _, field = parameter.path.partition(".")
        groups[group][field] = value
    return groups


def _describe_unknown_option(name: str) -> str:
    options = sorted(GenerateOptions.__annotations__)
    hint = did_you_mean(name, options, most=1) or f"; the options are {', '.join(options)}"
    return f"a completion has no option {name!r}{hint}"


def _build_input(prompt: Prompt | None, messages: Messages | None) -> Input:
    if prompt is None and messages is not None:
        if isinstance(messages, Conversation):
            return messages
        field = "conversation.messages"
        return Conversation(
            tuple(
                _build_message(f"{field}[{position}]", message)
                for position, message in enumerate(_check_list(field, messages))
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


def _build_continuation(field: str, value: object) -> Continuation:
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
                return Choices(_check_list("constraint.choices", value))
            case "json_schema":
                return JsonSchema(_to_json("constraint.json_schema", value))
            case "regex":
                return Regex(value)
            case "json_object":
                return AnyJsonObject()
            case "grammar" if not isinstance(value, Grammar):
                raise FieldError("constraint.grammar", f"must be a Grammar, not {value!r}")
        return value  # type: ignore[no-any-return]  # a Grammar
    return None


def _to_json(field: str, value: Mapping[str, Any] | str) -> str:
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


def _check_list(field: str, values: Iterable[T]) -> tuple[T, ...]:
    # A string is a sequence of strings too, but a caller never means that here.
    if isinstance(values, str):
        raise FieldError(field, "must be a list, not one string")
    try:
        return tuple(values)
    except TypeError:
        raise FieldError(field, f"must be a list, not {type(values).__name__}") from None


def _check_size(message: P) -> P:
    if (size := message.ByteSize()) > MAX_MESSAGE_BYTES:
        mebibytes, most = size / 2**20, MAX_MESSAGE_BYTES // 2**20
        raise FieldError("input", f"the request has {mebibytes:.0f} MiB of at most {most}")
    return message


class _InvalidArguments:
    """Turns a FieldError into the client's InvalidArgumentError.

    A class, because it is used for every request: 0.7 us, where @contextmanager costs 2.5.
    """

    __slots__ = ("_model",)

    def __init__(self, model: str) -> None:
        self._model = model

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, FieldError):
            raise InvalidArgumentError(
                str(error),
                reason="INVALID_REQUEST",
                field=error.field,
                model=self._model if isinstance(self._model, str) else "",
            ) from None
