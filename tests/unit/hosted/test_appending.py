"""Every reply can be appended to the next request, and its provider gets something valid."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from arena_llm import ArenaError, AsyncClient, Message
from arena_llm.types import Conversation, GenerationRequest, Reasoning, Text, ToolCall, ToolResult
from services.common.hosted.messages import MessageWriter
from tests.support.replies import list_messages
from tests.support.upstreams.server import Reply
from tests.unit.hosted.conftest import PROVIDERS, STREAMED, Provider, Start
from tests.unit.hosted.test_tools import MOVE, ask

ASK = Message("user", "Your move?")
GO_ON = Message("user", "Go on.")


def continue_after(reply: Message) -> list[Message]:
    results = [ToolResult(call.id, "done") for call in reply.tool_calls]
    return [ASK, reply, *([Message("tool", results)] if results else []), GO_ON]


# --- what the providers document ----------------------------------------------------------


def check_openai(body: Mapping[str, Any]) -> None:
    calls: list[str] = []
    for message in body["messages"]:
        if message["role"] == "tool":
            assert message["tool_call_id"] in calls
            continue
        assert message.get("tool_calls") or message["content"].strip(), message
        for call in message.get("tool_calls", ()):
            calls.append(call["id"])
            check_call(call["function"]["name"], json.loads(call["function"]["arguments"]))


def check_anthropic(body: Mapping[str, Any]) -> None:
    for message in body["messages"]:
        assert message["content"]
        for block in message["content"]:
            if block["type"] == "text":
                assert block["text"].strip()
                assert "sanitised" not in block["text"]  # litellm's own words
            elif block["type"] == "tool_use":
                check_call(block["name"], block["input"])


def check_gemini(body: Mapping[str, Any]) -> None:
    for content in body["contents"]:
        assert content["parts"]
        for part in content["parts"]:
            assert part.get("text", "x").strip()
            if call := part.get("function_call"):
                check_call(call["name"], call["args"])


def check_call(name: str, arguments: Any) -> None:
    assert isinstance(arguments, dict)
    assert name.isascii()
    assert 0 < len(name) <= 64
    assert not set(name) & set(". ")


CHECKS = {
    "OPENROUTER_API_KEY": check_openai,
    "OPENAI_API_KEY": check_openai,
    "ANTHROPIC_API_KEY": check_anthropic,
    "GEMINI_API_KEY": check_gemini,
}

#: A reply without words, and the field by which each provider explains it.
NOTHING = Reply("")
_FILTERED = {"choice": {"finish_reason": "content_filter"}}
FILTERED: Mapping[str, dict[str, Any]] = {
    "OPENROUTER_API_KEY": _FILTERED,
    "OPENAI_API_KEY": _FILTERED,
    "ANTHROPIC_API_KEY": {"stop_reason": "refusal"},
    "GEMINI_API_KEY": {"candidates": [{"content": {}, "finishReason": "SAFETY"}]},
}

#: Replies as providers send them.
REPLIES = {
    "a text": Reply("1. e4"),
    "nothing": NOTHING,
    "blanks": Reply(" \n"),
    "reasoning alone": Reply("", reasoning="because"),
    "reasoning and a text": Reply("e4", reasoning="because"),
    "a call": Reply("", calls=[("call_1", "move", '{"to": "e4"}')]),
    "two calls": Reply("I will.", calls=[("c1", "move", "{}"), ("c2", "move", '{"to": "e5"}')]),
    "an invented tool": Reply("", calls=[("c1", "functions.move", "{}")]),
    "arguments that are no object": Reply("", calls=[("c1", "move", "[1]")]),
}


@STREAMED
@pytest.mark.parametrize("name", REPLIES)
async def test_the_reply_of_a_provider(
    start: Start, upstream: Any, provider: Provider, name: str, streamed: bool
) -> None:
    if provider.variable == "GEMINI_API_KEY" and "object" in name:
        return  # its arguments are an object by its format
    reply = REPLIES[name]
    upstream.enqueue(
        reply if reply is not NOTHING else replace(reply, fields=FILTERED[provider.variable])
    )
    async with start() as llm:
        first = await ask(llm, streamed, provider.model)
        second = await ask(llm, streamed, provider.model, messages=continue_after(first.message))
    assert second.text == "ok"
    CHECKS[provider.variable](upstream.history[-1].body)


async def test_replies_of_other_models(start: Start, upstream: Any, provider: Provider) -> None:
    """Such as those of local models, without their states and reasoning."""
    messages = [
        Message("assistant", [part for part in message.parts if not isinstance(part, Reasoning)])
        for message in list_messages(60)
    ]
    async with start() as llm:
        for message in messages:
            await llm.generate(provider.model, messages=continue_after(message), tools=[MOVE])
            CHECKS[provider.variable](upstream.history[-1].body)


def test_messages_in_openais_format() -> None:
    for message in list_messages(400):
        talk = tuple(continue_after(message))
        check_openai({"messages": write(*talk)})


def write(*messages: Message) -> list[dict[str, Any]]:
    return MessageWriter(GenerationRequest("x", Conversation(messages))).write()


def test_what_a_model_wrote_is_kept() -> None:
    """Arguments that are not an object are wrapped; a name gets letters that providers take."""
    call = ToolCall("c", "functions.move", '{"to": "e')
    (_, sent, *_) = write(*continue_after(Message("assistant", [Text("so "), call])))
    assert sent["content"] == "so "
    (function,) = (entry["function"] for entry in sent["tool_calls"])
    assert function["name"] == "functions_move"
    assert json.loads(function["arguments"]) == {"INVALID_JSON": '{"to": "e'}
    exact = '{"b": 1.0, "a": 2}'
    (_, sent, *_) = write(*continue_after(Message("assistant", ToolCall("c", "move", exact))))
    assert sent["tool_calls"][0]["function"]["arguments"] == exact


@pytest.mark.parametrize("provider", ["anthropic"], indirect=True)
async def test_a_blank_message_of_the_user_is_refused(llm: AsyncClient, provider: Provider) -> None:
    """litellm would replace it by words of its own."""
    with pytest.raises(ArenaError) as caught:
        await llm.generate(provider.model, messages=[ASK, Message("user", " ")])
    assert (caught.value.reason, caught.value.field) == ("UNSUPPORTED", "conversation.messages[1]")


def test_every_provider_has_a_check() -> None:
    assert CHECKS.keys() == {provider.variable for provider in PROVIDERS.values()}
