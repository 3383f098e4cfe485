"""The nouns of the API as frozen dataclasses: what goes in and what comes out.

Client and services share them; `_convert` maps them to and from the wire.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, overload


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Sampling:
    """Sampling parameters; None means the backend's default.

    temperature: 0 (greedy) to 100. top_p: over 0, up to 1. top_k: 0 is off.
    max_tokens: at least 1. seed: 0 or more. stop: at most 16 strings, none empty.
    presence_penalty, frequency_penalty: -2 to 2. logprobs: 0 to 20 alternatives.
    """

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    max_tokens: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logprobs: int | None = None


@dataclass(frozen=True, slots=True)
class Choices:
    """Exactly one of these strings comes back."""

    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class JsonSchema:
    """The text is JSON that this schema (JSON text) accepts."""

    schema: str


@dataclass(frozen=True, slots=True)
class Regex:
    """The whole text matches this pattern."""

    pattern: str


Constraint = Choices | JsonSchema | Regex

#: A user's message (or raw text, for a base model), or a conversation.
Input = str | tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """A request for one completion, to a model by its full name.

    deadline: when the caller's time is up, on the clock of time.monotonic(); a
    service sets it, and it does not travel. None: the caller waits for ever.
    """

    model: str
    input: Input
    sampling: Sampling = Sampling()
    constraint: Constraint | None = None
    session: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    provider_options: Mapping[str, Any] = field(default_factory=dict)
    deadline: float | None = None


@dataclass(frozen=True, slots=True)
class ScoringRequest:
    """A request for the log-probabilities of continuations of one input."""

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
    """Tokens and cost of one call; cost_usd is None where it is not known."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    cached_tokens: int = 0
    cost_usd: float | None = None


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds from arrival at the answering service."""

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
    """A completion token, its natural log-probability, and the likeliest instead."""

    token: str
    logprob: float
    top: tuple[TopLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Completion:
    """One whole completion."""

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
    """A piece of a streamed completion: text or reasoning, whole characters."""

    text: str = ""
    reasoning: str = ""


@dataclass(frozen=True, slots=True)
class Score:
    """A continuation, its summed natural log-probability and its token count."""

    text: str
    logprob: float
    tokens: int


@dataclass(frozen=True, slots=True)
class Scoring:
    """The scores of one scoring request, in its order."""

    scores: tuple[Score, ...]
    usage: Usage
    model: str
    backend: str = ""


class ModelState(StrEnum):
    """Whether a model can answer now."""

    READY = "ready"
    LOADING = "loading"
    NOT_LOADED = "not_loaded"
    MISCONFIGURED = "misconfigured"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Credits:
    """US dollars left; None where the provider does not tell."""

    balance_usd: float | None = None
    limit_remaining_usd: float | None = None


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """What a local engine is doing, counted since its model was loaded."""

    running: int = 0
    waiting: int = 0
    generated_tokens: int = 0


@dataclass(frozen=True, slots=True)
class UnreachableBackend:
    """A backend that the router could not ask, and why."""

    backend: str
    address: str
    detail: str


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars for one token."""

    prompt_usd: float
    completion_usd: float


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether a model is usable now; `detail` says how to fix it if not.

    `reason` is the error reason a call would fail with, empty if available.
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
    """A model that can be asked for, by its full name."""

    name: str
    backend: str = ""
    description: str = ""
    context_length: int | None = None
    capabilities: tuple[Capability, ...] = ()
    price: Price | None = None


@dataclass(frozen=True, slots=True)
class ModelList(Sequence[Model]):
    """Every model reachable, as a sequence, and the backends that could not be asked."""

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
