"""Tools: requests, calls in whole and streamed replies, and results in the next request."""

from __future__ import annotations

import json
from typing import Any

import pytest

from arena_llm import ArenaError, AsyncClient, Message
from arena_llm.types import (
    Completion,
    Delta,
    FinishReason,
    Image,
    Tool,
    ToolCall,
    ToolChoice,
    ToolMode,
    ToolResult,
)
from tests.support.upstreams.openrouter import listing
from tests.support.upstreams.server import Reply
from tests.unit.hosted.conftest import (
    LITELLM,
    OPENAI_FORMAT,
    STREAMED,
    Provider,
    fail,
)

SCHEMA = '{"type": "object", "properties": {"to": {"type": "string"}, "from": {"type": "string"}}}'
MOVE = Tool("move", "Make a move.", SCHEMA)
PASS = Tool("pass", "Do nothing.")
ASK = Message("user", "Your move?")

#: Two parallel calls. The order of the keys is not the alphabet's.
CALLS = (("call_1", "move", '{"to": "e4", "from": "e2"}'), ("call_2", "pass", "{}"))


async def ask(llm: AsyncClient, streamed: bool, model: str, **options: Any) -> Completion:
    """One completion. The deltas of a stream must add up to the parts of its message."""
    options = {"messages": [ASK], "tools": [MOVE, PASS], **options}
    if not streamed:
        return await llm.generate(model, **options)
    stream = llm.stream(model, **options)
    pieces: dict[int, list[Delta]] = {}
    async for event in stream.events():
        if isinstance(event, Delta):
            pieces.setdefault(event.part, []).append(event)
    message = stream.completion.message
    for number, part in enumerate(message.parts):
        deltas = pieces.get(number, [])
        if isinstance(part, ToolCall):
            calls = [delta.tool_call for delta in deltas if delta.tool_call]
            assert (calls[0].id, calls[0].name) == (part.id, part.name)
            assert not any(call.id or call.name for call in calls[1:])
            assert "".join(call.arguments for call in calls) == part.arguments
    assert "".join(delta.text or "" for part in pieces.values() for delta in part) == message.text
    return stream.completion


@STREAMED
async def test_tool_calls(
    llm: AsyncClient, upstream: Any, provider: Provider, streamed: bool
) -> None:
    upstream.enqueue(Reply("I will.", calls=CALLS))
    reply = await ask(llm, streamed, provider.model)
    assert reply.finish_reason is FinishReason.TOOL_CALLS
    assert reply.text == "I will."
    assert [(call.name, call.arguments) for call in reply.tool_calls] == [
        ("move", CALLS[0][2]),
        ("pass", "{}"),
    ]
    ids = [call.id for call in reply.tool_calls]
    assert all(ids)
    assert len(set(ids)) == 2
    if provider.variable != "GEMINI_API_KEY":  # which gives no ids
        assert ids == ["call_1", "call_2"]


@STREAMED
async def test_calls_without_a_text(
    llm: AsyncClient, upstream: Any, provider: Provider, streamed: bool
) -> None:
    upstream.enqueue(Reply("", calls=CALLS[:1]))
    reply = await ask(llm, streamed, provider.model)
    assert [type(part) for part in reply.message.parts] == [ToolCall]


@STREAMED
async def test_the_result_goes_back(
    llm: AsyncClient, upstream: Any, provider: Provider, streamed: bool
) -> None:
    """The reply's message is appended unchanged."""
    upstream.enqueue(Reply("", calls=CALLS), Reply("done"))
    first = await ask(llm, streamed, provider.model)
    results = [ToolResult(call.id, f"result of {call.name}") for call in first.tool_calls]
    messages = [ASK, first.message, Message("tool", results)]
    second = await ask(llm, streamed, provider.model, messages=messages)
    assert second.text == "done"
    body = upstream.history[1].body
    sent = json.dumps(body, sort_keys=False)
    for text in ("result of move", "result of pass"):
        assert text in sent
    if "tool_calls" in sent:
        calls = body["messages"][1]["tool_calls"]
        assert [call["function"]["arguments"] for call in calls] == [c[2] for c in CALLS]
        assert [m["tool_call_id"] for m in body["messages"][2:]] == ["call_1", "call_2"]


async def test_the_tools_are_sent_with_their_schema(
    llm: AsyncClient, upstream: Any, provider: Provider
) -> None:
    await ask(llm, False, provider.model)
    sent = json.dumps(upstream.history[0].body)
    assert "Make a move." in sent
    if provider.variable != "GEMINI_API_KEY":  # litellm rewrites its schemas
        assert json.dumps(json.loads(SCHEMA)["properties"]) in sent


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        (ToolChoice(ToolMode.AUTO), "auto"),
        (ToolChoice(ToolMode.NONE), "none"),
        (ToolChoice(ToolMode.REQUIRED), "required"),
        (
            ToolChoice(ToolMode.REQUIRED, ("move",)),
            {"type": "function", "function": {"name": "move"}},
        ),
    ],
    ids=["auto", "none", "required", "named"],
)
@OPENAI_FORMAT
async def test_the_choice(
    llm: AsyncClient, upstream: Any, provider: Provider, choice: ToolChoice, sent: Any
) -> None:
    await ask(llm, False, provider.model, tool_choice=choice)
    assert upstream.history[0].body["tool_choice"] == sent


@LITELLM
async def test_the_choice_of_other_formats(
    llm: AsyncClient, upstream: Any, provider: Provider
) -> None:
    await ask(llm, False, provider.model, tool_choice=ToolChoice(ToolMode.REQUIRED, ("move",)))
    expected = {
        "OPENAI_API_KEY": '{"name": "move"}',
        "ANTHROPIC_API_KEY": '{"type": "tool", "name": "move"}',
        "GEMINI_API_KEY": '"allowed_function_names": ["move"]',
    }
    assert expected[provider.variable] in json.dumps(upstream.history[0].body)


@pytest.mark.parametrize("parallel", [True, False])
async def test_parallel_calls(
    llm: AsyncClient, upstream: Any, provider: Provider, parallel: bool
) -> None:
    choice = ToolChoice(allow_parallel=parallel)
    options = {"messages": [ASK], "tools": [MOVE, PASS], "tool_choice": choice}
    if provider.variable == "GEMINI_API_KEY":
        error = await fail_messages(llm, provider.model, **options)
        assert (error.reason, error.field) == ("UNSUPPORTED", "tool_choice.allow_parallel")
        return
    await llm.generate(provider.model, **options)  # type: ignore[arg-type]
    body = upstream.history[0].body
    if provider.variable == "ANTHROPIC_API_KEY":
        assert body["tool_choice"]["disable_parallel_tool_use"] is not parallel
    else:
        assert body["parallel_tool_calls"] is parallel


@pytest.mark.parametrize("mode", [None, ToolMode.AUTO, ToolMode.REQUIRED])
async def test_only_the_named_tools_are_shown(
    llm: AsyncClient, upstream: Any, provider: Provider, mode: ToolMode | None
) -> None:
    """What a model does not see it cannot call. Few providers have a field for it."""
    choice = ToolChoice(mode, ("move", "pass"))
    await ask(llm, False, provider.model, tools=[MOVE, Tool("resign"), PASS], tool_choice=choice)
    sent = json.dumps(upstream.history[0].body)
    assert "resign" not in sent
    assert sent.index('"move"') < sent.index('"pass"')


async def test_a_name_does_not_make_a_model_call(
    llm: AsyncClient, upstream: Any, provider: Provider
) -> None:
    await ask(llm, False, provider.model, tool_choice=ToolChoice(names=("move",)))
    body = upstream.history[0].body
    assert "Do nothing." not in json.dumps(body)
    assert not {"tool_choice", "toolConfig"} & body.keys()


@pytest.mark.parametrize("provider", ["openrouter"], indirect=True)
async def test_strict_tools_need_a_model_with_structured_output(
    llm: AsyncClient, upstream: Any
) -> None:
    upstream.models.append(listing("a/strict", "tools", "structured_outputs"))
    options = {"messages": [ASK], "tools": [PASS, Tool("move", strict=True)]}
    error = await fail_messages(llm, "openrouter_a/plain", **options)
    assert (error.reason, error.field) == ("UNSUPPORTED", "tools[1].strict")
    assert not upstream.history
    await llm.generate("openrouter_a/strict", **options)  # type: ignore[arg-type]
    assert [t["function"].get("strict") for t in upstream.history[0].body["tools"]] == [None, True]


@pytest.mark.parametrize("name", ["tools", "tool_choice", "parallel_tool_calls", "functions"])
async def test_tools_among_the_options_are_refused(
    llm: AsyncClient, upstream: Any, provider: Provider, name: str
) -> None:
    """Their calls would be lost."""
    error = await fail(llm, False, provider.model, provider_options={name: []})
    assert (error.reason, error.field) == ("INVALID_REQUEST", "provider_options_json")
    assert "`tools`" in error.message
    assert not upstream.history


async def test_a_failed_tool_says_so(llm: AsyncClient, upstream: Any, provider: Provider) -> None:
    call = ToolCall("call_1", "move", "{}")
    messages = [ASK, Message("assistant", call)]
    messages.append(Message("tool", ToolResult("call_1", "no such square", is_error=True)))
    await ask(llm, False, provider.model, messages=messages)
    assert "Error: no such square" in json.dumps(upstream.history[0].body)


async def test_an_image_in_a_result_is_refused_where_it_would_be_lost(
    llm: AsyncClient, upstream: Any, provider: Provider
) -> None:
    image = Image(b"png", "image/png")
    call = Message("assistant", ToolCall("call_1", "move", "{}"))
    messages = [ASK, call, Message("tool", ToolResult("call_1", image))]
    if provider.variable in ("ANTHROPIC_API_KEY", "OPENROUTER_API_KEY"):
        await ask(llm, False, provider.model, messages=messages)
        assert "cG5n" in json.dumps(upstream.history[0].body)
        return
    error = await fail_messages(llm, provider.model, messages=messages, tools=[MOVE])
    assert error.reason == "UNSUPPORTED"
    assert error.field == "conversation.messages[2].parts[0].tool_result.parts[0].image"
    assert not upstream.history


@STREAMED
@OPENAI_FORMAT
async def test_an_id_of_an_earlier_turn_is_replaced(
    llm: AsyncClient, upstream: Any, provider: Provider, streamed: bool
) -> None:
    """Some servers number the calls of each reply from 0."""
    upstream.default = Reply("", calls=CALLS[:1])
    first = await ask(llm, streamed, provider.model)
    result = Message("tool", ToolResult(first.tool_calls[0].id, "ok"))
    second = await ask(llm, streamed, provider.model, messages=[ASK, first.message, result])
    assert second.tool_calls[0].id not in ("", "call_1")


@STREAMED
@OPENAI_FORMAT
async def test_an_id_that_is_too_long_comes_back_to_the_provider(
    llm: AsyncClient, upstream: Any, provider: Provider, streamed: bool
) -> None:
    upstream.default = Reply("", calls=[("x" * 300, "move", "{}")])
    first = await ask(llm, streamed, provider.model)
    (call,) = first.tool_calls
    assert len(call.id) < 64
    result = Message("tool", ToolResult(call.id, "ok"))
    await ask(llm, streamed, provider.model, messages=[ASK, first.message, result])
    messages = upstream.history[1].body["messages"]
    assert messages[1]["tool_calls"][0]["id"] == messages[2]["tool_call_id"] == "x" * 300


async def fail_messages(llm: AsyncClient, model: str, **options: Any) -> ArenaError:
    with pytest.raises(ArenaError) as caught:
        await llm.generate(model, **options)
    return caught.value
