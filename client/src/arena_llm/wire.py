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
    union of dataclasses  message with one oneof; its member has the `name` of the class
    tuple[X, ...]         repeated field
    Mapping[str, str]     map
    Mapping[str, Any]     google.protobuf.Struct

_RENAMED, _LOCAL and _SPECIAL hold the exceptions. A field that is on one side only is a
TypeError when the plan is made, so that no field is forgotten.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from functools import cache, reduce
from operator import attrgetter, or_
from types import NoneType, UnionType
from typing import Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message as ProtoMessage

from arena_llm.types import GenerationRequest, Message, Score, ScoringRequest

M = TypeVar("M", bound=ProtoMessage)
T = TypeVar("T")

#: Fields whose name differs: (dataclass, its field) -> the field of the message.
_RENAMED: Mapping[tuple[type, str], str] = {
    (GenerationRequest, "sampling"): "config",
    (Score, "text"): "continuation",
}
#: Fields that are not sent. They are the last ones and have a default.
_LOCAL = frozenset({(GenerationRequest, "deadline")})

#: The deepest nesting of provider_options. Protobuf parses at most 100 nested messages,
#: and each level takes three.
_MAX_DEPTH = 32


class FieldError(ValueError):
    """A value that its field cannot hold; `field` is the path, such as "config.seed"."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem

    def inside(self, outer: str) -> FieldError:
        """Return the same error with the path of the enclosing field in front."""
        dot = "." if outer and self.field and not self.field.startswith("[") else ""
        return FieldError(f"{outer}{dot}{self.field}", self.problem)


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


class _Codec(NamedTuple):
    """How one field is written to a message and read from it.

    path: put in front of the path of an error. put may raise what _WRONG_VALUE lists.
    """

    path: str
    put: Callable[[Any, Any], None]
    get: Callable[[Any], Any]


#: What protobuf and the codecs raise for a value that does not fit.
_WRONG_VALUE = (TypeError, ValueError, AttributeError, OverflowError)


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
        # Without other fields than scalars, one call reads them all, in half the time.
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
            except _WRONG_VALUE as error:
                if hasattr(value, name):
                    raise _field_error(error).inside(path) from None
                problem = f"needs a {self._kind.__name__}, not a {type(value).__name__}"
                raise FieldError(path, problem) from None

    def read(self, message: Any, **local: Any) -> Any:
        """Return a message as a dataclass."""
        if self._get_all is not None:
            return self._kind(*self._get_all(message), **local)
        return self._kind(*[get(message) for get in self._gets], **local)


class _OneOf:
    """The plan of a union of dataclasses: a message with one oneof."""

    def __init__(self, kinds: tuple[type[Any], ...], descriptor: Descriptor) -> None:
        (oneof,) = descriptor.oneofs
        self._oneof = oneof.name
        self._members = {kind: _member(kind, descriptor) for kind in kinds}
        self._by_name = {kind.name: codec for kind, codec in self._members.items()}
        if missing := {field.name for field in oneof.fields} - self._by_name.keys():
            raise TypeError(f"no class for {', '.join(missing)} of {descriptor.full_name}")

    def fill(self, message: Any, value: Any) -> None:
        """Write a dataclass to an empty message."""
        codec = self._members.get(type(value))
        if codec is None:
            names = ", ".join(kind.__name__ for kind in self._members)
            raise FieldError("", f"must be one of {names}, not {type(value).__name__}")
        try:
            codec.put(message, value)
        except _WRONG_VALUE as error:
            raise _field_error(error).inside(codec.path) from None

    def read(self, message: Any) -> Any:
        """Return the member that is set as a dataclass; None if none is."""
        name = message.WhichOneof(self._oneof)
        return None if name is None else self._by_name[name].get(message)


def _make_plan(kind: Any, descriptor: Descriptor) -> _Record | _OneOf:
    if _is_union(kind):
        return _OneOf(get_args(kind), descriptor)
    return _Record(kind, descriptor)


#: One plan for each pair; typed loosely, because mypy takes no type for hashable.
_plan: Callable[[Any, Any], Any] = cache(_make_plan)


def _plan_later(kind: Any, descriptor: Descriptor) -> Callable[[], Any]:
    """Return a function that returns the plan; made late, because a message may hold itself."""
    plan: Any = None

    def get() -> Any:
        nonlocal plan
        plan = plan or _plan(kind, descriptor)
        return plan

    return get


def _codec(kind: type[Any], name: str, hint: Any, descriptor: Descriptor) -> _Codec:
    """Choose the codec of a dataclass's field by its annotation."""
    if (special := _SPECIAL.get((kind, name))) is not None:
        return special(descriptor)
    wire = _RENAMED.get((kind, name), name)
    field = descriptor.fields_by_name.get(wire)
    if field is None:
        raise TypeError(f"{descriptor.full_name} has no field {wire!r} for {kind.__name__}")
    if NoneType in get_args(hint):
        rest = tuple(arg for arg in get_args(hint) if arg is not NoneType)
        return _optional(_single(reduce(or_, rest), field), field)
    if get_origin(hint) is tuple:
        return _repeated(get_args(hint)[0], field)
    if get_origin(hint) is Mapping:
        return _map(field) if get_args(hint)[1] is str else _struct(field)
    return _single(hint, field)


def _single(hint: Any, field: FieldDescriptor) -> _Codec:
    """A field that is neither optional nor repeated."""
    wire = field.name
    if field.message_type is not None:
        plan = _plan_later(hint, field.message_type)
        return _Codec(
            wire,
            lambda message, value: plan().fill(getattr(message, wire), value),
            lambda message: plan().read(getattr(message, wire)),
        )
    if field.enum_type is not None:
        to_number, from_number = _enum(hint, field.enum_type)
        return _Codec(
            wire,
            lambda message, value: setattr(message, wire, to_number(value)),
            lambda message: from_number(getattr(message, wire)),
        )
    put = _put_text(wire) if hint is str else lambda message, value: setattr(message, wire, value)
    return _Codec(wire, put, attrgetter(wire))


def _optional(codec: _Codec, field: FieldDescriptor) -> _Codec:
    wire, is_message = field.name, field.message_type is not None

    def put(message: Any, value: Any) -> None:
        if value is not None:
            if is_message:
                getattr(message, wire).SetInParent()
            codec.put(message, value)

    def get(message: Any) -> Any:
        return codec.get(message) if message.HasField(wire) else None

    return _Codec(codec.path, put, get)


def _repeated(hint: Any, field: FieldDescriptor) -> _Codec:
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

        return _Codec(wire, put_messages, get_messages)
    if field.enum_type is not None:
        to_number, from_number = _enum(hint, field.enum_type)
        # A newer server may send values that have no name here: they are left out.
        return _Codec(
            wire,
            lambda message, values: getattr(message, wire).extend(map(to_number, values)),
            lambda message: tuple(
                value for n in getattr(message, wire) if (value := from_number(n)) is not None
            ),
        )

    def put(message: Any, values: Any) -> None:
        if values:
            getattr(message, wire).extend(_check_texts(values) if hint is str else values)

    return _Codec(wire, put, lambda message: tuple(getattr(message, wire)))


def _member(kind: type[Any], descriptor: Descriptor) -> _Codec:
    """A member of a oneof: a message, or a scalar for a dataclass with one field."""
    field = descriptor.fields_by_name[kind.name]
    fields = dataclasses.fields(kind)
    if field.message_type is not None:
        codec = _optional(_single(kind, field), field)
    else:
        (only,) = fields
        scalar = _single(get_type_hints(kind)[only.name], field)
        codec = _Codec(
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


def _input(descriptor: Descriptor) -> _Codec:
    """The oneof `input`: a string is the prompt, and messages are a conversation."""
    conversation: Any = descriptor.fields_by_name["conversation"].message_type
    messages = _repeated(Message, conversation.fields_by_name["messages"])
    put_prompt = _put_text("prompt")

    def put(message: Any, value: Any) -> None:
        is_prompt = isinstance(value, str)
        try:
            if is_prompt:
                put_prompt(message, value)
            else:
                message.conversation.SetInParent()
                messages.put(message.conversation, value)
        except _WRONG_VALUE as error:
            path = "prompt" if is_prompt else "conversation.messages"
            raise _field_error(error).inside(path) from None

    def get(message: Any) -> Any:
        if message.HasField("prompt"):
            return message.prompt
        return messages.get(message.conversation)

    return _Codec("", put, get)


#: Fields with a codec of their own.
_SPECIAL: Mapping[tuple[type, str], Callable[[Descriptor], _Codec]] = {
    (GenerationRequest, "input"): _input,
    (ScoringRequest, "input"): _input,
}


def _enum(
    hint: Any, descriptor: EnumDescriptor
) -> tuple[Callable[[Any], int], Callable[[int], Any]]:
    """The names of an enum's values begin with the enum's own name, in capitals.

    A StrEnum may have UNKNOWN, which stands for all numbers without a name.
    """
    if get_origin(hint) is Literal:
        members = {value.upper(): value for value in get_args(hint)}
    else:
        members = {member.name: member for member in hint}
    zero = descriptor.values_by_number[0].name
    prefix = zero.removesuffix("UNSPECIFIED")
    numbers = {
        value: descriptor.values_by_name[
            prefix + name if prefix + name in descriptor.values_by_name else zero
        ].number
        for name, value in members.items()
    }
    values = {number: value for value, number in numbers.items()}
    unknown = members.get("UNKNOWN")

    def to_number(value: Any) -> int:
        number = numbers.get(value) if isinstance(value, str) else None
        if number is None:
            raise FieldError("", f"must be one of {', '.join(numbers)}, not {value!r}")
        return number

    return to_number, lambda number: values.get(number, unknown)


def _map(field: FieldDescriptor) -> _Codec:
    """A map from strings to strings."""
    wire = field.name

    def put(message: Any, values: Any) -> None:
        if not isinstance(values, Mapping):
            raise FieldError("", f"must map strings to strings, not be {type(values).__name__}")
        for key, value in values.items():
            if not isinstance(key, str) or not isinstance(value, str):
                raise FieldError("", f"must map strings to strings: {key!r} does not")
        if values:
            getattr(message, wire).update(values)

    return _Codec(wire, put, lambda message: dict(getattr(message, wire)))


def _struct(field: FieldDescriptor) -> _Codec:
    """A mapping of JSON values. An empty one is not sent."""
    wire = field.name

    def put(message: Any, values: Any) -> None:
        if not values:
            return
        if _is_deeper(values, _MAX_DEPTH):
            raise FieldError("", f"must be nested at most {_MAX_DEPTH} levels deep")
        try:
            getattr(message, wire).update(dict(values))
        except UnicodeEncodeError:
            raise
        except _WRONG_VALUE:
            raise FieldError("", "must map strings to JSON values") from None

    def get(message: Any) -> Any:
        if not message.HasField(wire):
            return {}
        return _restore_integers(json_format.MessageToDict(getattr(message, wire)))

    return _Codec(wire, put, get)


def _is_deeper(value: Any, levels: int) -> bool:
    parts = value.values() if isinstance(value, Mapping) else value
    if isinstance(parts, str) or not isinstance(parts, Collection):
        return False
    return levels == 0 or any(_is_deeper(part, levels - 1) for part in parts)


def _restore_integers(value: Any) -> Any:
    """Struct has no integers: 3 arrives as 3.0, and providers need 3."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, list):
        return [_restore_integers(item) for item in value]
    if isinstance(value, dict):
        return {key: _restore_integers(item) for key, item in value.items()}
    return value


def _put_text(wire: str) -> Callable[[Any, Any], None]:
    def put(message: Any, value: Any) -> None:
        # Protobuf would accept bytes as well.
        if not isinstance(value, str):
            raise FieldError("", f"must be a string, not {type(value).__name__}")
        setattr(message, wire, value)

    return put


def _check_texts(values: Any) -> Any:
    for index, value in enumerate(values):
        if not isinstance(value, str):
            kind = type(value).__name__
            raise FieldError("", f"must hold strings only: value {index} is {kind}")
    return values


def _field_error(error: Exception) -> FieldError:
    """The error of a value, as yet without the path of its field."""
    if isinstance(error, FieldError):
        return error
    if isinstance(error, UnicodeEncodeError):
        return FieldError("", f"must not hold a lone surrogate: character {error.start} is one")
    return FieldError("", str(error))


def _is_union(hint: Any) -> bool:
    return get_origin(hint) in (Union, UnionType)
