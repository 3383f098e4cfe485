"""What ends a reply under a constraint."""

from __future__ import annotations

import pytest

from arena_llm.types import Choices, Constraint, JsonSchema, Regex
from services.vllm.reply import is_whole

NUMBER = JsonSchema('{"type": "integer"}')


@pytest.mark.parametrize(
    ("constraint", "text", "whole"),
    [
        (None, "", True),
        (Choices(("a",)), "a", True),
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
def test_a_text_that_may_end(constraint: Constraint | None, text: str, whole: bool) -> None:
    assert is_whole(constraint, text) is whole
