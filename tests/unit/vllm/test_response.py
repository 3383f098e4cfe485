"""When a constrained completion may end."""

from __future__ import annotations

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
from services.vllm.response import is_complete

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
