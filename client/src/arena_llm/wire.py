"""Conversion between the dataclasses of `arena_llm.types` and protobuf messages.

    message = to_message(request, generate_pb2.GenerateRequest)
    request = from_message(message, GenerationRequest)

A plan for each pair of a dataclass and a message type is made once, from the annotations
of the dataclass and the descriptor of the message:

    annotation            field of the message
    str, int, float, bool scalar of the same name
    X | None              field with presence; None means that it is not set
    StrEnum or Literal    enum: FinishReason.STOP is FINISH_REASON_STOP; None is its number 0
    str                   enum, as the name of its number without the prefix
    dataclass             message
    union of dataclasses  oneof of the same name, or message with one oneof; the member has
                          the `kind` of the class
    tuple[X, ...]         repeated field, or message with a repeated field only
    Mapping               map
    datetime | None       google.protobuf.Timestamp

The default of a field of a dataclass is never written: it stands for an unset field.

_RENAMED, _LOCAL, _DERIVED and _SPECIAL hold the exceptions. Making a plan raises TypeError if a
field is on one side only, so that no field is forgotten.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cache, reduce
from operator import attrgetter, or_
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from google.protobuf.descriptor import Descriptor, FieldDescriptor, OneofDescriptor
from google.protobuf.message import Message as ProtoMessage
from google.protobuf.message_factory import GetMessageClass

from arena_llm._codecs import (
    WRONG_VALUE,
    Codec,
    FieldError,
    check_texts,
    enum_converters,
    enum_name_converters,
    map_codec,
    put_text,
    timestamp_codec,
    to_field_error,
)
from arena_llm.types import (
    Completion,
    Conversation,
    GenerationRequest,
    RawPrompt,
    Score,
)

__all__ = ["FieldError", "from_message", "to_message"]

M = TypeVar("M", bound=ProtoMessage)
T = TypeVar("T")

#: Fields whose name differs: (dataclass, its field) -> the field of the message.
_RENAMED: Mapping[tuple[type, str], str] = {(GenerationRequest, "sampling"): "config"}
#: Fields that are not sent. They are the last fields of their dataclass and have a default.
_LOCAL: Mapping[type, frozenset[str]] = {
    GenerationRequest: frozenset({"deadline"}),
    Score: frozenset({"text"}),
}
#: Properties that are sent, and not read.
_DERIVED: Mapping[type, tuple[str, ...]] = {Completion: ("text",)}
#: The kinds of input: the field of the message, by the type.
_INPUTS: Mapping[type, str] = {str: "prompt", Conversation: "conversation", RawPrompt: "raw"}

_NO_FIELDS: frozenset[str] = frozenset()


def to_message(value: Any, message_type: type[M]) -> M:
    """Return a dataclass as a message. Raises FieldError if a value does not fit its field."""
    message = message_type()
    _plan(type(value), message.DESCRIPTOR).fill(message, value)
    return message


def from_message(message: ProtoMessage, kind: type[T], **local: Any) -> T:
    """Return a message as a dataclass.

    local: values of fields that are not sent. A request must have been validated before:
    its oneofs are set and its enums have a name.
    """
    result: T = _plan(kind, message.DESCRIPTOR).read(message, **local)
    return result


class _Record:
    """The plan of a dataclass: one codec for each of its fields that is sent.

    local: fields that are not sent with this message.
    """

    def __init__(
        self, kind: type[Any], descriptor: Descriptor, local: frozenset[str] = _NO_FIELDS
    ) -> None:
        self._kind = kind
        hints = get_type_hints(kind)
        unsent = local | _LOCAL.get(kind, _NO_FIELDS)
        fields = [field for field in dataclasses.fields(kind) if field.name not in unsent]
        codecs = [(field, _codec(kind, field, hints[field.name], descriptor)) for field in fields]
        puts = [(field.name, codec.path, codec.put, field.default) for field, codec in codecs]
        for name in _DERIVED.get(kind, ()):
            puts.append((name, name, put_text(name), ""))
        self._puts = puts
        self._gets = [codec.get for _, codec in codecs]
        names = [_RENAMED.get((kind, field.name), field.name) for field in fields]
        self._places = _find_places(kind, descriptor, names)
        #: What the fields of an empty message are read as. A dict is made for each message.
        empty = GetMessageClass(descriptor)()
        self._zeros = [
            codec.get(empty) if field.default is dataclasses.MISSING else field.default
            for field, codec in codecs
        ]
        self._dicts = [place for place, zero in enumerate(self._zeros) if zero == {}]

    def fill(self, message: Any, value: Any) -> None:
        """Write a dataclass to an empty message."""
        for name, path, put, default in self._puts:
            try:
                if (item := getattr(value, name)) is not default:
                    put(message, item)
            except WRONG_VALUE as error:
                if hasattr(value, name):
                    raise to_field_error(error).inside(path) from None
                problem = f"needs a {self._kind.__name__}, not a {type(value).__name__}"
                raise FieldError(path, problem) from None

    def read(self, message: Any, **local: Any) -> Any:
        """Return a message as a dataclass."""
        # Most fields of most messages are not set.
        values = self._zeros.copy()
        for dict_place in self._dicts:
            values[dict_place] = {}
        for field, _ in message.ListFields():
            place = self._places[field.number]
            if place is not None:
                values[place] = self._gets[place](message)
        return self._kind(*values, **local)


def _find_places(
    kind: type[Any], descriptor: Descriptor, names: list[str]
) -> Mapping[int, int | None]:
    """Return the position of a dataclass's field for the number of each field of the message.

    names: the names of the dataclass's fields in the message. A field that is only written
    has None.
    """
    places: dict[int, int | None] = {}
    for field in descriptor.fields:
        oneof = field.containing_oneof
        if field.name in names:
            places[field.number] = names.index(field.name)
        elif oneof is not None and oneof.name in names:
            places[field.number] = names.index(oneof.name)
        elif field.name in _DERIVED.get(kind, ()):
            places[field.number] = None
        else:
            raise TypeError(f"{kind.__name__} has no field for {field.full_name}")
    return places


class _OneOf:
    """The plan of a union of dataclasses: each is a member of a oneof, by its `kind`.

    shared: the fields of the message beside the oneof. Every member has them as its own fields.
    """

    def __init__(
        self,
        kinds: tuple[type[Any], ...],
        oneof: OneofDescriptor,
        shared: tuple[FieldDescriptor, ...] = (),
    ) -> None:
        self._oneof = oneof.name
        fields = {field.name: field for field in oneof.fields}
        if fields.keys() != {kind.kind for kind in kinds}:
            raise TypeError(f"{kinds} do not match the members of {oneof.full_name}")
        local = frozenset(field.name for field in shared)
        self._members = {kind: _member(kind, fields[kind.kind], local) for kind in kinds}
        self._by_name = {kind.kind: codec for kind, codec in self._members.items()}
        hints = get_type_hints(kinds[0])
        self._shared = [
            (field.name, _optional(_single(_required(hints[field.name]), field), field))
            for field in shared
        ]

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
        for name, shared in self._shared:
            if (item := getattr(value, name)) is not None:
                shared.put(message, item)

    def read(self, message: Any) -> Any:
        """Return the member that is set, as a dataclass; None if no member is set."""
        name = message.WhichOneof(self._oneof)
        if name is None:
            return None
        value = self._by_name[name].get(message)
        set_fields = {
            name: item for name, shared in self._shared if (item := shared.get(message)) is not None
        }
        return dataclasses.replace(value, **set_fields) if set_fields else value


def _make_plan(kind: Any, descriptor: Descriptor) -> _Record | _OneOf:
    if _is_union(kind):
        (oneof,) = descriptor.oneofs
        shared = tuple(field for field in descriptor.fields if field.containing_oneof is None)
        return _OneOf(get_args(kind), oneof, shared)
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


def _codec(
    kind: type[Any], field: dataclasses.Field[Any], hint: Any, descriptor: Descriptor
) -> Codec:
    """Return the codec of a field of a dataclass, by its annotation."""
    if field.name == "input" and "input" in descriptor.oneofs_by_name:
        return _input(descriptor)
    wire = _RENAMED.get((kind, field.name), field.name)
    wire_field = descriptor.fields_by_name.get(wire)
    if _is_union(hint) and (oneof := descriptor.oneofs_by_name.get(wire)):
        members = _OneOf(get_args(hint), oneof)
        return Codec("", members.fill, members.read)
    if wire_field is None:
        raise TypeError(f"{descriptor.full_name} has no field {wire!r} for {kind.__name__}")
    if NoneType in get_args(hint):
        if datetime in get_args(hint):
            return timestamp_codec(wire_field)
        return _optional(_single(_required(hint), wire_field), wire_field)
    if get_origin(hint) is tuple:
        return _repeated(get_args(hint)[0], wire_field)
    if get_origin(hint) is Mapping:
        return map_codec(wire_field, get_args(hint)[0])
    return _single(hint, wire_field)


def _single(hint: Any, field: FieldDescriptor) -> Codec:
    """Return the codec of a field that is neither optional nor repeated."""

    wire = field.name
    if field.message_type is not None and get_origin(hint) is tuple:
        (only,) = field.message_type.fields
        items = _repeated(get_args(hint)[0], only)
        return Codec(
            wire,
            lambda message, value: items.put(getattr(message, wire), value),
            lambda message: items.get(getattr(message, wire)),
        )
    if field.message_type is not None:
        plan = _plan_later(hint, field.message_type)
        return Codec(
            wire,
            lambda message, value: plan().fill(getattr(message, wire), value),
            lambda message: plan().read(getattr(message, wire)),
        )
    if field.enum_type is not None:
        to_number, from_number = (
            enum_name_converters(field.enum_type)
            if hint is str
            else enum_converters(hint, field.enum_type)
        )
        return Codec(
            wire,
            lambda message, value: setattr(message, wire, to_number(value)),
            lambda message: from_number(getattr(message, wire)),
        )
    put = put_text(wire) if hint is str else lambda message, value: setattr(message, wire, value)
    return Codec(wire, put, attrgetter(wire))


def _optional(codec: Codec, field: FieldDescriptor) -> Codec:
    """Return the codec of a field that may be None: then it is not set.

    An enum may have no presence. Its number 0 then means None.
    """
    wire, is_message = field.name, field.message_type is not None
    oneof = field.containing_oneof
    shared_with = oneof.name if oneof is not None and len(oneof.fields) > 1 else ""

    def put(message: Any, value: Any) -> None:
        if value is None:
            return
        if shared_with and (other := message.WhichOneof(shared_with)):
            raise FieldError("", f"and {other} exclude each other: give one")
        if is_message:
            getattr(message, wire).SetInParent()
        codec.put(message, value)

    def get(message: Any) -> Any:
        return codec.get(message) if message.HasField(wire) else None

    return Codec(codec.path, put, get if field.has_presence else codec.get)


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
            # A member of a newer contract is read as None and left out.
            return tuple(item for item in map(plan().read, items) if item is not None)

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


def _member(kind: type[Any], field: FieldDescriptor, local: frozenset[str]) -> Codec:
    """Return the codec of a member of a oneof: a message, or a scalar for a dataclass with one
    field.

    local: fields of the dataclass that are not in the member.
    """
    fields = [field for field in dataclasses.fields(kind) if field.name not in local]
    wire = field.name
    if field.message_type is not None:
        descriptor = field.message_type
        record: _Record | None = None

        def plan() -> _Record:
            nonlocal record  # made later, because a message may contain itself
            record = record or _Record(kind, descriptor, local)
            return record

        def put_message(message: Any, value: Any) -> None:
            inner = getattr(message, wire)
            inner.SetInParent()
            plan().fill(inner, value)

        codec = Codec(wire, put_message, lambda message: plan().read(getattr(message, wire)))
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
    """Return the codec of `input`: a prompt (a string), a conversation, or a raw prompt."""
    kinds = [(kind, descriptor.fields_by_name[name]) for kind, name in _INPUTS.items()]
    codecs = {kind: _optional(_single(kind, field), field) for kind, field in kinds}
    readers = {field.name: codecs[kind].get for kind, field in kinds}

    def put(message: Any, value: Any) -> None:
        if (codec := codecs.get(type(value))) is None:
            raise FieldError("input", f"must be a prompt, not {type(value).__name__}")
        try:
            codec.put(message, value)
        except WRONG_VALUE as error:
            raise to_field_error(error).inside(codec.path) from None

    def get(message: Any) -> Any:
        name = message.WhichOneof("input")
        return readers[name](message) if name else None

    return Codec("", put, get)


def _required(hint: Any) -> Any:
    """Return the hint without None."""
    rest = tuple(arg for arg in get_args(hint) if arg is not NoneType)
    return reduce(or_, rest)


def _is_union(hint: Any) -> bool:
    return get_origin(hint) in (Union, UnionType)
