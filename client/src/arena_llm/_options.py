"""The options of a completion: sampling, reasoning, what to return, and constraints.

`arena_llm.types` exports these names. A new sampling parameter needs a field of Sampling and
of GenerateOptions here, and a field of the message GenerationConfig.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, ClassVar, TypedDict

from arena_llm._content import Tool, ToolChoice
from arena_llm._parameter import Parameter


def _parameter(path: str, type: type[Any], help: str, *, default: Any = None, **limits: Any) -> Any:
    """Return a dataclass field that carries its Parameter as metadata."""
    parameter = Parameter(path, type, help, **limits)
    return field(default=default, metadata={"parameter": parameter})


@dataclass(frozen=True, slots=True)
class Sampling:
    """Sampling parameters. None, or an empty list, means the backend's default.

    This, with ReasoningOptions and ReturnOptions, is the only place that states what an option
    means and which values it may have: the client's options, the command line, the services and
    experiments read it from PARAMETERS.
    """

    temperature: float | None = _parameter(
        "config.temperature",
        float,
        "scales the randomness; at 0 the likeliest token is always taken",
        minimum=0,
        maximum=100,
    )
    top_p: float | None = _parameter(
        "config.top_p",
        float,
        "sample from the likeliest tokens that together have this probability",
        minimum=0,
        maximum=1,
        exclusive_minimum=True,
    )
    top_k: int | None = _parameter(
        "config.top_k", int, "sample from this many likeliest tokens; 0 turns it off", minimum=0
    )
    max_tokens: int | None = _parameter(
        "config.max_tokens", int, "the largest number of completion tokens", minimum=1
    )
    seed: int | None = _parameter(
        "config.seed", int, "the seed of the sampling", minimum=0, maximum=2**53 - 1
    )
    stop: tuple[str, ...] = _parameter(
        "config.stop",
        str,
        "the text ends before the first of these strings",
        default=(),
        max_items=16,
    )
    presence_penalty: float | None = _parameter(
        "config.presence_penalty",
        float,
        "lowers the logit of each token that the completion already contains",
        minimum=-2,
        maximum=2,
    )
    frequency_penalty: float | None = _parameter(
        "config.frequency_penalty",
        float,
        "lowers the logit of a token each time that the completion already contains it",
        minimum=-2,
        maximum=2,
    )
    min_p: float | None = _parameter(
        "config.min_p",
        float,
        "sample only from tokens with this fraction of the likeliest token's probability",
        minimum=0,
        maximum=1,
    )
    repetition_penalty: float | None = _parameter(
        "config.repetition_penalty",
        float,
        "makes the tokens of prompt and completion less likely; 1 turns it off",
        minimum=0,
        maximum=10,
        exclusive_minimum=True,
    )
    min_tokens: int | None = _parameter(
        "config.min_tokens", int, "the text does not end before this many tokens", minimum=0
    )
    stop_token_ids: tuple[int, ...] = _parameter(
        "config.stop_token_ids",
        int,
        "the text ends before the first of these tokens",
        default=(),
        max_items=64,
    )
    ignore_eos: bool = _parameter(
        "config.ignore_eos", bool, "go on after the end token", default=False
    )
    logit_bias: Mapping[int, float] = field(
        default_factory=dict,
        metadata={
            "parameter": Parameter(
                "config.logit_bias",
                float,
                "adds a number to the logits of tokens",
                minimum=-100,
                maximum=100,
                max_items=1024,
                keyed=True,
            )
        },
    )


class ReasoningEffort(StrEnum):
    """How much to reason. A model that lacks a level refuses it."""

    NONE = "none"
    AUTO = "auto"
    MINIMAL = "minimal"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    XHIGH = "xhigh"
    MAX = "max"


class ReasoningVisibility(StrEnum):
    """What reasoning to return: the tokens as generated, a summary (or the tokens), or no text."""

    RAW = "raw"
    SUMMARY = "summary"
    HIDDEN = "hidden"


@dataclass(frozen=True, slots=True)
class ReasoningOptions:
    """How much to reason (a level, or a number of tokens), and what of it to return."""

    effort: ReasoningEffort | None = _parameter(
        "reasoning.effort", ReasoningEffort, "how much the model reasons"
    )
    budget_tokens: int | None = _parameter(
        "reasoning.budget_tokens", int, "the largest number of reasoning tokens", minimum=1
    )
    visibility: ReasoningVisibility | None = _parameter(
        "reasoning.visibility", ReasoningVisibility, "what of the reasoning is returned"
    )


class LogprobKind(StrEnum):
    """Which probability a log-probability is of.

    RAW: the model's own, before temperature, penalties, bias and constraint. SAMPLED: that of the
    distribution from which the token was sampled.
    """

    RAW = "raw"
    SAMPLED = "sampled"


@dataclass(frozen=True, slots=True)
class ReturnOptions:
    """What to return beside the text."""

    token_ids: bool = _parameter(
        "returns.token_ids", bool, "return the ids of all tokens", default=False
    )
    top_logprobs: int | None = _parameter(
        "returns.top_logprobs",
        int,
        "return the log-probability of each token and of this many alternatives to it",
        minimum=0,
        maximum=20,
    )
    logprob_kind: LogprobKind | None = _parameter(
        "returns.logprob_kind", LogprobKind, "which probability to return; default: raw"
    )
    logprob_token_ids: tuple[int, ...] = _parameter(
        "returns.logprob_token_ids",
        int,
        "tokens whose log-probability is returned at each position",
        default=(),
        max_items=128,
    )
    raw_text: bool = _parameter(
        "returns.raw_text",
        bool,
        "return prompt and completion as the model reads and writes them",
        default=False,
    )


#: No option is set.
DEFAULT_SAMPLING = Sampling()
DEFAULT_REASONING = ReasoningOptions()
DEFAULT_RETURNS = ReturnOptions()

#: Each option of a completion that is a single value or a list, by the name that the client,
#: the command line and experiments use. Those of `reasoning` begin with "reasoning_".
PARAMETERS: Mapping[str, Parameter] = {
    ("reasoning_" if kind is ReasoningOptions else "") + f.name: f.metadata["parameter"]
    for kind in (Sampling, ReasoningOptions, ReturnOptions)
    for f in fields(kind)
}
#: The same by path, such as "config.temperature".
PARAMETERS_BY_PATH: Mapping[str, Parameter] = {p.path: p for p in PARAMETERS.values()}


class CacheUse(StrEnum):
    """Whether the router's cache may answer, if it has one.

    None: only if the request is greedy or seeded. ALLOW: always. BYPASS: never.
    """

    ALLOW = "allow"
    BYPASS = "bypass"


@dataclass(frozen=True, slots=True)
class ProviderRouting:
    """Which upstream provider may answer. Hosted backends only.

    providers: the allowed ones, best first; empty means any. allow_fallbacks: whether another
    allowed provider may answer if the first one fails; None means that the service's
    configuration decides. precisions: the allowed ones, such as "bf16"; empty means any.
    """

    providers: tuple[str, ...] = ()
    allow_fallbacks: bool | None = None
    precisions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Choices:
    """The text is exactly one of these strings."""

    kind: ClassVar[str] = "choices"

    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class JsonSchema:
    """The text is JSON that this schema (JSON text) accepts. name: for providers that want one."""

    kind: ClassVar[str] = "json_schema"

    schema: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class Regex:
    """The whole text matches this pattern."""

    kind: ClassVar[str] = "regex"

    pattern: str


class GrammarSyntax(StrEnum):
    """The language of a grammar."""

    GBNF = "gbnf"
    LARK = "lark"


@dataclass(frozen=True, slots=True)
class Grammar:
    """The text follows this grammar."""

    kind: ClassVar[str] = "grammar"

    syntax: GrammarSyntax
    text: str


@dataclass(frozen=True, slots=True)
class AnyJsonObject:
    """The text is any JSON object."""

    kind: ClassVar[str] = "json_object"


Constraint = Choices | JsonSchema | Regex | Grammar | AnyJsonObject

#: Each kind of constraint by its name, which is also the name of the client's option, and of the
#: message's field (constraint.NAME).
CONSTRAINTS: Mapping[str, type[Constraint]] = {
    kind.kind: kind for kind in (Choices, JsonSchema, Regex, Grammar, AnyJsonObject)
}


class GenerateOptions(TypedDict, total=False):
    """Options of generate, stream and generate_many.

    Absent or None means the backend's default. A backend raises UnsupportedError for an
    option that it cannot honour; no option is dropped in silence.

    The sampling parameters (max_tokens to logit_bias): see Sampling.
    stop: a list of strings, or one string.
    reasoning_effort, reasoning_budget_tokens, reasoning_visibility: see ReasoningOptions.
    top_logprobs, logprob_kind, logprob_token_ids, token_ids, raw_text: see ReturnOptions.
    choices: 1 to 4096 strings; the text is exactly one of them.
    json_schema: a JSON Schema (dict, JSON text, or a JsonSchema with a name); the text is JSON
        that it accepts. If max_tokens ends the text earlier, it is cut off JSON: check that
        finish_reason is not LENGTH before parsing it.
    regex: a pattern that the whole text matches.
    grammar: a Grammar that the text follows.
    json_object: True means that the text is any JSON object.
        Only one of choices, json_schema, regex, grammar and json_object can be given.
    tools: tools that the model may call, as Tool objects. tool_choice: a ToolChoice.
    routing: a ProviderRouting.
    session: the name of a game; the calls of a session share a prefix cache.
    labels: for accounting, such as {"experiment": "e1"}; at most 16.
    request_id: makes the call safe to repeat; the client makes one if it is not given.
    template_arguments: arguments of the chat template, such as {"enable_thinking": False}.
    provider_options: merged into the provider's request unchanged (JSON types).
    fallback_models: models that the router calls in order if the model cannot answer for a reason
        that waiting does not cure, such as missing credits. An empty list turns off the fallbacks
        of the router's configuration. reply.failed_models lists the models that failed before.
    cache_use: a CacheUse ("allow" or "bypass"). reply.cached says that the cache answered.
    """

    max_tokens: int | None
    temperature: float | None
    top_p: float | None
    top_k: int | None
    seed: int | None
    stop: str | Sequence[str] | None
    presence_penalty: float | None
    frequency_penalty: float | None
    min_p: float | None
    repetition_penalty: float | None
    min_tokens: int | None
    stop_token_ids: Sequence[int] | None
    ignore_eos: bool | None
    logit_bias: Mapping[int, float] | None
    reasoning_effort: ReasoningEffort | str | None
    reasoning_budget_tokens: int | None
    reasoning_visibility: ReasoningVisibility | str | None
    token_ids: bool | None
    top_logprobs: int | None
    logprob_kind: LogprobKind | str | None
    logprob_token_ids: Sequence[int] | None
    raw_text: bool | None
    choices: Sequence[str] | None
    json_schema: Mapping[str, Any] | str | JsonSchema | None
    regex: str | None
    grammar: Grammar | None
    json_object: bool | None
    tools: Sequence[Tool] | None
    tool_choice: ToolChoice | None
    routing: ProviderRouting | None
    session: str
    labels: Mapping[str, str] | None
    request_id: str
    template_arguments: Mapping[str, Any] | None
    provider_options: Mapping[str, Any] | None
    fallback_models: Sequence[str] | None
    cache_use: CacheUse | str | None
