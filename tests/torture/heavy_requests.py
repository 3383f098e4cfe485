"""Requests that hold too much, and constraints that would freeze a checker."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import grpc

from arena_llm.v1 import content_pb2
from tests.torture.hostile_requests import REFUSED, Request, pick_method, plain


def too_much(dice: random.Random, model: str) -> Request:
    """A request that is too large, or has too many parts."""
    request, text = plain(dice, model)
    kind = dice.choice(list(_LARGE))
    _LARGE[kind](request, dice)
    compression = grpc.Compression.Gzip if dice.random() < 0.2 else None
    reasons = REFUSED
    if compression:  # refused below the services, before it is unpacked
        reasons = REFUSED | {""}
    return Request(
        f"too much: {kind}", pick_method(dice), request.SerializeToString(), text, reasons,
        must_fail=kind not in ("a prompt",), compression=compression,
    )  # fmt: skip


def _add_messages(request: Any, dice: random.Random) -> None:
    for _ in range(dice.choice([5_000, 40_000])):
        request.conversation.messages.add(role=content_pb2.ROLE_USER).parts.add(text="x")


def _add_tools(request: Any) -> None:
    for number in range(500):
        request.tools.add(name=f"t{number}")


_LONG_OPTIONS = json.dumps({"user": "x" * 10**6})
_LARGE: dict[str, Callable[[Any, random.Random], None]] = {
    "a prompt": lambda r, dice: setattr(r, "prompt", r.prompt + "x" * dice.choice([10**5, 10**6])),
    "a huge prompt": lambda r, dice: setattr(r, "prompt", "x" * 40_000_000),
    "messages": _add_messages,
    "labels": lambda r, dice: r.labels.update({f"{n}": "" for n in range(50_000)}),
    "choices": lambda r, dice: r.constraint.choices.values.extend(map(str, range(5_000))),
    "the same choice": lambda r, dice: r.constraint.choices.values.extend(["a"] * 4_000),
    "a session": lambda r, dice: setattr(r, "session", "s" * 100_000),
    "a request_id": lambda r, dice: setattr(r, "request_id", "r" * 100_000),
    "a model": lambda r, dice: setattr(r, "model", r.model + "m" * 100_000),
    "stops": lambda r, dice: r.config.stop.extend(f"<{n}>" for n in range(20_000)),
    "tools": lambda r, dice: _add_tools(r),
    "options": lambda r, dice: setattr(r, "provider_options_json", _LONG_OPTIONS),
    "deep options": lambda r, dice: setattr(
        r, "provider_options_json", '{"a":' * 20_000 + "1" + "}" * 20_000
    ),
    "fallbacks": lambda r, dice: r.fallback_models.names.extend(f"hf_{n}" for n in range(5_000)),
}  # fmt: skip

_DEEP = '{"type":"array","items":' * 300 + "{}" + "}" * 300
_SCHEMAS = [
    *("{", "[]", "7", "null", '"x"', "{}", '{"type": "nothing"}', '{"$ref": "#/$defs/a"}', _DEEP),
    '{"$ref": "http://127.0.0.1:1/schema.json"}', '{"$ref": "file:///etc/passwd"}', '{"$ref": "#"}',
    '{"type": "string", "pattern": "^(a+)+$"}', '{"type": "string", "pattern": "("}',
    '{"type": "integer", "multipleOf": 1000003}', '{"enum": []}',
    '{"type": "string", "minLength": 1e9}',
    '{"allOf": [' + ",".join(['{"anyOf": [{"type": "string"}, {"type": "integer"}]}'] * 40) + "]}",
    '{"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}',
    '{"type": "string", "maxLength": -1}', '{"a": "\\ud83d"}',
    '{"type": ["string"' + ', "null"' * 3000 + "]}",
]  # fmt: skip
_PATTERNS = [
    *("(", "[", "a{99999}", "(a{1000}){1000}", "(a+)+$", "\\", "(?<=a)b", "(?P<n>a)(?P=n)", "\\1"),
    *("(" * 5_000, "a|" * 20_000, "[^\x00-\U0010ffff]", "(?i)x", "\\p{L}+", "x*" * 3_000, "^$", ""),
    *("(.|\n)*(.|\n)*(.|\n)*x", "[a-z]{0,60000}", "\ud7ff\ue000"),
]
_GRAMMARS = [
    "start:",
    'start: start | "a"',
    "root ::= root",
    "%import common",
    "start: /(/",
    "x" * 70_000,
]


def constraint(dice: random.Random, model: str) -> Request:
    """A schema, a pattern or a grammar that would freeze a checker."""
    request, text = plain(dice, model)
    match dice.randrange(3):
        case 0:
            request.constraint.json_schema.schema = dice.choice(_SCHEMAS)
        case 1:
            request.constraint.regex.pattern = dice.choice(_PATTERNS)
        case 2:
            request.constraint.grammar.syntax = dice.choice([1, 2])
            request.constraint.grammar.text = dice.choice(_GRAMMARS)
    reasons = REFUSED | {"UPSTREAM_UNAVAILABLE"}
    return Request("a constraint", pick_method(dice), request.SerializeToString(), text, reasons)
