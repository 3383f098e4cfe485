from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ModelState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MODEL_STATE_UNSPECIFIED: _ClassVar[ModelState]
    MODEL_STATE_READY: _ClassVar[ModelState]
    MODEL_STATE_LOADING: _ClassVar[ModelState]
    MODEL_STATE_NOT_LOADED: _ClassVar[ModelState]
    MODEL_STATE_MISCONFIGURED: _ClassVar[ModelState]
    MODEL_STATE_UNKNOWN: _ClassVar[ModelState]

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
MODEL_STATE_UNSPECIFIED: ModelState
MODEL_STATE_READY: ModelState
MODEL_STATE_LOADING: ModelState
MODEL_STATE_NOT_LOADED: ModelState
MODEL_STATE_MISCONFIGURED: ModelState
MODEL_STATE_UNKNOWN: ModelState
CAPABILITY_UNSPECIFIED: Capability
CAPABILITY_CHAT: Capability
CAPABILITY_SCORE: Capability
CAPABILITY_CHOICES: Capability
CAPABILITY_JSON_SCHEMA: Capability
CAPABILITY_REGEX: Capability
CAPABILITY_LOGPROBS: Capability
CAPABILITY_SEED: Capability
CAPABILITY_REASONING: Capability

class IsAvailableRequest(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: str
    def __init__(self, model: _Optional[str] = ...) -> None: ...

class IsAvailableResponse(_message.Message):
    __slots__ = ("available", "state", "detail", "warnings", "credits", "load", "reason", "unreachable", "price")
    AVAILABLE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    CREDITS_FIELD_NUMBER: _ClassVar[int]
    LOAD_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    UNREACHABLE_FIELD_NUMBER: _ClassVar[int]
    PRICE_FIELD_NUMBER: _ClassVar[int]
    available: bool
    state: ModelState
    detail: str
    warnings: _containers.RepeatedScalarFieldContainer[str]
    credits: Credits
    load: EngineLoad
    reason: str
    unreachable: _containers.RepeatedCompositeFieldContainer[UnreachableBackend]
    price: Price
    def __init__(self, available: bool = ..., state: _Optional[_Union[ModelState, str]] = ..., detail: _Optional[str] = ..., warnings: _Optional[_Iterable[str]] = ..., credits: _Optional[_Union[Credits, _Mapping]] = ..., load: _Optional[_Union[EngineLoad, _Mapping]] = ..., reason: _Optional[str] = ..., unreachable: _Optional[_Iterable[_Union[UnreachableBackend, _Mapping]]] = ..., price: _Optional[_Union[Price, _Mapping]] = ...) -> None: ...

class Credits(_message.Message):
    __slots__ = ("balance_usd", "limit_remaining_usd")
    BALANCE_USD_FIELD_NUMBER: _ClassVar[int]
    LIMIT_REMAINING_USD_FIELD_NUMBER: _ClassVar[int]
    balance_usd: float
    limit_remaining_usd: float
    def __init__(self, balance_usd: _Optional[float] = ..., limit_remaining_usd: _Optional[float] = ...) -> None: ...

class EngineLoad(_message.Message):
    __slots__ = ("running", "waiting", "generated_tokens")
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    GENERATED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    running: int
    waiting: int
    generated_tokens: int
    def __init__(self, running: _Optional[int] = ..., waiting: _Optional[int] = ..., generated_tokens: _Optional[int] = ...) -> None: ...

class ListModelsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models", "unreachable")
    MODELS_FIELD_NUMBER: _ClassVar[int]
    UNREACHABLE_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[ModelInfo]
    unreachable: _containers.RepeatedCompositeFieldContainer[UnreachableBackend]
    def __init__(self, models: _Optional[_Iterable[_Union[ModelInfo, _Mapping]]] = ..., unreachable: _Optional[_Iterable[_Union[UnreachableBackend, _Mapping]]] = ...) -> None: ...

class ModelInfo(_message.Message):
    __slots__ = ("name", "backend", "description", "context_length", "capabilities", "price")
    NAME_FIELD_NUMBER: _ClassVar[int]
    BACKEND_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_LENGTH_FIELD_NUMBER: _ClassVar[int]
    CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    PRICE_FIELD_NUMBER: _ClassVar[int]
    name: str
    backend: str
    description: str
    context_length: int
    capabilities: _containers.RepeatedScalarFieldContainer[Capability]
    price: Price
    def __init__(self, name: _Optional[str] = ..., backend: _Optional[str] = ..., description: _Optional[str] = ..., context_length: _Optional[int] = ..., capabilities: _Optional[_Iterable[_Union[Capability, str]]] = ..., price: _Optional[_Union[Price, _Mapping]] = ...) -> None: ...

class Price(_message.Message):
    __slots__ = ("prompt_usd", "completion_usd")
    PROMPT_USD_FIELD_NUMBER: _ClassVar[int]
    COMPLETION_USD_FIELD_NUMBER: _ClassVar[int]
    prompt_usd: float
    completion_usd: float
    def __init__(self, prompt_usd: _Optional[float] = ..., completion_usd: _Optional[float] = ...) -> None: ...

class UnreachableBackend(_message.Message):
    __slots__ = ("backend", "address", "detail")
    BACKEND_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    backend: str
    address: str
    detail: str
    def __init__(self, backend: _Optional[str] = ..., address: _Optional[str] = ..., detail: _Optional[str] = ...) -> None: ...
