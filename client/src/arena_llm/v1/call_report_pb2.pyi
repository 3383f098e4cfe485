from arena_llm.v1 import reply_pb2 as _reply_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CallReport(_message.Message):
    __slots__ = ("request_id", "attempts", "usage", "served_by")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    SERVED_BY_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    attempts: _containers.RepeatedCompositeFieldContainer[_reply_pb2.Attempt]
    usage: _reply_pb2.Usage
    served_by: _reply_pb2.ServedBy
    def __init__(self, request_id: _Optional[str] = ..., attempts: _Optional[_Iterable[_Union[_reply_pb2.Attempt, _Mapping]]] = ..., usage: _Optional[_Union[_reply_pb2.Usage, _Mapping]] = ..., served_by: _Optional[_Union[_reply_pb2.ServedBy, _Mapping]] = ...) -> None: ...
