"""The base class of all backends. It uses domain types and knows nothing of gRPC."""

from __future__ import annotations

import asyncio
import re
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from typing import Any, ClassVar, Generic, NamedTuple, Self, TypeVar

from arena_llm.subclass import find_problem
from arena_llm.terminal import one_line
from arena_llm.types import (
    Availability,
    CallReport,
    Completion,
    CountRequest,
    Delta,
    GenerationRequest,
    Message,
    Model,
    Progress,
    Reasoning,
    Refusal,
    Scoring,
    ScoringRequest,
    Text,
    TokenCount,
    ToolCall,
    ToolCallDelta,
)
from services.common.config import ConfigError, ServiceConfig
from services.common.log import list_frames, log

C = TypeVar("C", bound=ServiceConfig)

#: A name becomes the prefix of its models, which ends with the first underscore.
_NAME = re.compile(r"[a-z][a-z0-9]*")

#: Characters of an exception's text in a message.
_MOST_SHOWN = 500


class BreakerState(NamedTuple):
    """A model whose calls are refused, because its provider keeps failing.

    reason: UPSTREAM_UNAVAILABLE or TIMEOUT. failures: attempts in a row that failed with it.
    seconds: until the next probe; 0: the next call is the probe.
    """

    model: str
    reason: str
    failures: int
    seconds: float


def describe_breaker(breaker: BreakerState) -> str:
    """Say in one line which calls are refused."""
    probe = f"in {breaker.seconds:.3g} s" if breaker.seconds else "with the next call"
    return (
        f"{breaker.model}: its provider failed {breaker.failures} times in a row "
        f"({breaker.reason}); it is tried again {probe}"
    )


class BaseLLMBackend(ABC, Generic[C]):
    """One source of models.

    A subclass sets `name` (the prefix of its models is `name` + "_") and `config_type`,
    declares what its models honour, and implements the three abstract methods. All methods
    run on one event loop. A method is cancelled when the caller disconnects or the deadline
    passes, and must then stop the work that it started.

    The servicer checks every request before the backend gets it: the ranges and the model's
    prefix. It refuses as UNSUPPORTED what the backend does not declare. It also checks every
    reply: a reply that breaks the contract becomes INTERNAL.

    Errors: raise the classes of services.common.errors. The caller gets any other exception
    as INTERNAL with an id, and the log has its type and frames under that id.
    """

    name: ClassVar[str]
    config_type: type[C]
    #: Paths of the request fields that the models honour, such as "config.temperature" and
    #: "constraint.choices"; services.common.fields lists all. Every backend honours prompts,
    #: conversations of texts, and hints.
    fields: ClassVar[frozenset[str]] = frozenset()
    #: True if `score` is implemented.
    can_score: ClassVar[bool] = False
    #: True if `count_tokens` is implemented.
    can_count_tokens: ClassVar[bool] = False
    #: Refused field -> what a caller can do instead: {"constraint.regex": "use choices"}. The
    #: backends of this repository list every field that they do not honour.
    refused: ClassVar[Mapping[str, str]] = {}
    #: True if the service forwards calls to another server and computes little itself.
    forwards_calls: ClassVar[bool] = False
    #: Patterns (fnmatch) of the environment variables that only this service reads, such as
    #: its keys. They come from the environment, else from .env.
    environment: ClassVar[tuple[str, ...]] = ()

    def __init__(self, config: C) -> None:
        self.config = config

    @classmethod
    def list_parts(cls, config: C) -> Mapping[str, str]:
        """The optional parts of the installation that a configuration needs, each with the reason.

        A part is an extra beside the backend's own. `make up` installs those that are missing.
        """
        return {}

    @classmethod
    def count_uncallable(cls, config: C) -> Mapping[str, int]:
        """The variables that are not set, such as keys, and how many listed models need each."""
        return {}

    async def start(self) -> None:
        """Prepare to serve. Health becomes SERVING when this returns."""

    async def reconfigure(self, config: C) -> Self:
        """Return the backend for another configuration: this one, or a new one that is started.

        A new one replaces this one, which is closed after its calls. Raises ConfigError if the
        configuration cannot be used while the service runs.
        """
        raise ConfigError(f"{self.name} reads its configuration only at its start")

    async def failed(self) -> str:
        """Wait until the backend cannot continue, and return the reason.

        Health then becomes NOT_SERVING and the process exits with an error, so that its
        supervisor restarts it. The default waits forever.
        """
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    def keep_report(self, request_id: str, report: CallReport) -> None:
        """Keep the report of a failed call for the next call with its request_id.

        The callers of the failed call had left. The default keeps nothing, because only paid calls
        need this.
        """

    def drain(self) -> None:
        """Prepare to stop. Running calls may end, but must not wait for a slow load."""

    async def aclose(self) -> None:
        """Release what `start` acquired; called after the last call has ended."""

    @abstractmethod
    async def generate_response(self, request: GenerationRequest) -> Completion:
        """Return one whole completion."""

    @abstractmethod
    async def is_model_available(self, model: str) -> Availability:
        """Return whether a model is usable now. Must not block and must not load the model."""

    @abstractmethod
    async def get_available_models(self) -> Sequence[Model]:
        """Return the configured models."""

    def list_breakers(self) -> Sequence[BreakerState]:
        """Return the models whose calls are refused now, because their provider keeps failing."""
        return ()

    async def stream_response(
        self, request: GenerationRequest
    ) -> AsyncGenerator[Delta | Progress | Completion, None]:
        """Yield deltas, then the completion.

        The servicer numbers the parts of the deltas: a new part begins where the kind of piece
        changes, and with the id of a tool call. The deltas of a part must add up to it. The
        default yields one delta for each part.
        """
        completion = await self.generate_response(request)
        if isinstance(completion, Completion):
            for delta in split_message(completion.message):
                yield delta
        yield completion

    async def score(self, request: ScoringRequest) -> Scoring:
        """Return the log-probability of each continuation, in the request's order."""
        raise NotImplementedError(f"{type(self).__name__} sets can_score without a score method")

    async def count_tokens(self, request: CountRequest) -> TokenCount:
        """Return the number of tokens of an input."""
        raise NotImplementedError(f"{type(self).__name__} sets can_count_tokens without the method")


def check_backend(kind: type[BaseLLMBackend[Any]]) -> None:
    """Raise ConfigError if a class of a backend is not complete."""
    name, config = getattr(kind, "name", None), getattr(kind, "config_type", None)
    if not (problem := find_problem(kind, BaseLLMBackend)):
        if not (isinstance(name, str) and _NAME.fullmatch(name)):
            problem = (
                f"must have a name of small letters and digits, such as 'parrot', not {name!r}"
            )
        elif not (isinstance(config, type) and issubclass(config, ServiceConfig)):
            problem = "must have a config_type, a subclass of services.common.config.ServiceConfig"
        elif not isinstance(kind.fields, Set):
            problem = "must have fields that are a frozenset, such as frozenset({'config.stop'})"
    if problem:
        raise ConfigError(f"the backend {_name_class(kind)} {problem}")


@contextmanager
def report_failed_start(kind: type[BaseLLMBackend[Any]]) -> Iterator[None]:
    """Turn an exception of a backend that is made or started into a ConfigError of one line.

    The log has the frames. A ConfigError of the backend itself stays unchanged.
    """
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        name, raised = _name_class(kind), type(error).__qualname__
        frames = list_frames(error)
        log.error("the backend cannot start", backend=name, type=raised, frames=frames)
        reason = f"{raised}: {one_line(str(error), _MOST_SHOWN)}"
        raise ConfigError(f"the backend {name} cannot start: {reason}") from error


def _name_class(kind: type[BaseLLMBackend[Any]]) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def split_message(message: Message) -> Iterator[Delta]:
    """Yield one delta for each part of a message."""
    for part in message.parts:
        match part:
            case Text(text):
                yield Delta(text=text)
            case Reasoning(text) if text:
                yield Delta(reasoning=text)
            case Refusal(text):
                yield Delta(refusal=text)
            case ToolCall(id, name, arguments):
                yield Delta(tool_call=ToolCallDelta(id, name, arguments))
