"""When a constrained completion may end, and the times of a call."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from arena_llm.types import (
    AnyJsonObject,
    Choices,
    Constraint,
    Grammar,
    GrammarSyntax,
    JsonSchema,
    Regex,
)
from arena_llm.v1 import reply_pb2
from arena_llm.wire import to_message
from services.common.call import CallRecord
from services.vllm.response import is_complete, make_timings

NUMBER = JsonSchema('{"type": "integer"}')


@pytest.mark.parametrize(
    ("constraint", "text", "whole"),
    [
        (None, "", True),
        (Choices(("a",)), "a", True),
        (AnyJsonObject(), '{"a": 1}', True),
        (AnyJsonObject(), "[]", False),
        (AnyJsonObject(), "{", False),
        (Grammar(GrammarSyntax.GBNF, 'root ::= "a"+ "b"'), "aab", True),
        (Grammar(GrammarSyntax.GBNF, 'root ::= "a"+ "b"'), "aa", False),
        (NUMBER, "12", True),
        (NUMBER, "", False),
        (NUMBER, "{", False),
        (Regex("a*b"), "aab", True),
        (Regex("a*b"), "aa", False),
        (Regex("a*"), "", True),
        (Regex(r"[^\s\S]"), "", False),
        (Regex(r"\p{Lu}.日"), "Éx日", True),
    ],
    ids=str,
)
def test_whether_a_text_may_end(constraint: Constraint | None, text: str, whole: bool) -> None:
    assert is_complete(constraint, text) is whole


@pytest.mark.parametrize(
    ("metrics", "parts"),
    [
        # The engine's own clock begins at 100 s; the call has waited 0.5 s for its turn.
        ((100.0, 100.25, 1.0), {"queue": 0.75, "prefill": 1.5, "decode": 4.0}),
        ((100.0, 0.0, 1.0), {"queue": 0.5, "prefill": 1.5, "decode": 4.0}),
        ((100.0, 100.25, 9.0), {"queue": 0.75, "generation": 4.0}),
        (None, {"queue": 0.0, "generation": 4.0}),
    ],
    ids=["measured", "no time of its schedule", "one token", "nothing measured"],
)
def test_the_spans_of_a_call_end_at_the_times_that_its_engine_measured(
    metrics: tuple[float, float, float] | None, parts: dict[str, float]
) -> None:
    names = ("queued_ts", "scheduled_ts", "first_token_latency")
    measured = metrics and SimpleNamespace(**dict(zip(names, metrics, strict=True)))
    found = make_timings(measured, waited=0.5, total=4.0)
    record = CallRecord("Generate")
    record.span = object()
    record.add_timings(to_message(found, reply_pb2.Timings))
    record.span = None
    parts_found = dict(record._parts)
    record.end()
    assert parts_found == parts
