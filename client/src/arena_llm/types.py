"""The dataclasses of the API: what a caller sends, and what a call returns.

The client and the services share them. `arena_llm.wire` maps them to protobuf messages.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, overload

from arena_llm._options import (
    CONSTRAINTS,
    DEFAULT_SAMPLING,
    SAMPLING_PARAMETERS,
    Choices,
    Constraint,
    GenerateOptions,
    JsonSchema,
    Parameter,
    Regex,
    Sampling,
)

__all__ = [
    "CONSTRAINTS",
    "SAMPLING_PARAMETERS",
    "Availability",
    "Capability",
    "Choices",
    "Completion",
    "Constraint",
    "Credits",
    "Delta",
    "EngineLoad",
    "FinishReason",
    "GenerateOptions",
    "GenerationRequest",
    "Input",
    "JsonSchema",
    "Message",
    "Model",
    "ModelList",
    "ModelState",
    "Parameter",
    "Price",
    "Regex",
    "Sampling",
    "Score",
    "Scoring",
    "ScoringRequest",
    "Timings",
    "TokenLogprob",
    "TopLogprob",
    "UnreachableBackend",
    "Usage",
]


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


#: A prompt (a user message, or raw text for a base model), or a conversation.
Input = str | tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """A request for one completion.

    model: full name, with its prefix. deadline: when the caller's timeout ends, on the clock
    of time.monotonic(); None means no timeout. A service sets it; it is not sent.
    """

    model: str
    input: Input
    sampling: Sampling = DEFAULT_SAMPLING
    constraint: Constraint | None = None
    session: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    provider_options: Mapping[str, Any] = field(default_factory=dict)
    deadline: float | None = None


@dataclass(frozen=True, slots=True)
class ScoringRequest:
    """A request for the log-probabilities of continuations of an input."""

    model: str
    input: Input
    continuations: tuple[str, ...]
    session: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


class FinishReason(StrEnum):
    """Why a completion ended."""

    UNKNOWN = "unknown"
    STOP = "stop"
    LENGTH = "length"
    CONTENT_FILTER = "content_filter"


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens and cost of one call; cost_usd is 0 for a free model and None if unknown."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    cached_tokens: int = 0
    cost_usd: float | None = None


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds since the call arrived at the service."""

    queue_seconds: float = 0.0
    first_token_seconds: float = 0.0
    total_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class TopLogprob:
    """An alternative token and its natural log-probability."""

    token: str
    logprob: float


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A completion token, its natural log-probability, and the likeliest alternatives."""

    token: str
    logprob: float
    top: tuple[TopLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Completion:
    """A completion.

    id: the provider's, or the service's own. model: the model that answered, which can
    differ from the request if a provider fell back. attempts: calls to the provider.
    """

    text: str
    finish_reason: FinishReason
    usage: Usage
    model: str
    backend: str = ""
    reasoning: str = ""
    id: str = ""
    timings: Timings = Timings()
    logprobs: tuple[TokenLogprob, ...] = ()
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of a streamed completion: text or reasoning. It never splits a character."""

    text: str = ""
    reasoning: str = ""


@dataclass(frozen=True, slots=True)
class Score:
    """A continuation, the sum of its natural log-probabilities, and its number of tokens."""

    text: str
    logprob: float
    tokens: int


@dataclass(frozen=True, slots=True)
class Scoring:
    """The scores of a scoring request, in the order of its continuations."""

    scores: tuple[Score, ...]
    usage: Usage
    model: str
    backend: str = ""


class ModelState(StrEnum):
    """The state of a model."""

    READY = "ready"
    LOADING = "loading"
    NOT_LOADED = "not_loaded"
    MISCONFIGURED = "misconfigured"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Credits:
    """US dollars that the account and the key's limit still have; None if unknown."""

    balance_usd: float | None = None
    limit_remaining_usd: float | None = None


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """Running and waiting requests of a local engine, and its tokens since it was loaded."""

    running: int = 0
    waiting: int = 0
    generated_tokens: int = 0


@dataclass(frozen=True, slots=True)
class UnreachableBackend:
    """A backend that the router could not reach, and why."""

    backend: str
    address: str
    detail: str


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars for one token; both are 0 for a free model."""

    prompt_usd: float
    completion_usd: float


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether a model is usable now.

    detail: how to fix it if it is not. reason: the reason of the error that a call would
    raise; empty if available. price: None if unknown.
    """

    available: bool
    state: ModelState
    detail: str = ""
    warnings: tuple[str, ...] = ()
    credits: Credits | None = None
    load: EngineLoad | None = None
    reason: str = ""
    unreachable: tuple[UnreachableBackend, ...] = ()
    price: Price | None = None


class Capability(StrEnum):
    """What a model can do besides plain generation."""

    CHAT = "chat"
    SCORE = "score"
    CHOICES = "choices"
    JSON_SCHEMA = "json_schema"
    REGEX = "regex"
    LOGPROBS = "logprobs"
    SEED = "seed"
    REASONING = "reasoning"


@dataclass(frozen=True, slots=True)
class Model:
    """A model. name: full, with its prefix. price, context_length: None if unknown."""

    name: str
    backend: str = ""
    description: str = ""
    context_length: int | None = None
    capabilities: tuple[Capability, ...] = ()
    price: Price | None = None


@dataclass(frozen=True, slots=True)
class ModelList(Sequence[Model]):
    """A sequence of all reachable models, and the backends whose models are missing."""

    models: tuple[Model, ...]
    unreachable: tuple[UnreachableBackend, ...] = ()

    def __len__(self) -> int:
        return len(self.models)

    def __iter__(self) -> Iterator[Model]:
        return iter(self.models)

    @overload
    def __getitem__(self, index: int) -> Model: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Model, ...]: ...
    def __getitem__(self, index: int | slice) -> Model | tuple[Model, ...]:
        return self.models[index]
