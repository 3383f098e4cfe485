from arena_llm.v1 import models_pb2 as _models_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ReplicaState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REPLICA_STATE_UNSPECIFIED: _ClassVar[ReplicaState]
    REPLICA_STATE_SERVING: _ClassVar[ReplicaState]
    REPLICA_STATE_DRAINING: _ClassVar[ReplicaState]
    REPLICA_STATE_UNREACHABLE: _ClassVar[ReplicaState]
REPLICA_STATE_UNSPECIFIED: ReplicaState
REPLICA_STATE_SERVING: ReplicaState
REPLICA_STATE_DRAINING: ReplicaState
REPLICA_STATE_UNREACHABLE: ReplicaState

class GetServiceInfoRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetServiceInfoResponse(_message.Message):
    __slots__ = ("service", "software_version", "contract_revision", "minimum_client_revision", "limits", "backends")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    SOFTWARE_VERSION_FIELD_NUMBER: _ClassVar[int]
    CONTRACT_REVISION_FIELD_NUMBER: _ClassVar[int]
    MINIMUM_CLIENT_REVISION_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    BACKENDS_FIELD_NUMBER: _ClassVar[int]
    service: str
    software_version: str
    contract_revision: int
    minimum_client_revision: int
    limits: Limits
    backends: _containers.RepeatedCompositeFieldContainer[BackendInfo]
    def __init__(self, service: _Optional[str] = ..., software_version: _Optional[str] = ..., contract_revision: _Optional[int] = ..., minimum_client_revision: _Optional[int] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., backends: _Optional[_Iterable[_Union[BackendInfo, _Mapping]]] = ...) -> None: ...

class Limits(_message.Message):
    __slots__ = ("max_message_bytes", "max_bytes_in_flight", "max_calls_in_flight", "max_messages", "max_images", "max_image_bytes", "request_id_seconds")
    MAX_MESSAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_BYTES_IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    MAX_CALLS_IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    MAX_MESSAGES_FIELD_NUMBER: _ClassVar[int]
    MAX_IMAGES_FIELD_NUMBER: _ClassVar[int]
    MAX_IMAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_SECONDS_FIELD_NUMBER: _ClassVar[int]
    max_message_bytes: int
    max_bytes_in_flight: int
    max_calls_in_flight: int
    max_messages: int
    max_images: int
    max_image_bytes: int
    request_id_seconds: int
    def __init__(self, max_message_bytes: _Optional[int] = ..., max_bytes_in_flight: _Optional[int] = ..., max_calls_in_flight: _Optional[int] = ..., max_messages: _Optional[int] = ..., max_images: _Optional[int] = ..., max_image_bytes: _Optional[int] = ..., request_id_seconds: _Optional[int] = ...) -> None: ...

class BackendInfo(_message.Message):
    __slots__ = ("backend", "prefixes", "replicas", "credits", "limits")
    BACKEND_FIELD_NUMBER: _ClassVar[int]
    PREFIXES_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    CREDITS_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    backend: str
    prefixes: _containers.RepeatedScalarFieldContainer[str]
    replicas: _containers.RepeatedCompositeFieldContainer[ReplicaInfo]
    credits: _models_pb2.Credits
    limits: Limits
    def __init__(self, backend: _Optional[str] = ..., prefixes: _Optional[_Iterable[str]] = ..., replicas: _Optional[_Iterable[_Union[ReplicaInfo, _Mapping]]] = ..., credits: _Optional[_Union[_models_pb2.Credits, _Mapping]] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ...) -> None: ...

class ReplicaInfo(_message.Message):
    __slots__ = ("address", "state", "detail", "software_version", "contract_revision", "calls_in_flight", "calls_waiting")
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    SOFTWARE_VERSION_FIELD_NUMBER: _ClassVar[int]
    CONTRACT_REVISION_FIELD_NUMBER: _ClassVar[int]
    CALLS_IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    CALLS_WAITING_FIELD_NUMBER: _ClassVar[int]
    address: str
    state: ReplicaState
    detail: str
    software_version: str
    contract_revision: int
    calls_in_flight: int
    calls_waiting: int
    def __init__(self, address: _Optional[str] = ..., state: _Optional[_Union[ReplicaState, str]] = ..., detail: _Optional[str] = ..., software_version: _Optional[str] = ..., contract_revision: _Optional[int] = ..., calls_in_flight: _Optional[int] = ..., calls_waiting: _Optional[int] = ...) -> None: ...
