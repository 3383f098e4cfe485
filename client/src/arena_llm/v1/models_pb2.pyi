import datetime

from arena_llm.v1 import error_pb2 as _error_pb2
from arena_llm.v1 import generate_pb2 as _generate_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Modality(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MODALITY_UNSPECIFIED: _ClassVar[Modality]
    MODALITY_TEXT: _ClassVar[Modality]
    MODALITY_IMAGE: _ClassVar[Modality]

class Capability(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CAPABILITY_UNSPECIFIED: _ClassVar[Capability]
    CAPABILITY_CHAT: _ClassVar[Capability]
    CAPABILITY_SCORE: _ClassVar[Capability]
    CAPABILITY_CHOICES: _ClassVar[Capability]
    CAPABILITY_JSON_SCHEMA: _ClassVar[Capability]
    CAPABILITY_REGEX: _ClassVar[Capability]
    CAPABILITY_LOGPROBS: _ClassVar[Capability]
    CAPABILITY_SEED: _ClassVar[Capability]
    CAPABILITY_REASONING: _ClassVar[Capability]
    CAPABILITY_IMAGES: _ClassVar[Capability]
    CAPABILITY_TOOLS: _ClassVar[Capability]
    CAPABILITY_RAW: _ClassVar[Capability]
    CAPABILITY_TOKEN_IDS: _ClassVar[Capability]
    CAPABILITY_COUNT_TOKENS: _ClassVar[Capability]

class PriceUnit(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PRICE_UNIT_UNSPECIFIED: _ClassVar[PriceUnit]
    PRICE_UNIT_PROMPT_TOKEN: _ClassVar[PriceUnit]
    PRICE_UNIT_COMPLETION_TOKEN: _ClassVar[PriceUnit]
    PRICE_UNIT_REASONING_TOKEN: _ClassVar[PriceUnit]
    PRICE_UNIT_CACHED_TOKEN: _ClassVar[PriceUnit]
    PRICE_UNIT_CACHE_WRITE_TOKEN: _ClassVar[PriceUnit]
    PRICE_UNIT_IMAGE: _ClassVar[PriceUnit]
    PRICE_UNIT_REQUEST: _ClassVar[PriceUnit]

class ModelState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MODEL_STATE_UNSPECIFIED: _ClassVar[ModelState]
    MODEL_STATE_READY: _ClassVar[ModelState]
    MODEL_STATE_LOADING: _ClassVar[ModelState]
    MODEL_STATE_NOT_LOADED: _ClassVar[ModelState]
    MODEL_STATE_MISCONFIGURED: _ClassVar[ModelState]
    MODEL_STATE_UNKNOWN: _ClassVar[ModelState]
MODALITY_UNSPECIFIED: Modality
MODALITY_TEXT: Modality
MODALITY_IMAGE: Modality
CAPABILITY_UNSPECIFIED: Capability
CAPABILITY_CHAT: Capability
CAPABILITY_SCORE: Capability
CAPABILITY_CHOICES: Capability
CAPABILITY_JSON_SCHEMA: Capability
CAPABILITY_REGEX: Capability
CAPABILITY_LOGPROBS: Capability
CAPABILITY_SEED: Capability
CAPABILITY_REASONING: Capability
CAPABILITY_IMAGES: Capability
CAPABILITY_TOOLS: Capability
CAPABILITY_RAW: Capability
CAPABILITY_TOKEN_IDS: Capability
CAPABILITY_COUNT_TOKENS: Capability
PRICE_UNIT_UNSPECIFIED: PriceUnit
PRICE_UNIT_PROMPT_TOKEN: PriceUnit
PRICE_UNIT_COMPLETION_TOKEN: PriceUnit
PRICE_UNIT_REASONING_TOKEN: PriceUnit
PRICE_UNIT_CACHED_TOKEN: PriceUnit
PRICE_UNIT_CACHE_WRITE_TOKEN: PriceUnit
PRICE_UNIT_IMAGE: PriceUnit
PRICE_UNIT_REQUEST: PriceUnit
MODEL_STATE_UNSPECIFIED: ModelState
MODEL_STATE_READY: ModelState
MODEL_STATE_LOADING: ModelState
MODEL_STATE_NOT_LOADED: ModelState
MODEL_STATE_MISCONFIGURED: ModelState
MODEL_STATE_UNKNOWN: ModelState

class ListModelsRequest(_message.Message):
    __slots__ = ("page_size", "page_token", "name_prefix")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    NAME_PREFIX_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    name_prefix: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., name_prefix: _Optional[str] = ...) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models", "next_page_token", "unreachable")
    MODELS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    UNREACHABLE_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[ModelInfo]
    next_page_token: str
    unreachable: _containers.RepeatedCompositeFieldContainer[UnreachableBackend]
    def __init__(self, models: _Optional[_Iterable[_Union[ModelInfo, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., unreachable: _Optional[_Iterable[_Union[UnreachableBackend, _Mapping]]] = ...) -> None: ...

class ModelInfo(_message.Message):
    __slots__ = ("name", "backend", "description", "context_length", "max_output_tokens", "input_modalities", "capabilities", "supported_fields", "supported_fields_known", "reasoning_efforts", "defaults", "price", "model_revision", "precision")
    NAME_FIELD_NUMBER: _ClassVar[int]
    BACKEND_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_LENGTH_FIELD_NUMBER: _ClassVar[int]
    MAX_OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    INPUT_MODALITIES_FIELD_NUMBER: _ClassVar[int]
    CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    SUPPORTED_FIELDS_FIELD_NUMBER: _ClassVar[int]
    SUPPORTED_FIELDS_KNOWN_FIELD_NUMBER: _ClassVar[int]
    REASONING_EFFORTS_FIELD_NUMBER: _ClassVar[int]
    DEFAULTS_FIELD_NUMBER: _ClassVar[int]
    PRICE_FIELD_NUMBER: _ClassVar[int]
    MODEL_REVISION_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    name: str
    backend: str
    description: str
    context_length: int
    max_output_tokens: int
    input_modalities: _containers.RepeatedScalarFieldContainer[Modality]
    capabilities: _containers.RepeatedScalarFieldContainer[Capability]
    supported_fields: _containers.RepeatedScalarFieldContainer[str]
    supported_fields_known: bool
    reasoning_efforts: _containers.RepeatedScalarFieldContainer[_generate_pb2.ReasoningEffort]
    defaults: _generate_pb2.GenerationConfig
    price: Price
    model_revision: str
    precision: str
    def __init__(self, name: _Optional[str] = ..., backend: _Optional[str] = ..., description: _Optional[str] = ..., context_length: _Optional[int] = ..., max_output_tokens: _Optional[int] = ..., input_modalities: _Optional[_Iterable[_Union[Modality, str]]] = ..., capabilities: _Optional[_Iterable[_Union[Capability, str]]] = ..., supported_fields: _Optional[_Iterable[str]] = ..., supported_fields_known: bool = ..., reasoning_efforts: _Optional[_Iterable[_Union[_generate_pb2.ReasoningEffort, str]]] = ..., defaults: _Optional[_Union[_generate_pb2.GenerationConfig, _Mapping]] = ..., price: _Optional[_Union[Price, _Mapping]] = ..., model_revision: _Optional[str] = ..., precision: _Optional[str] = ...) -> None: ...

class Price(_message.Message):
    __slots__ = ("table", "free", "unknown")
    TABLE_FIELD_NUMBER: _ClassVar[int]
    FREE_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_FIELD_NUMBER: _ClassVar[int]
    table: PriceTable
    free: FreePrice
    unknown: UnknownPrice
    def __init__(self, table: _Optional[_Union[PriceTable, _Mapping]] = ..., free: _Optional[_Union[FreePrice, _Mapping]] = ..., unknown: _Optional[_Union[UnknownPrice, _Mapping]] = ...) -> None: ...

class PriceTable(_message.Message):
    __slots__ = ("rates", "read_time")
    RATES_FIELD_NUMBER: _ClassVar[int]
    READ_TIME_FIELD_NUMBER: _ClassVar[int]
    rates: _containers.RepeatedCompositeFieldContainer[Rate]
    read_time: _timestamp_pb2.Timestamp
    def __init__(self, rates: _Optional[_Iterable[_Union[Rate, _Mapping]]] = ..., read_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Rate(_message.Message):
    __slots__ = ("unit", "picousd", "above_prompt_tokens")
    UNIT_FIELD_NUMBER: _ClassVar[int]
    PICOUSD_FIELD_NUMBER: _ClassVar[int]
    ABOVE_PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    unit: PriceUnit
    picousd: int
    above_prompt_tokens: int
    def __init__(self, unit: _Optional[_Union[PriceUnit, str]] = ..., picousd: _Optional[int] = ..., above_prompt_tokens: _Optional[int] = ...) -> None: ...

class FreePrice(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class UnknownPrice(_message.Message):
    __slots__ = ("detail",)
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    detail: str
    def __init__(self, detail: _Optional[str] = ...) -> None: ...

class IsAvailableRequest(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: str
    def __init__(self, model: _Optional[str] = ...) -> None: ...

class IsAvailableResponse(_message.Message):
    __slots__ = ("available", "state", "detail", "warnings", "reason", "credits", "load", "model")
    AVAILABLE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    CREDITS_FIELD_NUMBER: _ClassVar[int]
    LOAD_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    available: bool
    state: ModelState
    detail: str
    warnings: _containers.RepeatedScalarFieldContainer[str]
    reason: _error_pb2.ErrorReason
    credits: Credits
    load: EngineLoad
    model: ModelInfo
    def __init__(self, available: bool = ..., state: _Optional[_Union[ModelState, str]] = ..., detail: _Optional[str] = ..., warnings: _Optional[_Iterable[str]] = ..., reason: _Optional[_Union[_error_pb2.ErrorReason, str]] = ..., credits: _Optional[_Union[Credits, _Mapping]] = ..., load: _Optional[_Union[EngineLoad, _Mapping]] = ..., model: _Optional[_Union[ModelInfo, _Mapping]] = ...) -> None: ...

class Credits(_message.Message):
    __slots__ = ("balance_picousd", "limit_remaining_picousd")
    BALANCE_PICOUSD_FIELD_NUMBER: _ClassVar[int]
    LIMIT_REMAINING_PICOUSD_FIELD_NUMBER: _ClassVar[int]
    balance_picousd: int
    limit_remaining_picousd: int
    def __init__(self, balance_picousd: _Optional[int] = ..., limit_remaining_picousd: _Optional[int] = ...) -> None: ...

class EngineLoad(_message.Message):
    __slots__ = ("running", "waiting", "generated_tokens")
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    GENERATED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    running: int
    waiting: int
    generated_tokens: int
    def __init__(self, running: _Optional[int] = ..., waiting: _Optional[int] = ..., generated_tokens: _Optional[int] = ...) -> None: ...

class UnreachableBackend(_message.Message):
    __slots__ = ("backend", "addresses", "detail")
    BACKEND_FIELD_NUMBER: _ClassVar[int]
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    backend: str
    addresses: _containers.RepeatedScalarFieldContainer[str]
    detail: str
    def __init__(self, backend: _Optional[str] = ..., addresses: _Optional[_Iterable[str]] = ..., detail: _Optional[str] = ...) -> None: ...
