"""Requests that every local service refuses, and the field that the error names."""

from __future__ import annotations

import math
from typing import Any

import pytest

from arena_llm import Client, Message
from arena_llm.errors import ArenaError

INVALID = ("INVALID_ARGUMENT", "INVALID_REQUEST")
UNSUPPORTED = ("UNIMPLEMENTED", "UNSUPPORTED")
TOO_LONG = ("INVALID_ARGUMENT", "CONTEXT_TOO_LONG")
NOT_FOUND = ("NOT_FOUND", "MODEL_NOT_FOUND")

#: A name, the arguments that make a call wrong, its code and reason, the field of the error.
BadInput = tuple[str, dict[str, Any], tuple[str, str], str]

_EVERYWHERE: list[BadInput] = [
    ("empty model", {"model": ""}, INVALID, "model"),
    ("blank model", {"model": "  "}, INVALID, "model"),
    ("no input", {"prompt": None}, INVALID, "input"),
    ("empty prompt", {"prompt": ""}, INVALID, "prompt"),
    ("both inputs", {"messages": [Message("user", "x")]}, INVALID, "input"),
    ("no messages", {"prompt": None, "messages": []}, INVALID, "conversation.messages"),
    ("temperature NaN", {"temperature": math.nan}, INVALID, "config.temperature"),
    ("temperature infinite", {"temperature": math.inf}, INVALID, "config.temperature"),
    ("temperature negative", {"temperature": -0.1}, INVALID, "config.temperature"),
    ("top_p 0", {"top_p": 0.0}, INVALID, "config.top_p"),
    ("top_p 2", {"top_p": 2.0}, INVALID, "config.top_p"),
    ("top_p NaN", {"top_p": math.nan}, INVALID, "config.top_p"),
    ("top_k negative", {"top_k": -1}, INVALID, "config.top_k"),
    ("max_tokens negative", {"max_tokens": -1}, INVALID, "config.max_tokens"),
    ("max_tokens 0", {"max_tokens": 0}, INVALID, "config.max_tokens"),
    ("max_tokens huge", {"max_tokens": 2**31 - 1}, TOO_LONG, "config.max_tokens"),
    ("max_tokens no int32", {"max_tokens": 2**40}, INVALID, "config.max_tokens"),
    ("seed negative", {"seed": -1}, INVALID, "config.seed"),
    ("empty stop", {"stop": ["a", ""]}, INVALID, "config.stop"),
    ("no choices", {"choices": []}, INVALID, "constraint.choices"),
    ("an empty choice", {"choices": ["a", ""]}, INVALID, "constraint.choices.values[1]"),
    ("a choice twice", {"choices": ["a", "a"]}, INVALID, "constraint.choices.values"),
    ("a choice cut by stop", {"choices": ["abc"], "stop": ["b"]}, INVALID, "config.stop"),
    ("broken schema", {"json_schema": "{"}, INVALID, "constraint.json_schema"),
    ("unknown type", {"json_schema": {"type": "x"}}, INVALID, "constraint.json_schema"),
    ("broken regex", {"regex": "("}, INVALID, "constraint.regex"),
    ("look-ahead", {"regex": "(?=a)b"}, INVALID, "constraint.regex"),
    ("5 MB of words", {"prompt": "move " * 1_000_000}, TOO_LONG, "prompt"),
    ("5 MB without a space", {"prompt": "x" * 5_000_000}, TOO_LONG, "prompt"),
    ("lone surrogate", {"prompt": "a\ud800"}, INVALID, "prompt"),
    ("provider options", {"provider_options": {"a": 1}}, UNSUPPORTED, "provider_options_json"),
]


def bad_input(*own: BadInput) -> pytest.MarkDecorator:
    """Parametrize a test with these cases: `over`, `code_and_reason` and `field`."""
    cases = [*_EVERYWHERE, *own]
    return pytest.mark.parametrize(
        ("over", "code_and_reason", "field"),
        [case[1:] for case in cases],
        ids=[case[0] for case in cases],
    )


def check_refused(
    llm: Client,
    method: str,
    arguments: dict[str, Any],
    code_and_reason: tuple[str, str],
    field: str,
) -> None:
    """Assert that the call fails with this error and that its message names the field."""
    with pytest.raises(ArenaError) as caught:
        list(getattr(llm, method)(**arguments))
    error = caught.value
    assert (error.code, error.reason, error.field) == (*code_and_reason, field)
    named = field.partition("[")[0].removesuffix(".values")
    assert named in error.message or "model" in error.message


def check_scoring_refused(
    llm: Client, model: str, prompt: str, continuations: list[str], field: str
) -> None:
    """Assert that scoring fails and that the error names the field."""
    with pytest.raises(ArenaError) as caught:
        llm.score(model, prompt, continuations)
    assert (caught.value.code, caught.value.field) == ("INVALID_ARGUMENT", field)
