"""The dataclasses of the API: what a caller sends, and what a call returns.

The client and the services share them. `arena_llm.wire` maps them to protobuf messages.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, ClassVar, Literal, TypedDict, overload


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Parameter:
    """The type, range and meaning of one sampling parameter.

    kind: int, float, or str for a list of strings. help: the meaning, without the range.
    minimum, maximum: the bounds; None means no bound. exclusive_minimum: the minimum itself is
    not allowed. max_items: the longest list, for kind str.
    """

    kind: type[int] | type[float] | type[str]
    help: str
    minimum: float | None = None
    maximum: float | None = None
    exclusive_minimum: bool = False
    max_items: int = 0

    @property
    def range(self) -> str:
        """The allowed values in words, such as "over 0 and at most 1"."""
        if self.kind is str:
            return f"at most {self.max_items} strings, none empty"
        if self.maximum is None:
            return f"{'over' if self.exclusive_minimum else 'at least'} {self.minimum:g}"
        if self.exclusive_minimum:
            return f"over {self.minimum:g} and at most {self.maximum:g}"
        return f"from {self.minimum:g} to {self.maximum:g}"

    def problem(self, value: object) -> str:
        """Return what is wrong with a value, such as "must be from 0 to 100", or ""."""
        if self.kind is str:
            return self._problem_of_strings(value)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return "must be a number"
        if self.kind is int and not isinstance(value, int):
            return "must be an integer"
        low, high = self.minimum, self.maximum
        inside = (
            (isinstance(value, int) or math.isfinite(value))
            and (low is None or (low < value if self.exclusive_minimum else low <= value))
            and (high is None or value <= high)
        )
        return "" if inside else f"must be {self.range}"

    def _problem_of_strings(self, value: object) -> str:
        if isinstance(value, str) or not isinstance(value, Sequence):
            return "must be a list of strings"
        if len(value) > self.max_items:
            return f"must hold at most {self.max_items} strings"
        if not all(isinstance(item, str) for item in value):
            return "must hold strings only"
        return "" if all(value) else "must not hold an empty string"


def _parameter(default: Any, kind: type[Any], help: str, **limits: Any) -> Any:
    """Return a dataclass field that carries its Parameter as metadata."""
    return field(default=default, metadata={"parameter": Parameter(kind, help, **limits)})


@dataclass(frozen=True, slots=True)
class Sampling:
    """Sampling parameters. None, or no stop string, means the backend's default.

    This is the only place that states what a parameter means and which values it may
    have: the client's options, the command line, the services and experiments read it
    from SAMPLING_PARAMETERS.
    """

    temperature: float | None = _parameter(
        None,
        float,
        "scales the randomness; 0 always takes the likeliest token",
        minimum=0,
        maximum=100,
    )
    top_p: float | None = _parameter(
        None,
        float,
        "sample from the likeliest tokens that together have this probability",
        minimum=0,
        maximum=1,
        exclusive_minimum=True,
    )
    top_k: int | None = _parameter(
        None, int, "sample from this many likeliest tokens; 0 turns it off", minimum=0
    )
    max_tokens: int | None = _parameter(
        None, int, "the largest number of completion tokens", minimum=1
    )
    seed: int | None = _parameter(None, int, "the seed of the sampling", minimum=0)
    stop: tuple[str, ...] = _parameter(
        (), str, "the text ends before the first of these strings", max_items=16
    )
    presence_penalty: float | None = _parameter(
        None,
        float,
        "lowers the logit of each token that the completion already has",
        minimum=-2,
        maximum=2,
    )
    frequency_penalty: float | None = _parameter(
        None,
        float,
        "lowers the logit of a token for each time that the completion already has it",
        minimum=-2,
        maximum=2,
    )
    logprobs: int | None = _parameter(
        None,
        int,
        "return the log-probability of each token and of this many alternatives to it",
        minimum=0,
        maximum=20,
    )


#: Each field of Sampling, by its name.
SAMPLING_PARAMETERS: Mapping[str, Parameter] = {
    f.name: f.metadata["parameter"] for f in fields(Sampling)
}


@dataclass(frozen=True, slots=True)
class Choices:
    """The text is exactly one of these strings."""

    name: ClassVar[str] = "choices"

    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class JsonSchema:
    """The text is JSON that this schema (JSON text) accepts."""

    name: ClassVar[str] = "json_schema"

    schema: str


@dataclass(frozen=True, slots=True)
class Regex:
    """The whole text matches this pattern."""

    name: ClassVar[str] = "regex"

    pattern: str


Constraint = Choices | JsonSchema | Regex

#: Each kind of constraint, by its name: of the client's option, the wire's field
#: (constraint.NAME), and the capability of a model.
CONSTRAINTS: Mapping[str, type[Constraint]] = {
    kind.name: kind for kind in (Choices, JsonSchema, Regex)
}


class GenerateOptions(TypedDict, total=False):
    """Options of generate, stream and generate_many.

    Absent or None means the backend's default. A backend raises UnsupportedError for an
    option that it cannot honour; no option is dropped in silence.

    The sampling parameters (max_tokens to logprobs): see Sampling.
    stop: a list of strings, or one string.
    choices: 1 to 4096 strings; the text is exactly one of them.
    json_schema: a JSON Schema (dict or JSON text); the text is JSON that it accepts. If
        max_tokens ends the text earlier, it is cut off JSON: check that finish_reason is
        not LENGTH before parsing it.
    regex: a pattern that the whole text matches.
        Only one of choices, json_schema and regex can be given.
    session: the name of a game; calls of a session share a prefix cache.
    labels: for accounting, such as {"experiment": "e1"}; at most 16.
    provider_options: passed to the provider unchanged (JSON types).
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


#: A prompt (a user message, or raw text for a base model), or a conversation.
Input = str | tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """A request for one completion.

    model: full name, with its prefix. deadline: when the timeout of the caller is over, on
    the clock of time.monotonic(); None means no timeout. A service sets it; it is not sent.
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
    """A piece of a streamed completion: text or reasoning, in whole characters."""

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
    """The US dollars left of the account and of the key's limit; None if unknown."""

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
