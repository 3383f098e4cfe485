"""A reply is separated into reasoning, text and tool calls, however it is cut into pieces."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from arena_llm.types import Message
from services.common.local.parts import MessageBuilder
from services.hf.parsing import ReplyParser

CALL = '<tool_call>\n{"name": "look", "arguments": {"x": 1.50, "a": [1, 2]}}\n</tool_call>'
A = '{"name": "a"}'
LOOK = ("look", '{"x": 1.50, "a": [1, 2]}')


def read(text: str, seed: int, **options: Any) -> Message:
    """The message of a text that is cut at random. Seed 0: into single characters."""
    parser, builder, draw = ReplyParser(**options), MessageBuilder(), random.Random(seed)  # noqa: S311
    while text:
        length = draw.randint(1, 9) if seed else 1
        for delta in parser.push(text[:length]):
            builder.add(delta)
        text = text[length:]
    for delta in parser.push("", final=True):
        builder.add(delta)
    return builder.build()


HERMES: dict[str, Any] = {"tools": "hermes"}
THINK: dict[str, Any] = {"reasons": True}
LLAMA: dict[str, Any] = {"tools": "llama3_json"}

#: Options, text -> reasoning, text, calls.
REPLIES: list[tuple[dict[str, Any], str, str, str, list[tuple[str, str]]]] = [
    ({}, "<think>a</think> b", "", "<think>a</think> b", []),
    (THINK, "<think>\nHm. So\n</think>\n\nYes\n", "Hm. So", "Yes\n", []),
    (THINK, " \n<think>Hm</think>Yes", "Hm", "Yes", []),
    (THINK, "Yes <think>", "", "Yes <think>", []),
    (THINK, "<thin", "", "<thin", []),
    (THINK, "<think>Hm", "Hm", "", []),
    ({**THINK, "prompt": "<think>\n"}, "Hm < 3</think>Yes", "Hm < 3", "Yes", []),
    ({**THINK, "hides": True}, "<think>Hm</think>Yes", "", "Yes", []),
    ({}, CALL, "", CALL, []),
    (HERMES, CALL, "", "", [LOOK]),
    (HERMES, f"I look.\n{CALL}\n{CALL}\n", "", "I look.", [LOOK, LOOK]),
    (HERMES, f"{CALL} and", "", "and", [LOOK]),
    (HERMES, f"<tool_call>[{A}, {A}]</tool_call>", "", "", [("a", "{}"), ("a", "{}")]),
    (HERMES, '<tool_call>{"name": "a", "arguments": "{\\"x\\": 1}"}', "", "", [("a", '{"x": 1}')]),
    (HERMES, "<tool_call>no</tool_call> x", "", "<tool_call>no</tool_call> x", []),
    (HERMES, '<tool_call>{"name": 3}</tool_call>', "", '<tool_call>{"name": 3}</tool_call>', []),
    (HERMES, "<tool_call>[]</tool_call>", "", "<tool_call>[]</tool_call>", []),
    (HERMES, "1 < 2 <tool", "", "1 < 2 <tool", []),
    (HERMES, '<tool_call>{"name": "look', "", '<tool_call>{"name": "look', []),
    ({**HERMES, **THINK}, f"<think>Hm</think>\n\n{CALL}", "Hm", "", [LOOK]),
    (LLAMA, '{"name": "a", "parameters": {"x": 1}}', "", "", [("a", '{"x": 1}')]),
    (LLAMA, '{"x": 1} is JSON', "", '{"x": 1} is JSON', []),
    (LLAMA, "I say {}", "", "I say {}", []),
]  # fmt: skip


@pytest.mark.parametrize(("options", "text", "reasoning", "answer", "calls"), REPLIES, ids=repr)
def test_a_reply(
    options: dict[str, Any],
    text: str,
    reasoning: str,
    answer: str,
    calls: list[tuple[str, str]],
) -> None:
    for seed in range(12):
        message = read(text, seed, **options)
        assert (message.reasoning, message.text) == (reasoning, answer)
        assert [(call.name, call.arguments) for call in message.tool_calls] == calls
        ids = [call.id for call in message.tool_calls]
        assert all(ids)
        assert len({*ids}) == len(ids)


def test_text_is_shown_as_soon_as_it_cannot_begin_a_tag() -> None:
    parser = ReplyParser(tools="hermes")
    shown = [[delta.text for delta in parser.push(piece)] for piece in ("a <", "t", "b", " ", "c")]
    assert shown == [["a"], [], [" <tb"], [], [" c"]]


def test_arguments_are_valid_json_of_any_depth() -> None:
    arguments = json.dumps({"a": {"b": [{"c": '"}]'}]}})
    [call] = read(f'{{"name": "f", "parameters": {arguments}}}', 0, **LLAMA).tool_calls
    assert call.arguments == arguments
