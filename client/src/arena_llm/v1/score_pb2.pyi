from arena_llm.v1 import content_pb2 as _content_pb2
from arena_llm.v1 import reply_pb2 as _reply_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ContinuationBoundary(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CONTINUATION_BOUNDARY_UNSPECIFIED: _ClassVar[ContinuationBoundary]
    CONTINUATION_BOUNDARY_SEPARATE: _ClassVar[ContinuationBoundary]
    CONTINUATION_BOUNDARY_JOINED: _ClassVar[ContinuationBoundary]
CONTINUATION_BOUNDARY_UNSPECIFIED: ContinuationBoundary
CONTINUATION_BOUNDARY_SEPARATE: ContinuationBoundary
CONTINUATION_BOUNDARY_JOINED: ContinuationBoundary

class ScoreRequest(_message.Message):
    __slots__ = ("model", "prompt", "conversation", "raw", "continuations", "boundary", "prompt_logprobs", "top_logprobs", "session", "request_id", "labels", "template_arguments_json")
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
    CONTINUATIONS_FIELD_NUMBER: _ClassVar[int]
    BOUNDARY_FIELD_NUMBER: _ClassVar[int]
    PROMPT_LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    TOP_LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    TEMPLATE_ARGUMENTS_JSON_FIELD_NUMBER: _ClassVar[int]
    model: str
    prompt: str
    conversation: _content_pb2.Conversation
    raw: _content_pb2.RawPrompt
    continuations: _containers.RepeatedCompositeFieldContainer[Continuation]
    boundary: ContinuationBoundary
    prompt_logprobs: bool
    top_logprobs: int
    session: str
    request_id: str
    labels: _containers.ScalarMap[str, str]
    template_arguments_json: str
    def __init__(self, model: _Optional[str] = ..., prompt: _Optional[str] = ..., conversation: _Optional[_Union[_content_pb2.Conversation, _Mapping]] = ..., raw: _Optional[_Union[_content_pb2.RawPrompt, _Mapping]] = ..., continuations: _Optional[_Iterable[_Union[Continuation, _Mapping]]] = ..., boundary: _Optional[_Union[ContinuationBoundary, str]] = ..., prompt_logprobs: bool = ..., top_logprobs: _Optional[int] = ..., session: _Optional[str] = ..., request_id: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., template_arguments_json: _Optional[str] = ...) -> None: ...

class Continuation(_message.Message):
    __slots__ = ("text", "token_ids")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    text: str
    token_ids: _content_pb2.TokenIds
    def __init__(self, text: _Optional[str] = ..., token_ids: _Optional[_Union[_content_pb2.TokenIds, _Mapping]] = ...) -> None: ...

class ScoreResponse(_message.Message):
    __slots__ = ("scores", "prompt_tokens", "usage", "served_by", "timings", "request_id")
    SCORES_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    SERVED_BY_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    scores: _containers.RepeatedCompositeFieldContainer[ContinuationScore]
    prompt_tokens: _reply_pb2.TokenTrace
    usage: _reply_pb2.Usage
    served_by: _reply_pb2.ServedBy
    timings: _reply_pb2.Timings
    request_id: str
    def __init__(self, scores: _Optional[_Iterable[_Union[ContinuationScore, _Mapping]]] = ..., prompt_tokens: _Optional[_Union[_reply_pb2.TokenTrace, _Mapping]] = ..., usage: _Optional[_Union[_reply_pb2.Usage, _Mapping]] = ..., served_by: _Optional[_Union[_reply_pb2.ServedBy, _Mapping]] = ..., timings: _Optional[_Union[_reply_pb2.Timings, _Mapping]] = ..., request_id: _Optional[str] = ...) -> None: ...

class ContinuationScore(_message.Message):
    __slots__ = ("logprob", "is_greedy", "tokens")
    LOGPROB_FIELD_NUMBER: _ClassVar[int]
    IS_GREEDY_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    logprob: float
    is_greedy: bool
    tokens: _reply_pb2.TokenTrace
    def __init__(self, logprob: _Optional[float] = ..., is_greedy: bool = ..., tokens: _Optional[_Union[_reply_pb2.TokenTrace, _Mapping]] = ...) -> None: ...

class CountTokensRequest(_message.Message):
    __slots__ = ("model", "prompt", "conversation", "raw", "tools", "template_arguments_json", "return_tokens")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    CONVERSATION_FIELD_NUMBER: _ClassVar[int]
    RAW_FIELD_NUMBER: _ClassVar[int]
    TOOLS_FIELD_NUMBER: _ClassVar[int]
    TEMPLATE_ARGUMENTS_JSON_FIELD_NUMBER: _ClassVar[int]
    RETURN_TOKENS_FIELD_NUMBER: _ClassVar[int]
    model: str
    prompt: str
    conversation: _content_pb2.Conversation
    raw: _content_pb2.RawPrompt
    tools: _containers.RepeatedCompositeFieldContainer[_content_pb2.Tool]
    template_arguments_json: str
    return_tokens: bool
    def __init__(self, model: _Optional[str] = ..., prompt: _Optional[str] = ..., conversation: _Optional[_Union[_content_pb2.Conversation, _Mapping]] = ..., raw: _Optional[_Union[_content_pb2.RawPrompt, _Mapping]] = ..., tools: _Optional[_Iterable[_Union[_content_pb2.Tool, _Mapping]]] = ..., template_arguments_json: _Optional[str] = ..., return_tokens: bool = ...) -> None: ...

class CountTokensResponse(_message.Message):
    __slots__ = ("tokens", "estimated", "trace")
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    ESTIMATED_FIELD_NUMBER: _ClassVar[int]
    TRACE_FIELD_NUMBER: _ClassVar[int]
    tokens: int
    estimated: bool
    trace: _reply_pb2.TokenTrace
    def __init__(self, tokens: _Optional[int] = ..., estimated: bool = ..., trace: _Optional[_Union[_reply_pb2.TokenTrace, _Mapping]] = ...) -> None: ...
