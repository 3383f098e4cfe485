"""How single fields of messages are written and read, by the annotation in the dataclass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import reduce
from operator import or_
from types import NoneType
from typing import Any, Literal, NamedTuple, get_args, get_origin

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor


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


#: Returns a function that makes the plan of a dataclass and a message type at its first call.
PlanLater = Callable[[Any, Any], Callable[[], Any]]


class Codec(NamedTuple):
    """How one field is written to a message and read from it.

    path: the field that an error names, such as "temperature". put: writes a value to a message;
    may raise the errors of WRONG_VALUE. read: converts the value of a set field to that of the
    dataclass; None if they are the same. zero: the dataclass's value for an unset field.
    """

    path: str
    put: Callable[[Any, Any], None]
    read: Callable[[Any], Any] | None = None
    zero: Any = None


#: What protobuf and the codecs raise for a value that does not fit.
WRONG_VALUE = (TypeError, ValueError, AttributeError, OverflowError)


def enum_converters(
    hint: Any, descriptor: EnumDescriptor
) -> tuple[Callable[[Any], int], Callable[[int], Any]]:
    """Return functions from a value to its number and back.

    hint: a StrEnum, or a Literal of strings. A number's name has the enum's name in front of the
    value's, both in capitals: ROLE_USER. UNKNOWN of a StrEnum stands for all numbers without a
    name; a hint without UNKNOWN gives None for them.
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


def enum_name_converters(
    descriptor: EnumDescriptor,
) -> tuple[Callable[[Any], int], Callable[[int], str]]:
    """Return functions from the name of a number to the number and back.

    The name has no prefix: "RATE_LIMITED" is ERROR_REASON_RATE_LIMITED. An empty name stands for
    0 and for all numbers without a name.
    """
    prefix = descriptor.values_by_number[0].name.removesuffix("UNSPECIFIED")
    numbers = {value.name.removeprefix(prefix): value.number for value in descriptor.values}
    numbers[""] = numbers.pop("UNSPECIFIED")
    names = {number: name for name, number in numbers.items()}

    def to_number(name: Any) -> int:
        if (number := numbers.get(name)) is None:
            raise FieldError("", f"must be one of {', '.join(filter(None, numbers))}, not {name!r}")
        return number

    return to_number, lambda number: names.get(number, "")


def map_codec(field: FieldDescriptor, key: type) -> Codec:
    """Return the codec of a map from strings to strings, or from integers to numbers."""
    wire = field.name
    of_strings = key is str
    kinds = "strings to strings" if of_strings else "token ids to numbers"
    key_types: Any = str if of_strings else int
    value_types: Any = str if of_strings else (int, float)

    def put(message: Any, values: Any) -> None:
        if not isinstance(values, Mapping):
            raise FieldError("", f"must map {kinds}, not be {type(values).__name__}")
        for name, value in values.items():
            if not isinstance(name, key_types) or not isinstance(value, value_types):
                raise FieldError("", f"must map {kinds}: {name!r} does not")
        if values:
            getattr(message, wire).update(values)

    return Codec(wire, put, dict, {})


def timestamp_codec(field: FieldDescriptor) -> Codec:
    """Return the codec of a google.protobuf.Timestamp; None if it is not set."""
    wire = field.name

    def put(message: Any, value: Any) -> None:
        if value is not None:
            getattr(message, wire).FromDatetime(value)

    return Codec(wire, put, lambda value: value.ToDatetime(tzinfo=UTC))


def put_text(wire: str) -> Callable[[Any, Any], None]:
    """Return the function that writes a string."""

    def put(message: Any, value: Any) -> None:
        # Protobuf would accept bytes as well.
        if not isinstance(value, str):
            raise FieldError("", f"must be a string, not {type(value).__name__}")
        setattr(message, wire, value)

    return put


def check_texts(values: Any) -> Any:
    """Return a list of strings. Raises FieldError if a value is not a string."""
    for index, value in enumerate(values):
        if not isinstance(value, str):
            kind = type(value).__name__
            raise FieldError("", f"must hold strings only: value {index} is {kind}")
    return values


def to_field_error(error: Exception) -> FieldError:
    """Turn an error about a value into a FieldError without a path."""
    if isinstance(error, FieldError):
        return error
    if isinstance(error, UnicodeEncodeError):
        return FieldError("", f"must not hold a lone surrogate: character {error.start} is one")
    return FieldError("", str(error))


def without_none(hint: Any) -> Any:
    """Return the hint without None."""
    rest = tuple(arg for arg in get_args(hint) if arg is not NoneType)
    return reduce(or_, rest)


def make_codec(hint: Any, field: FieldDescriptor, plan: PlanLater) -> Codec:
    """Return the codec of a field, by the annotation in the dataclass."""
    if NoneType in get_args(hint):
        if datetime in get_args(hint):
            return timestamp_codec(field)
        return make_optional(make_single(without_none(hint), field, plan), field)
    if get_origin(hint) is tuple:
        return _repeated(get_args(hint)[0], field, plan)
    if get_origin(hint) is Mapping:
        return map_codec(field, get_args(hint)[0])
    return make_single(hint, field, plan)


def make_single(hint: Any, field: FieldDescriptor, plan: PlanLater) -> Codec:
    """Return the codec of a field that is neither optional nor repeated."""
    wire = field.name
    if field.message_type is not None and get_origin(hint) is tuple:
        (only,) = field.message_type.fields
        items = _repeated(get_args(hint)[0], only, plan)
        return Codec(
            wire,
            lambda message, value: items.put(getattr(message, wire), value),
            lambda value: _read_values(getattr(value, only.name)),
            (),
        )
    if field.message_type is not None:
        record = plan(hint, field.message_type)
        return Codec(
            wire,
            lambda message, value: record().fill(getattr(message, wire), value),
            lambda value: record().read(value),
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
            from_number,
            from_number(0),
        )
    put = put_text(wire) if hint is str else lambda message, value: setattr(message, wire, value)
    return Codec(wire, put, None, field.default_value)


def make_optional(codec: Codec, field: FieldDescriptor) -> Codec:
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

    return Codec(codec.path, put, codec.read, None)


def _repeated(hint: Any, field: FieldDescriptor, plan: PlanLater) -> Codec:
    wire = field.name
    if field.message_type is not None:
        record = plan(hint, field.message_type)

        def put_messages(message: Any, values: Any) -> None:
            fill, items = record().fill, getattr(message, wire)
            for index, value in enumerate(values):
                try:
                    fill(items.add(), value)
                except FieldError as error:
                    raise error.inside(f"[{index}]") from None

        def read_messages(items: Any) -> Any:
            # A member of a newer contract is read as None and left out.
            return tuple([item for item in map(record().read, items) if item is not None])

        return Codec(wire, put_messages, read_messages, ())
    if field.enum_type is not None:
        to_number, from_number = enum_converters(hint, field.enum_type)
        # Values of a newer contract have no name here and are left out.
        return Codec(
            wire,
            lambda message, values: getattr(message, wire).extend(map(to_number, values)),
            lambda numbers: tuple(
                value for number in numbers if (value := from_number(number)) is not None
            ),
            (),
        )

    def put(message: Any, values: Any) -> None:
        if values:
            getattr(message, wire).extend(check_texts(values) if hint is str else values)

    return Codec(wire, put, _read_values, ())


#: Values that one slice reads: other threads wait while C code runs.
_PIECE = 16_384


def _read_values(values: Any) -> tuple[Any, ...]:
    """Return the values of a repeated field of numbers, texts or bytes.

    Slices, because iteration takes ten times as long.
    """
    if len(values) <= _PIECE:
        return tuple(values[:])
    found: list[Any] = []
    for start in range(0, len(values), _PIECE):
        found += values[start : start + _PIECE]
    return tuple(found)
