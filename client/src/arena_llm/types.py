"""The dataclasses of the API: what a caller sends, and what a call returns.

The client and the services share them. `arena_llm.wire` maps them to protobuf messages.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, overload

from arena_llm._content import (
    CacheHint,
    Conversation,
    Image,
    ImageDetail,
    Input,
    Message,
    Part,
    ProviderState,
    RawPrompt,
    Reasoning,
    ReasoningForm,
    Refusal,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolMode,
    ToolResult,
)
from arena_llm._models import (
    Availability,
    BackendInfo,
    Capability,
    Credits,
    EngineLoad,
    FreePrice,
    Limits,
    Modality,
    Model,
    ModelList,
    ModelState,
    Price,
    PriceTable,
    PriceUnit,
    Rate,
    ReplicaInfo,
    ReplicaState,
    ServiceInfo,
    UnknownPrice,
    UnreachableBackend,
)
from arena_llm._options import (
    CONSTRAINTS,
    DEFAULT_REASONING,
    DEFAULT_RETURNS,
    DEFAULT_SAMPLING,
    PARAMETERS,
    PARAMETERS_BY_PATH,
    AnyJsonObject,
    CacheUse,
    Choices,
    Constraint,
    GenerateOptions,
    Grammar,
    GrammarSyntax,
    JsonSchema,
    LogprobKind,
    ProviderRouting,
    ReasoningEffort,
    ReasoningOptions,
    ReasoningVisibility,
    Regex,
    ReturnOptions,
    Sampling,
)
from arena_llm._parameter import Parameter
from arena_llm._reply import (
    Attempt,
    CallReport,
    Completion,
    CostBasis,
    Delta,
    Enforcement,
    FailedModel,
    FinishReason,
    Progress,
    ProgressState,
    ServedBy,
    StopMatch,
    StreamStart,
    Timings,
    Token,
    TokenTrace,
    ToolCallDelta,
    Usage,
    to_picousd,
    to_usd,
)

__all__ = [
    "CONSTRAINTS",
    "DEFAULT_REASONING",
    "DEFAULT_RETURNS",
    "DEFAULT_SAMPLING",
    "PARAMETERS",
    "PARAMETERS_BY_PATH",
    "AnyJsonObject",
    "Attempt",
    "Availability",
    "BackendInfo",
    "CacheHint",
    "CacheUse",
    "CallReport",
    "Capability",
    "Choices",
    "Completion",
    "Constraint",
    "Continuation",
    "ContinuationBoundary",
    "Conversation",
    "CostBasis",
    "CountRequest",
    "Credits",
    "Delta",
    "Enforcement",
    "EngineLoad",
    "FailedModel",
    "FinishReason",
    "FreePrice",
    "GenerateOptions",
    "GenerationRequest",
    "Grammar",
    "GrammarSyntax",
    "Image",
    "ImageDetail",
    "Input",
    "JsonSchema",
    "Limits",
    "LogprobKind",
    "Message",
    "Modality",
    "Model",
    "ModelList",
    "ModelState",
    "Parameter",
    "Part",
    "Price",
    "PriceTable",
    "PriceUnit",
    "Progress",
    "ProgressState",
    "ProviderRouting",
    "ProviderState",
    "Rate",
    "RawPrompt",
    "Reasoning",
    "ReasoningEffort",
    "ReasoningForm",
    "ReasoningOptions",
    "ReasoningVisibility",
    "Refusal",
    "Regex",
    "ReplicaInfo",
    "ReplicaState",
    "ReturnOptions",
    "Sampling",
    "Score",
    "Scoring",
    "ScoringRequest",
    "ServedBy",
    "ServiceInfo",
    "StopMatch",
    "StreamStart",
    "Text",
    "Timings",
    "Token",
    "TokenCount",
    "TokenTrace",
    "Tool",
    "ToolCall",
    "ToolCallDelta",
    "ToolChoice",
    "ToolMode",
    "ToolResult",
    "UnknownPrice",
    "UnreachableBackend",
    "Usage",
    "to_picousd",
    "to_usd",
]


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """A request for one completion.

    model: full name, with its prefix. fallback_models: that may answer in its place; None means
    that the router's configuration decides. deadline: when the caller's timeout ends, on the clock
    of time.monotonic(); None means no timeout. A service sets it; it is not sent.
    """

    model: str
    input: Input
    sampling: Sampling = DEFAULT_SAMPLING
    constraint: Constraint | None = None
    reasoning: ReasoningOptions = DEFAULT_REASONING
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    returns: ReturnOptions = DEFAULT_RETURNS
    routing: ProviderRouting | None = None
    session: str = ""
    request_id: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    template_arguments_json: str = ""
    provider_options_json: str = ""
    fallback_models: tuple[str, ...] | None = None
    cache_use: CacheUse | None = None
    deadline: float | None = None

    @property
    def messages(self) -> tuple[Message, ...]:
        """The messages of the input; a prompt is one message of the user.

        Raises TypeError for a raw prompt, which has none.
        """
        match self.input:
            case str():
                return (Message("user", self.input),)
            case Conversation():
                return self.input.messages
        raise TypeError("a raw prompt has no messages")

    @property
    def provider_options(self) -> dict[str, Any]:
        """provider_options_json as a dict; empty if there are none."""
        options: dict[str, Any] = json.loads(self.provider_options_json or "{}")
        return options

    @property
    def template_arguments(self) -> dict[str, Any]:
        """template_arguments_json as a dict; empty if there are none."""
        arguments: dict[str, Any] = json.loads(self.template_arguments_json or "{}")
        return arguments


@dataclass(frozen=True, slots=True)
class Continuation:
    """A text or token ids to score after a prompt."""

    text: str | None = None
    token_ids: tuple[int, ...] | None = None


class ContinuationBoundary(StrEnum):
    """How the text of a continuation is tokenized.

    SEPARATE: alone; its tokens follow the prompt's tokens. JOINED: together with the prompt, and
    cut where the prompt's own tokens end, as evaluation harnesses do.
    """

    SEPARATE = "separate"
    JOINED = "joined"


@dataclass(frozen=True, slots=True)
class ScoringRequest:
    """A request for the log-probabilities of continuations of an input.

    prompt_logprobs: also return the log-probability of each prompt token. top_logprobs: the
    number of alternatives at each position; None means none.
    """

    model: str
    input: Input
    continuations: tuple[Continuation, ...] = ()
    boundary: ContinuationBoundary | None = None
    prompt_logprobs: bool = False
    top_logprobs: int | None = None
    session: str = ""
    request_id: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    template_arguments_json: str = ""


@dataclass(frozen=True, slots=True)
class Score:
    """The score of one continuation.

    logprob: the sum of the natural log-probabilities of its tokens. is_greedy: each token is the
    likeliest one at its position. tokens: with ids and log-probabilities. text: the continuation;
    the client sets it, and it is not sent.
    """

    logprob: float
    is_greedy: bool = False
    tokens: TokenTrace = TokenTrace()
    text: str = ""


@dataclass(frozen=True, slots=True)
class Scoring(Sequence[Score]):
    """The scores of a scoring request, in the order of its continuations, as a sequence.

    prompt_tokens: the prompt's tokens, if the request asks for prompt_logprobs.
    """

    scores: tuple[Score, ...]
    prompt_tokens: TokenTrace | None = None
    usage: Usage = Usage()
    served_by: ServedBy = ServedBy()
    timings: Timings = Timings()
    request_id: str = ""

    def __len__(self) -> int:
        return len(self.scores)

    @overload
    def __getitem__(self, index: int) -> Score: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Score, ...]: ...
    def __getitem__(self, index: int | slice) -> Score | tuple[Score, ...]:
        return self.scores[index]


@dataclass(frozen=True, slots=True)
class CountRequest:
    """A request for the number of tokens of an input.

    return_tokens: also return the token ids and the rendered prompt.
    """

    model: str
    input: Input
    tools: tuple[Tool, ...] = ()
    template_arguments_json: str = ""
    return_tokens: bool = False


@dataclass(frozen=True, slots=True)
class TokenCount:
    """The number of tokens of an input, after the chat template.

    estimated: the service guessed it without the model's tokenizer. trace: the tokens, if the
    request asks for them and they are known.
    """

    tokens: int
    estimated: bool = False
    trace: TokenTrace | None = None
