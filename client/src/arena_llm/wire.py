"""Conversion between the dataclasses of `arena_llm.types` and protobuf messages.

    message = to_message(request, generate_pb2.GenerateRequest)
    request = from_message(message, GenerationRequest)

A plan for each pair of a dataclass and a message type is made once, from the annotations
of the dataclass and the descriptor of the message:

    annotation            field of the message
    str, int, float, bool scalar of the same name
    X | None              field with presence; None means that it is not set
    StrEnum or Literal    enum: FinishReason.STOP is FINISH_REASON_STOP
    dataclass             message
    union of dataclasses  oneof of the same name, or message with one oneof; the member has
                          the `name` of the class
    tuple[X, ...]         repeated field
    Mapping[str, str]     map
    Mapping[str, Any]     google.protobuf.Struct

_RENAMED, _LOCAL and _SPECIAL hold the exceptions. Making a plan raises TypeError if a field is
on one side only, so that no field is forgotten.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import cache, reduce
from operator import attrgetter, or_
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from google.protobuf.descriptor import Descriptor, FieldDescriptor, OneofDescriptor
from google.protobuf.message import Message as ProtoMessage

from arena_llm._codecs import (
    WRONG_VALUE,
    Codec,
    FieldError,
    check_texts,
    enum_converters,
    map_codec,
    put_text,
    struct_codec,
    to_field_error,
)
from arena_llm.types import GenerationRequest, Message, Score, ScoringRequest

__all__ = ["FieldError", "from_message", "to_message"]

M = TypeVar("M", bound=ProtoMessage)
T = TypeVar("T")

#: Fields whose name differs: (dataclass, its field) -> the field of the message.
_RENAMED: Mapping[tuple[type, str], str] = {
    (GenerationRequest, "sampling"): "config",
    (Score, "text"): "continuation",
}
#: Fields that are not sent. They are the last fields of their dataclass and have a default.
_LOCAL = frozenset({(GenerationRequest, "deadline")})


def to_message(value: Any, message_type: type[M]) -> M:
    """Return a dataclass as a message. Raises FieldError if a value does not fit its field."""
    message = message_type()
    _plan(type(value), message.DESCRIPTOR).fill(message, value)
    return message


def from_message(message: ProtoMessage, kind: type[T], **local: Any) -> T:
    """Return a message as a dataclass.

    local: values of fields that are not sent. A request must have been validated before:
    its oneofs are set and its roles have a name.
    """
    result: T = _plan(kind, message.DESCRIPTOR).read(message, **local)
    return result


class _Record:
    """The plan of a dataclass: one codec for each of its fields that is sent."""

    def __init__(self, kind: type[Any], descriptor: Descriptor) -> None:
        self._kind = kind
        hints = get_type_hints(kind)
        codecs = [
            (field.name, _codec(kind, field.name, hints[field.name], descriptor))
            for field in dataclasses.fields(kind)
            if (kind, field.name) not in _LOCAL
        ]
        self._puts = [(name, codec.path, codec.put) for name, codec in codecs]
        self._gets = [codec.get for _, codec in codecs]
        # If all fields are scalars, one call reads them all in half the time.
        scalars = [codec.path for _, codec in codecs if isinstance(codec.get, attrgetter)]
        all_scalars = 1 < len(scalars) == len(codecs)
        self._get_all = attrgetter(*scalars) if all_scalars else None
        mapped = {_RENAMED.get((kind, name), name) for name, _ in codecs}
        for field in descriptor.fields:
            oneof = field.containing_oneof
            if not mapped & {field.name, oneof.name if oneof else ""}:
                raise TypeError(f"{kind.__name__} has no field for {field.full_name}")

    def fill(self, message: Any, value: Any) -> None:
        """Write a dataclass to an empty message."""
        for name, path, put in self._puts:
            try:
                put(message, getattr(value, name))
            except WRONG_VALUE as error:
                if hasattr(value, name):
                    raise to_field_error(error).inside(path) from None
                problem = f"needs a {self._kind.__name__}, not a {type(value).__name__}"
                raise FieldError(path, problem) from None

    def read(self, message: Any, **local: Any) -> Any:
        """Return a message as a dataclass."""
        if self._get_all is not None:
            return self._kind(*self._get_all(message), **local)
        return self._kind(*[get(message) for get in self._gets], **local)


class _OneOf:
    """The plan of a union of dataclasses: each is a member of a oneof, by its `name`."""

    def __init__(self, kinds: tuple[type[Any], ...], oneof: OneofDescriptor) -> None:
        self._oneof = oneof.name
        fields = {field.name: field for field in oneof.fields}
        if fields.keys() != {kind.name for kind in kinds}:
            raise TypeError(f"{kinds} do not match the members of {oneof.full_name}")
        self._members = {kind: _member(kind, fields[kind.name]) for kind in kinds}
        self._by_name = {kind.name: codec for kind, codec in self._members.items()}

    def fill(self, message: Any, value: Any) -> None:
        """Write a dataclass to the oneof of a message."""
        codec = self._members.get(type(value))
        if codec is None:
            names = ", ".join(kind.__name__ for kind in self._members)
            raise FieldError("", f"must be one of {names}, not {type(value).__name__}")
        try:
            codec.put(message, value)
        except WRONG_VALUE as error:
            raise to_field_error(error).inside(codec.path) from None

    def read(self, message: Any) -> Any:
        """Return the member that is set, as a dataclass; None if no member is set."""
        name = message.WhichOneof(self._oneof)
        return None if name is None else self._by_name[name].get(message)


def _make_plan(kind: Any, descriptor: Descriptor) -> _Record | _OneOf:
    if _is_union(kind):
        (oneof,) = descriptor.oneofs
        return _OneOf(get_args(kind), oneof)
    return _Record(kind, descriptor)


#: One plan for each pair. Typed as Any, because mypy does not accept a type as hashable.
_plan: Callable[[Any, Any], Any] = cache(_make_plan)


def _plan_later(kind: Any, descriptor: Descriptor) -> Callable[[], Any]:
    """Return a function that returns the plan.

    Its first call makes the plan, because a message may contain itself.
    """
    plan: Any = None

    def get() -> Any:
        nonlocal plan
        plan = plan or _plan(kind, descriptor)
        return plan

    return get


def _codec(kind: type[Any], name: str, hint: Any, descriptor: Descriptor) -> Codec:
    """Return the codec of a field of a dataclass, by its annotation."""
    if (special := _SPECIAL.get((kind, name))) is not None:
        return special(descriptor)
    wire = _RENAMED.get((kind, name), name)
    field = descriptor.fields_by_name.get(wire)
    if _is_union(hint) and (oneof := descriptor.oneofs_by_name.get(wire)):
        members = _OneOf(get_args(hint), oneof)
        return Codec("", members.fill, members.read)
    if field is None:
        raise TypeError(f"{descriptor.full_name} has no field {wire!r} for {kind.__name__}")
    if NoneType in get_args(hint):
        rest = tuple(arg for arg in get_args(hint) if arg is not NoneType)
        return _optional(_single(reduce(or_, rest), field), field)
    if get_origin(hint) is tuple:
        return _repeated(get_args(hint)[0], field)
    if get_origin(hint) is Mapping:
        return map_codec(field) if get_args(hint)[1] is str else struct_codec(field)
    return _single(hint, field)


def _single(hint: Any, field: FieldDescriptor) -> Codec:
    """Return the codec of a field that is neither optional nor repeated."""
    wire = field.name
    if field.message_type is not None:
        plan = _plan_later(hint, field.message_type)
        return Codec(
            wire,
            lambda message, value: plan().fill(getattr(message, wire), value),
            lambda message: plan().read(getattr(message, wire)),
        )
    if field.enum_type is not None:
        to_number, from_number = enum_converters(hint, field.enum_type)
        return Codec(
            wire,
            lambda message, value: setattr(message, wire, to_number(value)),
            lambda message: from_number(getattr(message, wire)),
        )
    put = put_text(wire) if hint is str else lambda message, value: setattr(message, wire, value)
    return Codec(wire, put, attrgetter(wire))


def _optional(codec: Codec, field: FieldDescriptor) -> Codec:
    wire, is_message = field.name, field.message_type is not None

    def put(message: Any, value: Any) -> None:
        if value is not None:
            if is_message:
                getattr(message, wire).SetInParent()
            codec.put(message, value)

    def get(message: Any) -> Any:
        return codec.get(message) if message.HasField(wire) else None

    return Codec(codec.path, put, get)


def _repeated(hint: Any, field: FieldDescriptor) -> Codec:
    wire = field.name
    if field.message_type is not None:
        plan = _plan_later(hint, field.message_type)

        def put_messages(message: Any, values: Any) -> None:
            fill, items = plan().fill, getattr(message, wire)
            for index, value in enumerate(values):
                try:
                    fill(items.add(), value)
                except FieldError as error:
                    raise error.inside(f"[{index}]") from None

        def get_messages(message: Any) -> Any:
            if not (items := getattr(message, wire)):
                return ()
            return tuple(map(plan().read, items))

        return Codec(wire, put_messages, get_messages)
    if field.enum_type is not None:
        to_number, from_number = enum_converters(hint, field.enum_type)
        # Values of a newer contract have no name here and are left out.
        return Codec(
            wire,
            lambda message, values: getattr(message, wire).extend(map(to_number, values)),
            lambda message: tuple(
                value for n in getattr(message, wire) if (value := from_number(n)) is not None
            ),
        )

    def put(message: Any, values: Any) -> None:
        if values:
            getattr(message, wire).extend(check_texts(values) if hint is str else values)

    return Codec(wire, put, lambda message: tuple(getattr(message, wire)))


def _member(kind: type[Any], field: FieldDescriptor) -> Codec:
    """Return the codec of a member of a oneof: a message, or a scalar for a dataclass with one
    field."""
    fields = dataclasses.fields(kind)
    if field.message_type is not None:
        codec = _optional(_single(kind, field), field)
    else:
        (only,) = fields
        scalar = _single(get_type_hints(kind)[only.name], field)
        codec = Codec(
            scalar.path,
            lambda message, value: scalar.put(message, getattr(value, only.name)),
            lambda message: kind(scalar.get(message)),
        )
    if len(fields) > 1:
        return codec

    def put(message: Any, value: Any) -> None:
        # The path ends with the member: its only field is an implementation detail.
        try:
            codec.put(message, value)
        except FieldError as error:
            raise FieldError("", error.problem) from None

    return codec._replace(put=put)


def _input(descriptor: Descriptor) -> Codec:
    """Return the codec of `input`: a string is a prompt, messages are a conversation."""
    conversation: Any = descriptor.fields_by_name["conversation"].message_type
    messages = _repeated(Message, conversation.fields_by_name["messages"])
    put_prompt = put_text("prompt")

    def put(message: Any, value: Any) -> None:
        is_prompt = isinstance(value, str)
        try:
            if is_prompt:
                put_prompt(message, value)
            else:
                message.conversation.SetInParent()
                messages.put(message.conversation, value)
        except WRONG_VALUE as error:
            path = "prompt" if is_prompt else "conversation.messages"
            raise to_field_error(error).inside(path) from None

    def get(message: Any) -> Any:
        if message.HasField("prompt"):
            return message.prompt
        return messages.get(message.conversation)

    return Codec("", put, get)


#: Fields with a codec of their own.
_SPECIAL: Mapping[tuple[type, str], Callable[[Descriptor], Codec]] = {
    (GenerationRequest, "input"): _input,
    (ScoringRequest, "input"): _input,
}


def _is_union(hint: Any) -> bool:
    return get_origin(hint) in (Union, UnionType)
