"""Conversations: roles, parts, images, and the ids of tool calls. An error names the field."""

from __future__ import annotations

from typing import Any

import pytest

from arena_llm.types import (
    Conversation,
    GenerationRequest,
    Image,
    Message,
    Part,
    ProviderState,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
)
from arena_llm.v1 import content_pb2, generate_pb2
from arena_llm.wire import to_message
from services.common.content import (
    MAX_ALL_PARTS,
    MAX_IMAGE_BYTES,
    MAX_IMAGES,
    MAX_PARTS,
    MAX_STATE_BYTES,
    check_conversation,
)
from services.common.errors import InvalidRequest, UnknownField
from services.common.reply import check_completion
from tests.support.replies import list_completions

PNG = Image(b"\x89PNG", "image/png")
CALL = ToolCall("c1", "move", "{}")
M = "conversation.messages"


def talk(*messages: Message, continue_last_message: bool = False) -> content_pb2.Conversation:
    request = GenerationRequest("hf_x", Conversation(messages, continue_last_message))
    return to_message(request, generate_pb2.GenerateRequest).conversation


def user(*parts: Part) -> Message:
    return Message("user", parts)


def assistant(*parts: Part) -> Message:
    return Message("assistant", parts)


def tool(*parts: Part) -> Message:
    return Message("tool", parts)


ACCEPTED = [
    talk(user(Text("hi"))),
    talk(Message("system", "s"), user(Text("a"), PNG, Text("b"))),
    talk(Message("user", "u"), Message("system", "later"), Message("user", "u")),
    talk(user(Image(url="https://example.org/a.png"))),
    talk(
        user(Text("?")),
        assistant(Reasoning("hm"), Text("I call"), CALL, ToolCall("c2", "look")),
        tool(ToolResult("c1", "ok"), ToolResult("c2", [Text("see"), PNG])),
        user(Text("and?")),
    ),
    talk(user(Text("?")), assistant(CALL), tool(ToolResult("c1", is_error=True))),
    talk(user(Text("?")), assistant(Reasoning(state=ProviderState(b"s", "o"))), user(Text("!"))),
    talk(user(Text("?")), assistant(Refusal("no")), user(Text("please"))),
    talk(user(Text("?")), assistant(), user(Text("well?"))),
    talk(assistant(*[Text("a")] * (MAX_PARTS + 1)), user(Text("stop"))),
    talk(user(Text("?")), assistant(Text("1. e4")), continue_last_message=True),
    talk(*[user(Text("hi"))] * 4096),
    talk(user(*[PNG] * MAX_IMAGES)),
]

REFUSED: list[tuple[str, content_pb2.Conversation]] = [
    (M, talk()),
    (M, talk(*[user(Text("hi"))] * 4097)),
    (f"{M}[0].parts", talk(user())),
    (f"{M}[0].parts", talk(user(*[Text("a")] * (MAX_PARTS + 1)))),
    (M, talk(*[user(*[Text("a")] * MAX_PARTS)] * (MAX_ALL_PARTS // MAX_PARTS + 1))),
    (M, talk(user(*[PNG] * (MAX_IMAGES // 2 + 1)), user(*[PNG] * (MAX_IMAGES // 2)))),
    (f"{M}[0].parts[0].text", talk(user(Text("")))),
    (f"{M}[0].parts[1].text", talk(user(Text("a"), Text("")))),
    (f"{M}[0].parts[0].reasoning", talk(user(Reasoning("hm")))),
    (f"{M}[0].parts[0].tool_call", talk(user(CALL))),
    (f"{M}[0].parts[0].tool_result", talk(user(ToolResult("c1")))),
    (f"{M}[0].parts[0].refusal", talk(user(Refusal("no")))),
    (f"{M}[0].parts[0].image", talk(Message("system", [PNG]))),
    (f"{M}[0].parts[0].text", talk(tool(Text("a")))),
    (f"{M}[0].parts[0].image", talk(user(Image()))),
    (f"{M}[0].parts[0].image.data", talk(user(Image(b"", "image/png")))),
    (f"{M}[0].parts[0].image.data", talk(user(Image(b"x" * (MAX_IMAGE_BYTES + 1), "image/png")))),
    (f"{M}[0].parts[0].image.media_type", talk(user(Image(b"a")))),
    (f"{M}[0].parts[0].image.media_type", talk(user(Image(b"a", "text/html")))),
    (f"{M}[0].parts[0].image.url", talk(user(Image(url="http://a/b.png")))),
    (f"{M}[0].parts[0].image.url", talk(user(Image(url="data:image/png;base64,AA==")))),
    (f"{M}[0].parts[0].image.url", talk(user(Image(url="https://a/" + "b" * 2048)))),
    (f"{M}[0].parts[0].tool_call.id", talk(assistant(ToolCall("", "move")))),
    (f"{M}[0].parts[0].tool_call.id", talk(assistant(ToolCall("a\n", "move")))),
    (f"{M}[0].parts[0].tool_call.id", talk(assistant(ToolCall("a" * 129, "move")))),
    (f"{M}[0].parts[0].tool_call.name", talk(assistant(ToolCall("c1", "")))),
    (f"{M}[0].parts[1].tool_call.id", talk(assistant(CALL, CALL))),
    (f"{M}[0].parts[0].tool_result.call_id", talk(tool(ToolResult("")))),
    (f"{M}[0].parts[0].tool_result.call_id", talk(tool(ToolResult("c1")))),
    (f"{M}[1].parts[0].tool_result.parts[0]",
     talk(assistant(CALL), tool(ToolResult("c1", [Reasoning("hm")])))),
    (f"{M}[1].parts[0].tool_result.parts[0].text",
     talk(assistant(CALL), tool(ToolResult("c1", [Text("")])))),
    (f"{M}[1].parts[0].tool_result.parts",
     talk(assistant(CALL), tool(ToolResult("c1", [Text("a")] * (MAX_PARTS + 1))))),
    (f"{M}[0].parts[0].state.data",
     talk(user(Text("a", state=ProviderState(b"x" * (MAX_STATE_BYTES + 1)))))),
    (f"{M}[0].parts[1].state.data",
     talk(user(Text("a"), Text("b", state=ProviderState(b"x" * (MAX_STATE_BYTES + 1)))))),
    (f"{M}[1]", talk(user(Text("?")), assistant(Text("done")))),
    ("conversation.continue_last_message", talk(user(Text("?")), continue_last_message=True)),
    ("conversation.continue_last_message",
     talk(user(Text("?")), assistant(), continue_last_message=True)),
]  # fmt: skip


@pytest.mark.parametrize("conversation", ACCEPTED)
def test_accepted(conversation: content_pb2.Conversation) -> None:
    check_conversation(conversation)


@pytest.mark.parametrize(
    ("field", "conversation"), REFUSED, ids=[f"{i}-{row[0]}" for i, row in enumerate(REFUSED)]
)
def test_refused(field: str, conversation: content_pb2.Conversation) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_conversation(conversation)
    assert caught.value.field == field
    assert field in caught.value.message


def test_the_message_of_every_reply_can_be_appended() -> None:
    """What the servicer sends as a reply, it accepts in the next request."""
    for reply in list_completions(400):
        message = check_completion(reply, GenerationRequest("hf_x", "?")).message
        calls = (ToolResult(call.id, "done") for call in message.tool_calls)
        results = [tool(*parts)] if (parts := tuple(calls)) else []
        check_conversation(talk(user(Text("?")), message, *results, user(Text("go on"))))


def test_a_message_without_a_role_and_a_part_without_content() -> None:
    for parts in ([content_pb2.Part(text="a")], [content_pb2.Part()]):
        conversation = content_pb2.Conversation(messages=[content_pb2.Message(parts=parts)])
        with pytest.raises(InvalidRequest) as caught:
            check_conversation(conversation)
        assert caught.value.field == f"{M}[0].role"
    conversation = talk(user(Text("a")))
    conversation.messages[0].parts.add()
    with pytest.raises(InvalidRequest) as caught:
        check_conversation(conversation)
    assert caught.value.field == f"{M}[0].parts[1]"


@pytest.mark.parametrize(
    ("field", "change"),
    [
        (f"{M}[0].role", lambda message: setattr(message, "role", 99)),
        (f"{M}[0].parts[0].image.detail",
         lambda message: setattr(message.parts[0].image, "detail", 99)),
    ],
)  # fmt: skip
def test_a_value_of_a_newer_contract_is_refused(field: str, change: Any) -> None:
    conversation = talk(user(PNG))
    change(conversation.messages[0])
    with pytest.raises(UnknownField) as caught:
        check_conversation(conversation)
    assert caught.value.field == field
