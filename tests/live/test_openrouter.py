"""The real OpenRouter, with a real key. Costs less than a cent: `pytest tests/live`."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Any

import pytest

from arena_llm import ArenaError, AsyncClient, Message
from arena_llm.types import PriceTable, Tool, ToolResult
from services.common.config import load_config
from services.common.servicer import LlmServicer
from services.openrouter.backend import OpenRouterBackend
from services.openrouter.config import OpenRouterConfig
from tests.support.scripted import serving
from tests.support.system import ROOT

MODEL = "openrouter_openai/gpt-4o-mini"
REASONING_MODEL = "openrouter_anthropic/claude-haiku-4.5"

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(
        not os.environ.get("OPENROUTER_API_KEY"), reason="OPENROUTER_API_KEY is not set"
    ),
]


@pytest.fixture
async def llm() -> AsyncIterator[AsyncClient]:
    config = load_config(ROOT / "configs/openrouter_models.yaml", OpenRouterConfig)
    async with (
        serving(LlmServicer(OpenRouterBackend(config))) as server,
        AsyncClient(server.address, timeout=60) as client,
    ):
        yield client


async def test_generate(llm: AsyncClient) -> None:
    reply = await llm.generate(MODEL, "Say: yes", max_tokens=5, temperature=0, seed=1)
    assert "yes" in reply.text.lower()
    assert reply.usage.cost_usd
    assert reply.model.startswith("openrouter_openai/gpt-4o-mini")


async def test_stream(llm: AsyncClient) -> None:
    stream = llm.stream(MODEL, "Count to five.", max_tokens=20)
    deltas = [delta async for delta in stream]
    assert stream.completion is not None
    assert stream.completion.text == "".join(deltas)
    assert stream.completion.usage.cost_usd


async def test_choices_and_logprobs(llm: AsyncClient) -> None:
    assert (await llm.generate(MODEL, "Your move?", choices=["a1", "b2"])).text in ("a1", "b2")
    reply = await llm.generate(MODEL, "Say: yes", max_tokens=2, top_logprobs=2)
    assert reply.completion_tokens
    assert reply.completion_tokens[0].top


async def test_a_tool_loop_with_reasoning(llm: AsyncClient) -> None:
    """The signature of the reasoning goes back to the provider that made it."""
    tool = Tool("look_up", "Looks up a secret number.", '{"type": "object", "properties": {}}')
    messages = [Message("user", "What is the secret number? Use the tool.")]
    options: Any = {"tools": [tool], "max_tokens": 2000, "reasoning_effort": "low"}
    first = await llm.generate(REASONING_MODEL, messages=messages, **options)
    assert first.finish_reason == "tool_calls"
    (call,) = first.tool_calls
    messages += [first.message, Message("tool", ToolResult(call.id, "It is 4711."))]
    second = await llm.generate(REASONING_MODEL, messages=messages, **options)
    assert "4711" in second.text
    assert second.served_by.provider


async def test_availability(llm: AsyncClient) -> None:
    answer = await llm.is_available(MODEL)
    assert answer.credits is not None
    assert answer.detail
    unknown = await llm.is_available("openrouter_openai/gpt-4o-minni")
    assert unknown.reason == "MODEL_NOT_FOUND"
    assert "gpt-4o-mini" in unknown.detail
    listed = {model.name: model for model in await llm.list_models()}
    assert isinstance(listed[MODEL].price, PriceTable)


async def test_an_unknown_model(llm: AsyncClient) -> None:
    with pytest.raises(ArenaError) as caught:
        await llm.generate("openrouter_openai/no-such-model", "hi")
    assert caught.value.reason in ("MODEL_NOT_FOUND", "INVALID_REQUEST")
