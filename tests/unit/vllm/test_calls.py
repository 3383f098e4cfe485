"""In a text, a call that begins must fit its schema."""

from __future__ import annotations

import json
from typing import Any

import pytest
from llguidance import LLMatcher, LLTokenizer

from services.vllm.calls import write_calls_grammar

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"x": {"enum": [1, 2]}},
    "required": ["x"],
    "additionalProperties": False,
}
BEGIN = '{"name": "look", "parameters": '
#: Calls as Llama writes them.
GRAMMAR = write_calls_grammar([('{"name": ', BEGIN.removeprefix('{"name": '), SCHEMA, "}")], ())


def fits(grammar: str, text: str) -> bool:
    """Whether the grammar lets a model write the text, byte by byte, and end there."""
    matcher = LLMatcher(LLTokenizer("byte"), grammar, log_level=0)
    assert not matcher.get_error()
    return bool(matcher.consume_tokens([*text.encode()])) and bool(matcher.is_accepting())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", True),
        ("No call at all,\nonly text with {braces}.", True),
        (f'{BEGIN}{{"x":1}}}}', True),
        (f'First: {BEGIN}{{"x":1}}}} and {BEGIN}{{"x":2}}}}.', True),
        (f'{BEGIN}{{"x":3}}}}', False),
        (f'{BEGIN}{{"y":1}}}}', False),
        (f"{BEGIN}[]}}", False),
        ('{"name": "other", "parameters": {}}', False),
        (f'{BEGIN}{{"x":1', False),
    ],
)
def test_a_call_that_begins_must_fit(text: str, expected: bool) -> None:
    assert fits(GRAMMAR, text) == expected


def test_several_calls_each_with_its_schema() -> None:
    calls = [
        ("<call>", f"{name} ", {"type": "object", "properties": {name: {"const": 1}}}, "</call>")
        for name in ("a", "b")
    ]
    grammar = write_calls_grammar(calls, ())
    assert fits(grammar, 'x<call>b {"b":1}</call>y')
    assert not fits(grammar, 'x<call>b {"b":2}</call>y')


def test_a_tag_that_is_a_token_is_written_as_one() -> None:
    [*_, rule] = write_calls_grammar(
        [("<call>", "\n", SCHEMA, "\n</call>")], ["<call>", "</call>", "[other]"]
    ).splitlines()
    head, _, rest = rule.partition("%json ")
    assert head == 'call_0: TEXT <call> "\\n" '
    assert rest.endswith('} "\\n" </call>')
    assert json.loads(rest.removesuffix(' "\\n" </call>'))["required"] == ["x"]
