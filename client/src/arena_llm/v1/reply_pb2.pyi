from arena_llm.v1 import content_pb2 as _content_pb2
from arena_llm.v1 import error_pb2 as _error_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FinishReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FINISH_REASON_UNSPECIFIED: _ClassVar[FinishReason]
    FINISH_REASON_STOP: _ClassVar[FinishReason]
    FINISH_REASON_LENGTH: _ClassVar[FinishReason]
    FINISH_REASON_CONTENT_FILTER: _ClassVar[FinishReason]
    FINISH_REASON_TOOL_CALLS: _ClassVar[FinishReason]
    FINISH_REASON_REFUSAL: _ClassVar[FinishReason]
    FINISH_REASON_CONTEXT: _ClassVar[FinishReason]
    FINISH_REASON_INTERRUPTED: _ClassVar[FinishReason]

class Enforcement(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ENFORCEMENT_UNSPECIFIED: _ClassVar[Enforcement]
    ENFORCEMENT_DECODING: _ClassVar[Enforcement]
    ENFORCEMENT_PROVIDER: _ClassVar[Enforcement]
    ENFORCEMENT_PROMPT: _ClassVar[Enforcement]

class CostBasis(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    COST_BASIS_UNSPECIFIED: _ClassVar[CostBasis]
    COST_BASIS_BILLED: _ClassVar[CostBasis]
    COST_BASIS_PRICE_LIST: _ClassVar[CostBasis]
    COST_BASIS_FREE: _ClassVar[CostBasis]

class LogprobKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LOGPROB_KIND_UNSPECIFIED: _ClassVar[LogprobKind]
    LOGPROB_KIND_RAW: _ClassVar[LogprobKind]
    LOGPROB_KIND_SAMPLED: _ClassVar[LogprobKind]
FINISH_REASON_UNSPECIFIED: FinishReason
FINISH_REASON_STOP: FinishReason
FINISH_REASON_LENGTH: FinishReason
FINISH_REASON_CONTENT_FILTER: FinishReason
FINISH_REASON_TOOL_CALLS: FinishReason
FINISH_REASON_REFUSAL: FinishReason
FINISH_REASON_CONTEXT: FinishReason
FINISH_REASON_INTERRUPTED: FinishReason
ENFORCEMENT_UNSPECIFIED: Enforcement
ENFORCEMENT_DECODING: Enforcement
ENFORCEMENT_PROVIDER: Enforcement
ENFORCEMENT_PROMPT: Enforcement
COST_BASIS_UNSPECIFIED: CostBasis
COST_BASIS_BILLED: CostBasis
COST_BASIS_PRICE_LIST: CostBasis
COST_BASIS_FREE: CostBasis
LOGPROB_KIND_UNSPECIFIED: LogprobKind
LOGPROB_KIND_RAW: LogprobKind
LOGPROB_KIND_SAMPLED: LogprobKind

class GenerateResponse(_message.Message):
    __slots__ = ("message", "text", "finish_reason", "stop_match", "native_finish_reason", "usage", "served_by", "id", "request_id", "replayed", "timings", "prompt_tokens", "completion_tokens", "attempts", "enforcement", "warnings", "failed_models", "cached")
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    STOP_MATCH_FIELD_NUMBER: _ClassVar[int]
    NATIVE_FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    SERVED_BY_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    COMPLETION_TOKENS_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    ENFORCEMENT_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    FAILED_MODELS_FIELD_NUMBER: _ClassVar[int]
    CACHED_FIELD_NUMBER: _ClassVar[int]
    message: _content_pb2.Message
    text: str
    finish_reason: FinishReason
    stop_match: StopMatch
    native_finish_reason: str
    usage: Usage
    served_by: ServedBy
    id: str
    request_id: str
    replayed: bool
    timings: Timings
    prompt_tokens: TokenTrace
    completion_tokens: TokenTrace
    attempts: _containers.RepeatedCompositeFieldContainer[Attempt]
    enforcement: Enforcement
    warnings: _containers.RepeatedScalarFieldContainer[str]
    failed_models: _containers.RepeatedCompositeFieldContainer[FailedModel]
    cached: bool
    def __init__(self, message: _Optional[_Union[_content_pb2.Message, _Mapping]] = ..., text: _Optional[str] = ..., finish_reason: _Optional[_Union[FinishReason, str]] = ..., stop_match: _Optional[_Union[StopMatch, _Mapping]] = ..., native_finish_reason: _Optional[str] = ..., usage: _Optional[_Union[Usage, _Mapping]] = ..., served_by: _Optional[_Union[ServedBy, _Mapping]] = ..., id: _Optional[str] = ..., request_id: _Optional[str] = ..., replayed: bool = ..., timings: _Optional[_Union[Timings, _Mapping]] = ..., prompt_tokens: _Optional[_Union[TokenTrace, _Mapping]] = ..., completion_tokens: _Optional[_Union[TokenTrace, _Mapping]] = ..., attempts: _Optional[_Iterable[_Union[Attempt, _Mapping]]] = ..., enforcement: _Optional[_Union[Enforcement, str]] = ..., warnings: _Optional[_Iterable[str]] = ..., failed_models: _Optional[_Iterable[_Union[FailedModel, _Mapping]]] = ..., cached: bool = ...) -> None: ...

class FailedModel(_message.Message):
    __slots__ = ("model", "reason", "detail")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    model: str
    reason: _error_pb2.ErrorReason
    detail: str
    def __init__(self, model: _Optional[str] = ..., reason: _Optional[_Union[_error_pb2.ErrorReason, str]] = ..., detail: _Optional[str] = ...) -> None: ...

class StopMatch(_message.Message):
    __slots__ = ("text", "token_id")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    text: str
    token_id: int
    def __init__(self, text: _Optional[str] = ..., token_id: _Optional[int] = ...) -> None: ...

class Usage(_message.Message):
    __slots__ = ("prompt_tokens", "completion_tokens", "reasoning_tokens", "cached_tokens", "cache_write_tokens", "image_tokens", "cost_picousd", "cost_basis", "estimated")
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    COMPLETION_TOKENS_FIELD_NUMBER: _ClassVar[int]
    REASONING_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CACHED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CACHE_WRITE_TOKENS_FIELD_NUMBER: _ClassVar[int]
    IMAGE_TOKENS_FIELD_NUMBER: _ClassVar[int]
    COST_PICOUSD_FIELD_NUMBER: _ClassVar[int]
    COST_BASIS_FIELD_NUMBER: _ClassVar[int]
    ESTIMATED_FIELD_NUMBER: _ClassVar[int]
    prompt_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    image_tokens: int
    cost_picousd: int
    cost_basis: CostBasis
    estimated: bool
    def __init__(self, prompt_tokens: _Optional[int] = ..., completion_tokens: _Optional[int] = ..., reasoning_tokens: _Optional[int] = ..., cached_tokens: _Optional[int] = ..., cache_write_tokens: _Optional[int] = ..., image_tokens: _Optional[int] = ..., cost_picousd: _Optional[int] = ..., cost_basis: _Optional[_Union[CostBasis, str]] = ..., estimated: bool = ...) -> None: ...

class Timings(_message.Message):
    __slots__ = ("queue_seconds", "first_token_seconds", "total_seconds")
    QUEUE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    FIRST_TOKEN_SECONDS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_SECONDS_FIELD_NUMBER: _ClassVar[int]
    queue_seconds: float
    first_token_seconds: float
    total_seconds: float
    def __init__(self, queue_seconds: _Optional[float] = ..., first_token_seconds: _Optional[float] = ..., total_seconds: _Optional[float] = ...) -> None: ...

class ServedBy(_message.Message):
    __slots__ = ("backend", "model", "provider", "region", "precision", "model_revision", "system_fingerprint", "engine", "replica", "service_version")
    BACKEND_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    MODEL_REVISION_FIELD_NUMBER: _ClassVar[int]
    SYSTEM_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    REPLICA_FIELD_NUMBER: _ClassVar[int]
    SERVICE_VERSION_FIELD_NUMBER: _ClassVar[int]
    backend: str
    model: str
    provider: str
    region: str
    precision: str
    model_revision: str
    system_fingerprint: str
    engine: str
    replica: str
    service_version: str
    def __init__(self, backend: _Optional[str] = ..., model: _Optional[str] = ..., provider: _Optional[str] = ..., region: _Optional[str] = ..., precision: _Optional[str] = ..., model_revision: _Optional[str] = ..., system_fingerprint: _Optional[str] = ..., engine: _Optional[str] = ..., replica: _Optional[str] = ..., service_version: _Optional[str] = ...) -> None: ...

class Attempt(_message.Message):
    __slots__ = ("provider", "upstream_id", "http_status", "reason", "seconds", "cost_picousd", "detail", "max_cost_picousd")
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    UPSTREAM_ID_FIELD_NUMBER: _ClassVar[int]
    HTTP_STATUS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    COST_PICOUSD_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    MAX_COST_PICOUSD_FIELD_NUMBER: _ClassVar[int]
    provider: str
    upstream_id: str
    http_status: int
    reason: _error_pb2.ErrorReason
    seconds: float
    cost_picousd: int
    detail: str
    max_cost_picousd: int
    def __init__(self, provider: _Optional[str] = ..., upstream_id: _Optional[str] = ..., http_status: _Optional[int] = ..., reason: _Optional[_Union[_error_pb2.ErrorReason, str]] = ..., seconds: _Optional[float] = ..., cost_picousd: _Optional[int] = ..., detail: _Optional[str] = ..., max_cost_picousd: _Optional[int] = ...) -> None: ...

class TokenTrace(_message.Message):
    __slots__ = ("ids", "logprobs", "bytes", "text_ends", "top_ids", "top_logprobs", "top_bytes", "top_count", "kind", "raw_text", "unscored")
    IDS_FIELD_NUMBER: _ClassVar[int]
    LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    TEXT_ENDS_FIELD_NUMBER: _ClassVar[int]
    TOP_IDS_FIELD_NUMBER: _ClassVar[int]
    TOP_LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    TOP_BYTES_FIELD_NUMBER: _ClassVar[int]
    TOP_COUNT_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    RAW_TEXT_FIELD_NUMBER: _ClassVar[int]
    UNSCORED_FIELD_NUMBER: _ClassVar[int]
    ids: _containers.RepeatedScalarFieldContainer[int]
    logprobs: _containers.RepeatedScalarFieldContainer[float]
    bytes: _containers.RepeatedScalarFieldContainer[bytes]
    text_ends: _containers.RepeatedScalarFieldContainer[int]
    top_ids: _containers.RepeatedScalarFieldContainer[int]
    top_logprobs: _containers.RepeatedScalarFieldContainer[float]
    top_bytes: _containers.RepeatedScalarFieldContainer[bytes]
    top_count: int
    kind: LogprobKind
    raw_text: str
    unscored: int
    def __init__(self, ids: _Optional[_Iterable[int]] = ..., logprobs: _Optional[_Iterable[float]] = ..., bytes: _Optional[_Iterable[bytes]] = ..., text_ends: _Optional[_Iterable[int]] = ..., top_ids: _Optional[_Iterable[int]] = ..., top_logprobs: _Optional[_Iterable[float]] = ..., top_bytes: _Optional[_Iterable[bytes]] = ..., top_count: _Optional[int] = ..., kind: _Optional[_Union[LogprobKind, str]] = ..., raw_text: _Optional[str] = ..., unscored: _Optional[int] = ...) -> None: ...
