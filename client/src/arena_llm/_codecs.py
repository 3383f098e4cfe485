"""How single fields of messages are written and read: texts, enums, maps and times."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC
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


class Codec(NamedTuple):
    """How one field is written to a message and read from it.

    path: the field that an error names, such as "temperature". put: writes a value to a message;
    may raise the errors of WRONG_VALUE. read: turns the value of a field that is set into the
    value of the dataclass; None if they are the same. zero: what a field that is not set is read
    as.
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

    hint: a StrEnum, or a Literal of strings. The name of a number is the name of the enum in
    capitals and the name of the value: ROLE_USER. UNKNOWN of a StrEnum stands for all numbers
    without a name; a hint without UNKNOWN gives None for them.
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
