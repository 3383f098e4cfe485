from arena_llm.v1 import content_pb2 as _content_pb2
from arena_llm.v1 import reply_pb2 as _reply_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CacheUse(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CACHE_USE_UNSPECIFIED: _ClassVar[CacheUse]
    CACHE_USE_ALLOW: _ClassVar[CacheUse]
    CACHE_USE_BYPASS: _ClassVar[CacheUse]

class GrammarSyntax(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    GRAMMAR_SYNTAX_UNSPECIFIED: _ClassVar[GrammarSyntax]
    GRAMMAR_SYNTAX_GBNF: _ClassVar[GrammarSyntax]
    GRAMMAR_SYNTAX_LARK: _ClassVar[GrammarSyntax]

class ReasoningEffort(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REASONING_EFFORT_UNSPECIFIED: _ClassVar[ReasoningEffort]
    REASONING_EFFORT_NONE: _ClassVar[ReasoningEffort]
    REASONING_EFFORT_AUTO: _ClassVar[ReasoningEffort]
    REASONING_EFFORT_MINIMAL: _ClassVar[ReasoningEffort]
    REASONING_EFFORT_LOW: _ClassVar[ReasoningEffort]
    REASONING_EFFORT_MEDIUM: _ClassVar[ReasoningEffort]
    REASONING_EFFORT_HIGH: _ClassVar[ReasoningEffort]
    REASONING_EFFORT_XHIGH: _ClassVar[ReasoningEffort]
    REASONING_EFFORT_MAX: _ClassVar[ReasoningEffort]

class ReasoningVisibility(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REASONING_VISIBILITY_UNSPECIFIED: _ClassVar[ReasoningVisibility]
    REASONING_VISIBILITY_RAW: _ClassVar[ReasoningVisibility]
    REASONING_VISIBILITY_SUMMARY: _ClassVar[ReasoningVisibility]
    REASONING_VISIBILITY_HIDDEN: _ClassVar[ReasoningVisibility]

class ProgressState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PROGRESS_STATE_UNSPECIFIED: _ClassVar[ProgressState]
    PROGRESS_STATE_QUEUED: _ClassVar[ProgressState]
    PROGRESS_STATE_LOADING: _ClassVar[ProgressState]
    PROGRESS_STATE_WAITING: _ClassVar[ProgressState]
    PROGRESS_STATE_GENERATING: _ClassVar[ProgressState]
CACHE_USE_UNSPECIFIED: CacheUse
CACHE_USE_ALLOW: CacheUse
CACHE_USE_BYPASS: CacheUse
GRAMMAR_SYNTAX_UNSPECIFIED: GrammarSyntax
GRAMMAR_SYNTAX_GBNF: GrammarSyntax
GRAMMAR_SYNTAX_LARK: GrammarSyntax
REASONING_EFFORT_UNSPECIFIED: ReasoningEffort
REASONING_EFFORT_NONE: ReasoningEffort
REASONING_EFFORT_AUTO: ReasoningEffort
REASONING_EFFORT_MINIMAL: ReasoningEffort
REASONING_EFFORT_LOW: ReasoningEffort
REASONING_EFFORT_MEDIUM: ReasoningEffort
REASONING_EFFORT_HIGH: ReasoningEffort
REASONING_EFFORT_XHIGH: ReasoningEffort
REASONING_EFFORT_MAX: ReasoningEffort
REASONING_VISIBILITY_UNSPECIFIED: ReasoningVisibility
REASONING_VISIBILITY_RAW: ReasoningVisibility
REASONING_VISIBILITY_SUMMARY: ReasoningVisibility
REASONING_VISIBILITY_HIDDEN: ReasoningVisibility
PROGRESS_STATE_UNSPECIFIED: ProgressState
PROGRESS_STATE_QUEUED: ProgressState
PROGRESS_STATE_LOADING: ProgressState
PROGRESS_STATE_WAITING: ProgressState
PROGRESS_STATE_GENERATING: ProgressState

class GenerateRequest(_message.Message):
    __slots__ = ("model", "prompt", "conversation", "raw", "config", "constraint", "reasoning", "tools", "tool_choice", "returns", "routing", "session", "request_id", "labels", "template_arguments_json", "provider_options_json", "fallback_models", "cache_use")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    CONVERSATION_FIELD_NUMBER: _ClassVar[int]
    RAW_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    CONSTRAINT_FIELD_NUMBER: _ClassVar[int]
    REASONING_FIELD_NUMBER: _ClassVar[int]
    TOOLS_FIELD_NUMBER: _ClassVar[int]
    TOOL_CHOICE_FIELD_NUMBER: _ClassVar[int]
    RETURNS_FIELD_NUMBER: _ClassVar[int]
    ROUTING_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    TEMPLATE_ARGUMENTS_JSON_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_OPTIONS_JSON_FIELD_NUMBER: _ClassVar[int]
    FALLBACK_MODELS_FIELD_NUMBER: _ClassVar[int]
    CACHE_USE_FIELD_NUMBER: _ClassVar[int]
    model: str
    prompt: str
    conversation: _content_pb2.Conversation
    raw: _content_pb2.RawPrompt
    config: GenerationConfig
    constraint: Constraint
    reasoning: ReasoningConfig
    tools: _containers.RepeatedCompositeFieldContainer[_content_pb2.Tool]
    tool_choice: _content_pb2.ToolChoice
    returns: ReturnOptions
    routing: ProviderRouting
    session: str
    request_id: str
    labels: _containers.ScalarMap[str, str]
    template_arguments_json: str
    provider_options_json: str
    fallback_models: FallbackModels
    cache_use: CacheUse
    def __init__(self, model: _Optional[str] = ..., prompt: _Optional[str] = ..., conversation: _Optional[_Union[_content_pb2.Conversation, _Mapping]] = ..., raw: _Optional[_Union[_content_pb2.RawPrompt, _Mapping]] = ..., config: _Optional[_Union[GenerationConfig, _Mapping]] = ..., constraint: _Optional[_Union[Constraint, _Mapping]] = ..., reasoning: _Optional[_Union[ReasoningConfig, _Mapping]] = ..., tools: _Optional[_Iterable[_Union[_content_pb2.Tool, _Mapping]]] = ..., tool_choice: _Optional[_Union[_content_pb2.ToolChoice, _Mapping]] = ..., returns: _Optional[_Union[ReturnOptions, _Mapping]] = ..., routing: _Optional[_Union[ProviderRouting, _Mapping]] = ..., session: _Optional[str] = ..., request_id: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., template_arguments_json: _Optional[str] = ..., provider_options_json: _Optional[str] = ..., fallback_models: _Optional[_Union[FallbackModels, _Mapping]] = ..., cache_use: _Optional[_Union[CacheUse, str]] = ...) -> None: ...

class FallbackModels(_message.Message):
    __slots__ = ("names",)
    NAMES_FIELD_NUMBER: _ClassVar[int]
    names: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, names: _Optional[_Iterable[str]] = ...) -> None: ...

class GenerationConfig(_message.Message):
    __slots__ = ("temperature", "top_p", "top_k", "max_tokens", "seed", "stop", "presence_penalty", "frequency_penalty", "min_p", "repetition_penalty", "min_tokens", "stop_token_ids", "ignore_eos", "logit_bias")
    class LogitBiasEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: float
        def __init__(self, key: _Optional[int] = ..., value: _Optional[float] = ...) -> None: ...
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    TOP_P_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    PRESENCE_PENALTY_FIELD_NUMBER: _ClassVar[int]
    FREQUENCY_PENALTY_FIELD_NUMBER: _ClassVar[int]
    MIN_P_FIELD_NUMBER: _ClassVar[int]
    REPETITION_PENALTY_FIELD_NUMBER: _ClassVar[int]
    MIN_TOKENS_FIELD_NUMBER: _ClassVar[int]
    STOP_TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    IGNORE_EOS_FIELD_NUMBER: _ClassVar[int]
    LOGIT_BIAS_FIELD_NUMBER: _ClassVar[int]
    temperature: float
    top_p: float
    top_k: int
    max_tokens: int
    seed: int
    stop: _containers.RepeatedScalarFieldContainer[str]
    presence_penalty: float
    frequency_penalty: float
    min_p: float
    repetition_penalty: float
    min_tokens: int
    stop_token_ids: _containers.RepeatedScalarFieldContainer[int]
    ignore_eos: bool
    logit_bias: _containers.ScalarMap[int, float]
    def __init__(self, temperature: _Optional[float] = ..., top_p: _Optional[float] = ..., top_k: _Optional[int] = ..., max_tokens: _Optional[int] = ..., seed: _Optional[int] = ..., stop: _Optional[_Iterable[str]] = ..., presence_penalty: _Optional[float] = ..., frequency_penalty: _Optional[float] = ..., min_p: _Optional[float] = ..., repetition_penalty: _Optional[float] = ..., min_tokens: _Optional[int] = ..., stop_token_ids: _Optional[_Iterable[int]] = ..., ignore_eos: bool = ..., logit_bias: _Optional[_Mapping[int, float]] = ...) -> None: ...

class Constraint(_message.Message):
    __slots__ = ("choices", "json_schema", "regex", "grammar", "json_object")
    CHOICES_FIELD_NUMBER: _ClassVar[int]
    JSON_SCHEMA_FIELD_NUMBER: _ClassVar[int]
    REGEX_FIELD_NUMBER: _ClassVar[int]
    GRAMMAR_FIELD_NUMBER: _ClassVar[int]
    JSON_OBJECT_FIELD_NUMBER: _ClassVar[int]
    choices: Choices
    json_schema: JsonSchema
    regex: Regex
    grammar: Grammar
    json_object: AnyJsonObject
    def __init__(self, choices: _Optional[_Union[Choices, _Mapping]] = ..., json_schema: _Optional[_Union[JsonSchema, _Mapping]] = ..., regex: _Optional[_Union[Regex, _Mapping]] = ..., grammar: _Optional[_Union[Grammar, _Mapping]] = ..., json_object: _Optional[_Union[AnyJsonObject, _Mapping]] = ...) -> None: ...

class Choices(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, values: _Optional[_Iterable[str]] = ...) -> None: ...

class JsonSchema(_message.Message):
    __slots__ = ("schema", "name")
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    schema: str
    name: str
    def __init__(self, schema: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class Regex(_message.Message):
    __slots__ = ("pattern",)
    PATTERN_FIELD_NUMBER: _ClassVar[int]
    pattern: str
    def __init__(self, pattern: _Optional[str] = ...) -> None: ...

class Grammar(_message.Message):
    __slots__ = ("syntax", "text")
    SYNTAX_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    syntax: GrammarSyntax
    text: str
    def __init__(self, syntax: _Optional[_Union[GrammarSyntax, str]] = ..., text: _Optional[str] = ...) -> None: ...

class AnyJsonObject(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ReasoningConfig(_message.Message):
    __slots__ = ("effort", "budget_tokens", "visibility")
    EFFORT_FIELD_NUMBER: _ClassVar[int]
    BUDGET_TOKENS_FIELD_NUMBER: _ClassVar[int]
    VISIBILITY_FIELD_NUMBER: _ClassVar[int]
    effort: ReasoningEffort
    budget_tokens: int
    visibility: ReasoningVisibility
    def __init__(self, effort: _Optional[_Union[ReasoningEffort, str]] = ..., budget_tokens: _Optional[int] = ..., visibility: _Optional[_Union[ReasoningVisibility, str]] = ...) -> None: ...

class ReturnOptions(_message.Message):
    __slots__ = ("token_ids", "top_logprobs", "logprob_kind", "logprob_token_ids", "raw_text")
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    TOP_LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    LOGPROB_KIND_FIELD_NUMBER: _ClassVar[int]
    LOGPROB_TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    RAW_TEXT_FIELD_NUMBER: _ClassVar[int]
    token_ids: bool
    top_logprobs: int
    logprob_kind: _reply_pb2.LogprobKind
    logprob_token_ids: _containers.RepeatedScalarFieldContainer[int]
    raw_text: bool
    def __init__(self, token_ids: bool = ..., top_logprobs: _Optional[int] = ..., logprob_kind: _Optional[_Union[_reply_pb2.LogprobKind, str]] = ..., logprob_token_ids: _Optional[_Iterable[int]] = ..., raw_text: bool = ...) -> None: ...

class ProviderRouting(_message.Message):
    __slots__ = ("providers", "allow_fallbacks", "precisions")
    PROVIDERS_FIELD_NUMBER: _ClassVar[int]
    ALLOW_FALLBACKS_FIELD_NUMBER: _ClassVar[int]
    PRECISIONS_FIELD_NUMBER: _ClassVar[int]
    providers: _containers.RepeatedScalarFieldContainer[str]
    allow_fallbacks: bool
    precisions: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, providers: _Optional[_Iterable[str]] = ..., allow_fallbacks: bool = ..., precisions: _Optional[_Iterable[str]] = ...) -> None: ...

class StreamGenerateResponse(_message.Message):
    __slots__ = ("sequence", "start", "delta", "progress", "completion", "interruption")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    DELTA_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    COMPLETION_FIELD_NUMBER: _ClassVar[int]
    INTERRUPTION_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    start: StreamStart
    delta: PartDelta
    progress: Progress
    completion: _reply_pb2.GenerateResponse
    interruption: _reply_pb2.GenerateResponse
    def __init__(self, sequence: _Optional[int] = ..., start: _Optional[_Union[StreamStart, _Mapping]] = ..., delta: _Optional[_Union[PartDelta, _Mapping]] = ..., progress: _Optional[_Union[Progress, _Mapping]] = ..., completion: _Optional[_Union[_reply_pb2.GenerateResponse, _Mapping]] = ..., interruption: _Optional[_Union[_reply_pb2.GenerateResponse, _Mapping]] = ...) -> None: ...

class StreamStart(_message.Message):
    __slots__ = ("id", "request_id", "served_by", "replayed")
    ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SERVED_BY_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    id: str
    request_id: str
    served_by: _reply_pb2.ServedBy
    replayed: bool
    def __init__(self, id: _Optional[str] = ..., request_id: _Optional[str] = ..., served_by: _Optional[_Union[_reply_pb2.ServedBy, _Mapping]] = ..., replayed: bool = ...) -> None: ...

class PartDelta(_message.Message):
    __slots__ = ("part", "text", "reasoning", "tool_call", "refusal", "tokens")
    PART_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    REASONING_FIELD_NUMBER: _ClassVar[int]
    TOOL_CALL_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    part: int
    text: str
    reasoning: str
    tool_call: ToolCallDelta
    refusal: str
    tokens: _reply_pb2.TokenTrace
    def __init__(self, part: _Optional[int] = ..., text: _Optional[str] = ..., reasoning: _Optional[str] = ..., tool_call: _Optional[_Union[ToolCallDelta, _Mapping]] = ..., refusal: _Optional[str] = ..., tokens: _Optional[_Union[_reply_pb2.TokenTrace, _Mapping]] = ...) -> None: ...

class ToolCallDelta(_message.Message):
    __slots__ = ("id", "name", "arguments")
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_FIELD_NUMBER: _ClassVar[int]
    id: str
    name: str
    arguments: str
    def __init__(self, id: _Optional[str] = ..., name: _Optional[str] = ..., arguments: _Optional[str] = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ("state", "queue_position", "usage")
    STATE_FIELD_NUMBER: _ClassVar[int]
    QUEUE_POSITION_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    state: ProgressState
    queue_position: int
    usage: _reply_pb2.Usage
    def __init__(self, state: _Optional[_Union[ProgressState, str]] = ..., queue_position: _Optional[int] = ..., usage: _Optional[_Union[_reply_pb2.Usage, _Mapping]] = ...) -> None: ...
