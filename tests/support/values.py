"""Values of the dataclasses of arena_llm.types, made from their annotations."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from random import Random
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from arena_llm import types
from arena_llm.v1 import error_pb2

#: Fields of which at most one is set: they are members of a oneof.
_EXCLUSIVE: Mapping[type, tuple[str, ...]] = {
    types.Image: ("data", "url"),
    types.Continuation: ("text", "token_ids"),
    types.StopMatch: ("text", "token_id"),
    types.RawPrompt: ("text", "token_ids"),
    types.ReasoningOptions: ("effort", "budget_tokens"),
    types.Delta: ("text", "reasoning", "tool_call", "refusal"),
}
#: Fields that are not sent.
_LOCAL = {types.GenerationRequest: ("deadline",), types.Score: ("text",)}
_REASON = error_pb2.DESCRIPTOR.enum_types_by_name["ErrorReason"]
_TEXTS = ("a", "schön ♟", "\x00\x1b[2J", "😀" * 3, '{"b": 1}')
_REASONS = [reason.name.removeprefix("ERROR_REASON_") for reason in _REASON.values][1:]


def make(kind: Any, random: Random, depth: int = 0) -> Any:
    """Return a value of a type.

    Fields are set or left at their default at random; below depth 4 they have their default
    wherever they have one, because a message may contain itself.
    """
    if get_origin(kind) in (Union, UnionType):
        members = [member for member in get_args(kind) if member is not NoneType]
        if depth > 4:  # members that contain no others
            members = [m for m in members if m not in (types.ToolResult, types.Conversation)]
        return make(random.choice(members), random, depth)
    if get_origin(kind) is tuple:
        return tuple(
            make(get_args(kind)[0], random, depth)
            for _ in range(random.randint(1, 3 if depth < 2 else 2))
        )
    if get_origin(kind) is Mapping:
        key, value = get_args(kind)
        return {make(key, random, depth): make(value, random, depth) for _ in range(2)}
    if get_origin(kind) is Literal:
        return random.choice(get_args(kind))
    if dataclasses.is_dataclass(kind):
        return _make_dataclass(kind, random, depth)
    return _make_scalar(kind, random)


def _make_dataclass(kind: Any, random: Random, depth: int) -> Any:
    hints = get_type_hints(kind)
    exclusive = _EXCLUSIVE.get(kind, ())
    chosen = random.choice(exclusive) if exclusive else ""
    values: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        required = field.default is field.default_factory is dataclasses.MISSING
        if not required and (depth > 4 or random.random() < 0.3) and field.name != chosen:
            continue
        if field.name in _LOCAL.get(kind, ()) or (field.name in exclusive and field.name != chosen):
            continue
        hint = hints[field.name]
        is_reason = field.name == "reason" and hint is str
        values[field.name] = random.choice(_REASONS) if is_reason else make(hint, random, depth + 1)
    return kind(**values)


def _make_scalar(kind: Any, random: Random) -> Any:
    if issubclass(kind, StrEnum):
        return random.choice([member for member in kind if member.name != "UNKNOWN"])
    if kind is datetime:
        return datetime.fromtimestamp(random.randrange(10**9), UTC)
    if kind is bool:
        return random.random() < 0.5
    if kind is int:
        return random.choice((0, 1, 2**31 - 1))
    if kind is float:
        return random.choice((0.0, -0.5, 1e300, float("-inf")))
    if kind is bytes:
        return random.choice((b"a", b"\x00\xff"))
    if kind is str:
        return random.choice(_TEXTS)
    raise TypeError(f"no values of {kind}")
