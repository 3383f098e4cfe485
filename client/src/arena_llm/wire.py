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
    union of dataclasses  message with one oneof; the member has the `kind` of the class
    tuple[X, ...]         repeated field, or message with a repeated field only
    Mapping               map
    datetime | None       google.protobuf.Timestamp

The default of a field of a dataclass is never written: it stands for an unset field.

_RENAMED, _LOCAL, _DERIVED and _SPECIAL hold the exceptions. Making a plan raises TypeError if a
field is on one side only, so that no field is forgotten.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from operator import attrgetter
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from google.protobuf.descriptor import Descriptor, FieldDescriptor, OneofDescriptor
from google.protobuf.message import Message as ProtoMessage
from google.protobuf.message_factory import GetMessageClass

from arena_llm._codecs import (
    WRONG_VALUE,
    Codec,
    FieldError,
    make_codec,
    make_optional,
    make_single,
    put_text,
    to_field_error,
    without_none,
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
#: Properties that are sent, but not read.
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
        #: By the number of each field of the message: the position of the dataclass's field, or
        #: -1 for a field that is only written, and the function that reads it.
        self._readers: dict[int, tuple[int, Callable[[Any], Any] | None]] = {}
        #: The values of unset fields. Each message gets a new dict.
        self._zeros: list[Any] = []
        self._writers: list[tuple[Any, Callable[[Any, Any], None], str]] = []
        for place, field in enumerate(fields):
            default = field.default
            for codec, number in _list_codecs(kind, field, hints[field.name], descriptor):
                self._readers[number] = place, codec.read
            self._writers.append((default, codec.put, codec.path))
            if default is not dataclasses.MISSING:
                self._zeros.append(default)
            elif dataclasses.is_dataclass(hint := hints[field.name]):
                empty = getattr(GetMessageClass(descriptor)(), codec.path)
                self._zeros.append(_plan(hint, empty.DESCRIPTOR).read(empty))
            else:
                self._zeros.append(codec.zero)
        self._dicts = [place for place, zero in enumerate(self._zeros) if zero == {}]
        names = [field.name for field in fields]
        for name in _DERIVED.get(kind, ()):
            self._readers[descriptor.fields_by_name[name].number] = -1, None
            self._writers.append(("", put_text(name), name))
            names.append(name)
        for wire_field in descriptor.fields:
            if wire_field.number not in self._readers:
                raise TypeError(f"{kind.__name__} has no field for {wire_field.full_name}")
        get = attrgetter(*names) if names else None
        # For one name, attrgetter returns its value and no tuple.
        self._get_all = (lambda value: (get(value),)) if get and len(names) == 1 else get

    def fill(self, message: Any, value: Any) -> None:
        """Write a dataclass to an empty message."""
        if self._get_all is None:
            return
        path = ""
        try:
            items = self._get_all(value)
            for item, (default, put, path) in zip(items, self._writers, strict=True):  # noqa: B007
                if item is not default:
                    put(message, item)
        except WRONG_VALUE as error:
            if isinstance(value, self._kind):
                raise to_field_error(error).inside(path) from None
            problem = f"needs a {self._kind.__name__}, not a {type(value).__name__}"
            raise FieldError("", problem) from None

    def read(self, message: Any, **local: Any) -> Any:
        """Return a message as a dataclass."""
        # Most fields of most messages are not set.
        values = self._zeros.copy()
        for place in self._dicts:
            values[place] = {}
        readers = self._readers
        for field, value in message.ListFields():
            place, read = readers[field.number]
            if place >= 0:
                values[place] = value if read is None else read(value)
        return self._kind(*values, **local)


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
        fields = {field.name: field for field in oneof.fields}
        if fields.keys() != {kind.kind for kind in kinds}:
            raise TypeError(f"{kinds} do not match the members of {oneof.full_name}")
        local = frozenset(field.name for field in shared)
        self._members = {kind: _member(kind, fields[kind.kind], local) for kind in kinds}
        self._readers = {fields[kind.kind].number: c.read for kind, c in self._members.items()}
        hints = get_type_hints(kinds[0])
        self._shared = {
            field.number: (
                field.name,
                make_optional(
                    make_single(without_none(hints[field.name]), field, _plan_later), field
                ),
            )
            for field in shared
        }

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
        for name, shared in self._shared.values():
            shared.put(message, getattr(value, name))

    def read(self, message: Any) -> Any:
        """Return the member that is set, as a dataclass; None if no member is set."""
        member = None
        shared = {}
        for field, value in message.ListFields():
            if (number := field.number) in self._readers:
                read = self._readers[number]
                member = read(value) if read else value
            else:
                name, codec = self._shared[number]
                shared[name] = codec.read(value) if codec.read else value
        return dataclasses.replace(member, **shared) if shared and member is not None else member


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


def _list_codecs(
    kind: type[Any], field: dataclasses.Field[Any], hint: Any, descriptor: Descriptor
) -> Iterator[tuple[Codec, int]]:
    """Yield the codec of a field of a dataclass, with the number of the message's field.

    `input` has one for each kind of input; they differ in how they read.
    """
    if field.name == "input" and "input" in descriptor.oneofs_by_name:
        yield from _list_input_codecs(descriptor)
        return
    wire = _RENAMED.get((kind, field.name), field.name)
    wire_field = descriptor.fields_by_name.get(wire)
    if wire_field is None:
        raise TypeError(f"{descriptor.full_name} has no field {wire!r} for {kind.__name__}")
    yield make_codec(hint, wire_field, _plan_later), wire_field.number


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

        codec = Codec(wire, put_message, lambda value: plan().read(value))
    else:
        (only,) = fields
        scalar = make_single(get_type_hints(kind)[only.name], field, _plan_later)
        codec = Codec(
            scalar.path, lambda message, value: scalar.put(message, getattr(value, only.name)), kind
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


def _list_input_codecs(descriptor: Descriptor) -> Iterator[tuple[Codec, int]]:
    """Yield the codecs of `input`: a prompt (a string), a conversation, or a raw prompt.

    All write in the same way, by the type of the value.
    """
    fields = {kind: descriptor.fields_by_name[name] for kind, name in _INPUTS.items()}
    codecs = {
        kind: make_optional(make_single(kind, field, _plan_later), field)
        for kind, field in fields.items()
    }

    def put(message: Any, value: Any) -> None:
        if (codec := codecs.get(type(value))) is None:
            raise FieldError("input", f"must be a prompt, not {type(value).__name__}")
        try:
            codec.put(message, value)
        except WRONG_VALUE as error:
            raise to_field_error(error).inside(codec.path) from None

    for kind, field in fields.items():
        yield Codec("", put, codecs[kind].read), field.number


def _is_union(hint: Any) -> bool:
    return get_origin(hint) in (Union, UnionType)
