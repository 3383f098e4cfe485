"""Builds calls from the arguments of the clients' methods, and converts their replies. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from operator import index
from typing import Any, Generic, NamedTuple, SupportsIndex, TypeVar

from google.protobuf.message import Message as ProtoMessage

from arena_llm._arguments import (
    Messages,
    Prompt,
    build_continuation,
    build_input,
    build_request,
    check_list,
    describe_unknown_option,
    make_request_id,
    to_json,
)
from arena_llm._codecs import to_field_error
from arena_llm.connection import MAX_MESSAGE_BYTES
from arena_llm.errors import ArenaError, InvalidArgumentError
from arena_llm.types import (
    Availability,
    Completion,
    ContinuationBoundary,
    CountRequest,
    GenerateOptions,
    ModelList,
    RawPrompt,
    Scoring,
    ScoringRequest,
    ServiceInfo,
    TokenCount,
    Tool,
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

#: The position of a prompt, with its completion or the error of its call.
Outcome = tuple[int, Completion | ArenaError]


class Call(NamedTuple, Generic[T]):
    """One RPC that is ready to be sent, and the function that converts its reply."""

    method: str
    request: ProtoMessage
    convert: Callable[[Any], T]
    model: str = ""
    session: str = ""
    needs_router: bool = False

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Headers for proxies, which route and hash calls without reading bodies.

        A call that only a router can make has no model header, so proxies send it to the router.
        """
        model = "" if self.needs_router else self.model
        pairs = (("arena-model", model), ("arena-session", self.session))
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
        request = build_request(model, prompt, messages, **options)
        message = _check_size(to_message(request, generate_pb2.GenerateRequest))
    session = request.session or request.request_id
    needs_router = bool(request.fallback_models)
    return Call("Generate", message, _read_completion, model, session, needs_router)


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
    """Return an iterator over the calls of the prompts; a wrong prompt yields its error instead.

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
            raise TypeError(describe_unknown_option(name))

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
            input=build_input(prompt, messages),
            continuations=tuple(
                build_continuation(f"continuations[{index}]", value)
                for index, value in enumerate(check_list("continuations", continuations))
            ),
            boundary=boundary,  # type: ignore[arg-type]  # the mapper also takes its text
            prompt_logprobs=prompt_logprobs,
            top_logprobs=top_logprobs,
            session=session,
            request_id=make_request_id(),
            labels=labels or {},
            template_arguments_json=to_json("template_arguments_json", template_arguments or ""),
        )
        message = _check_size(to_message(request, score_pb2.ScoreRequest))
    texts = [continuation.text or "" for continuation in request.continuations]
    home = session or request.request_id
    return Call("Score", message, partial(_read_scoring, texts), model, home)


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
            input=build_input(prompt, messages),
            tools=check_list("tools", tools or ()),
            template_arguments_json=to_json("template_arguments_json", template_arguments or ""),
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


def _read_completion(reply: reply_pb2.GenerateResponse) -> Completion:
    return from_message(reply, Completion)


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
