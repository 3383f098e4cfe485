"""Images, refusals, and where messages may stand."""

from __future__ import annotations

import json
from typing import Any

import pytest

from arena_llm import ArenaError, AsyncClient, Message
from arena_llm.types import CacheHint, Conversation, FinishReason, Image, ImageDetail, Refusal, Text
from tests.support.upstreams.openrouter import listing
from tests.support.upstreams.server import Reply
from tests.unit.hosted.conftest import OPENAI_FORMAT, STREAMED, Provider, Start
from tests.unit.hosted.test_tools import ask

PIXELS = Image(b"png", "image/png")
LINK = Image(url="https://pictures.example/board.png")
ASK = Message("user", "Your move?")


async def refuse(llm: AsyncClient, model: str, messages: list[Message] | Conversation) -> str:
    with pytest.raises(ArenaError) as caught:
        await llm.generate(model, messages=messages)
    assert caught.value.reason == "UNSUPPORTED"
    return caught.value.field


# --- refusals ---------------------------------------------------------------------------


@STREAMED
@OPENAI_FORMAT
async def test_a_refusal_is_a_part(
    llm: AsyncClient, upstream: Any, provider: Provider, streamed: bool
) -> None:
    upstream.enqueue(Reply("", refusal="I will not."))
    reply = await ask(llm, streamed, provider.model, tools=[])
    assert reply.message == Message("assistant", Refusal("I will not."))
    assert (reply.text, reply.finish_reason) == ("", FinishReason.REFUSAL)


@pytest.mark.parametrize("provider", ["anthropic"], indirect=True)
@STREAMED
async def test_a_refusal_without_words(
    llm: AsyncClient, upstream: Any, provider: Provider, streamed: bool
) -> None:
    fields = {"stop_reason": "refusal"}
    upstream.enqueue(Reply("", fields=fields if streamed else {"content": [], **fields}))
    reply = await ask(llm, streamed, provider.model, tools=[])
    assert (reply.message.parts, reply.finish_reason) == ((), FinishReason.REFUSAL)
    assert reply.native_finish_reason == "refusal"


@OPENAI_FORMAT
async def test_a_refused_constraint_is_not_asked_again(
    llm: AsyncClient, upstream: Any, provider: Provider
) -> None:
    upstream.default = Reply("", refusal="I will not.")
    reply = await llm.generate(provider.model, "Your move?", choices=["a1", "b2"])
    assert reply.finish_reason is FinishReason.REFUSAL
    assert len(upstream.history) == 1


async def test_an_earlier_refusal_is_sent_as_the_models_words(
    llm: AsyncClient, upstream: Any, provider: Provider
) -> None:
    await llm.generate(
        provider.model, messages=[ASK, Message("assistant", Refusal("I will not.")), ASK]
    )
    assert "I will not." in json.dumps(upstream.history[0].body)


# --- images -----------------------------------------------------------------------------


async def test_the_bytes_of_an_image(llm: AsyncClient, upstream: Any, provider: Provider) -> None:
    messages = [Message("user", [Text("What is this?"), PIXELS])]
    await llm.generate(provider.model, messages=messages)
    body = upstream.history[0].body
    sent = json.dumps(body)
    assert "cG5n" in sent  # the bytes in base64
    assert "image/png" in sent
    if provider.variable in ("OPENROUTER_API_KEY", "OPENAI_API_KEY"):
        image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,cG5n"}}
        content = [{"type": "text", "text": "What is this?"}, image]
        assert body["messages"] == [{"role": "user", "content": content}]


async def test_the_address_of_an_image(llm: AsyncClient, upstream: Any, provider: Provider) -> None:
    messages = [Message("user", [LINK])]
    if provider.variable == "GEMINI_API_KEY":
        field = await refuse(llm, provider.model, messages)
        assert field == "conversation.messages[0].parts[0].image.url"
        assert not upstream.history
        return
    await llm.generate(provider.model, messages=messages)
    assert "https://pictures.example/board.png" in json.dumps(upstream.history[0].body)


async def test_the_detail_of_an_image(llm: AsyncClient, upstream: Any, provider: Provider) -> None:
    image = Image(b"png", "image/png", detail=ImageDetail.LOW)
    messages = [Message("user", image)]
    if provider.variable in ("ANTHROPIC_API_KEY", "GEMINI_API_KEY"):
        field = await refuse(llm, provider.model, messages)
        assert field == "conversation.messages[0].parts[0].image.detail"
        return
    await llm.generate(provider.model, messages=messages)
    (part,) = upstream.history[0].body["messages"][0]["content"]
    assert part["image_url"]["detail"] == "low"


async def test_a_model_without_eyes(start: Start, upstream: Any, provider: Provider) -> None:
    model = {"litellm": "litellm_openai/gpt-3.5-turbo", "openrouter": "openrouter_a/blind"}
    if provider.variable not in ("OPENROUTER_API_KEY", "OPENAI_API_KEY"):
        return
    if provider.service == "openrouter":
        architecture = {"input_modalities": ["text"]}
        upstream.models.append(listing("a/blind", architecture=architecture))
    name = model[provider.service]
    async with start({"name": name}) as llm:
        field = await refuse(llm, name, [ASK, Message("user", PIXELS)])
    assert field == "conversation.messages[1].parts[0].image"
    assert not upstream.history


# --- places -----------------------------------------------------------------------------


async def test_a_system_message_within_the_conversation(
    llm: AsyncClient, upstream: Any, provider: Provider
) -> None:
    """litellm would move it to the beginning for Anthropic and Gemini."""
    messages = [ASK, Message("system", "Be brief."), ASK]
    if provider.variable in ("ANTHROPIC_API_KEY", "GEMINI_API_KEY"):
        assert await refuse(llm, provider.model, messages) == "conversation.messages[1]"
        return
    await llm.generate(provider.model, messages=messages)
    assert [m["role"] for m in upstream.history[0].body["messages"]] == ["user", "system", "user"]


async def test_continuing_the_last_message(start: Start, upstream: Any, provider: Provider) -> None:
    messages = (ASK, Message("assistant", "I play "))
    models = {
        "OPENROUTER_API_KEY": "openrouter_anthropic/claude-3.5-haiku",
        "ANTHROPIC_API_KEY": "litellm_anthropic/claude-haiku-4-5",
    }
    model = models.get(provider.variable, provider.model)
    async with start({"name": model}) as llm:
        conversation = Conversation(messages, continue_last_message=True)
        if provider.variable not in models:
            field = await refuse(llm, model, conversation)
            assert field == "conversation.continue_last_message"
            return
        await llm.generate(model, messages=conversation)
    assert upstream.history[0].body["messages"][-1]["role"] == "assistant"


@pytest.mark.parametrize("provider", ["gemini"], indirect=True)
@STREAMED
async def test_a_blocked_prompt_has_no_text(
    llm: AsyncClient, upstream: Any, provider: Provider, streamed: bool
) -> None:
    feedback = {"candidates": [], "promptFeedback": {"blockReason": "SAFETY"}}
    upstream.default = Reply("", pieces=[], fields=feedback)
    reply = await ask(llm, streamed, provider.model, tools=[])
    assert (reply.message.parts, reply.finish_reason) == ((), FinishReason.CONTENT_FILTER)


@pytest.mark.parametrize("provider", ["anthropic"], indirect=True)
async def test_cache_hints_of_claude(llm: AsyncClient, upstream: Any, provider: Provider) -> None:
    parts = [Text("rules", cache=CacheHint()), Text("Your move?")]
    await llm.generate(provider.model, messages=[Message("user", parts)])
    content = upstream.history[0].body["messages"][0]["content"]
    assert [block.get("cache_control") for block in content] == [{"type": "ephemeral"}, None]
