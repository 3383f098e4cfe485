"""The real providers through litellm, with real keys. Costs less than a cent."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest

from arena_llm import AsyncClient, Message
from arena_llm.types import Tool, ToolResult
from services.common.config import load_config
from services.common.servicer import LlmServicer
from services.litellm.backend import LiteLlmBackend
from services.litellm.config import LiteLlmConfig
from tests.support.scripted import serving
from tests.support.system import ROOT

#: A cheap model of some providers, and the variable with its key.
MODELS = {
    "OPENAI_API_KEY": "litellm_openai/gpt-4o-mini",
    "ANTHROPIC_API_KEY": "litellm_anthropic/claude-haiku-4-5",
    "GROQ_API_KEY": "litellm_groq/llama-3.1-8b-instant",
    "TOGETHER_API_KEY": "litellm_together_ai/Qwen/Qwen2.5-7B-Instruct-Turbo",
    "FIREWORKS_API_KEY": "litellm_fireworks_ai/accounts/fireworks/models/gpt-oss-20b",
    "GEMINI_API_KEY": "litellm_gemini/gemini-2.5-flash",
    "MISTRAL_API_KEY": "litellm_mistral/mistral-small-latest",
}

pytestmark = pytest.mark.live


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> str:
    if not os.environ.get(request.param):
        pytest.skip(f"{request.param} is not set")
    return MODELS[request.param]


@pytest.fixture
async def llm() -> AsyncIterator[AsyncClient]:
    config = load_config(ROOT / "configs/litellm_models.yaml", LiteLlmConfig)
    async with (
        serving(LlmServicer(LiteLlmBackend(config))) as server,
        AsyncClient(server.address, timeout=60) as client,
    ):
        yield client


async def test_generate(model: str, llm: AsyncClient) -> None:
    reply = await llm.generate(model, "Say: yes", max_tokens=200)
    assert "yes" in reply.text.lower()
    assert reply.usage.prompt_tokens
    assert reply.model.startswith("litellm_")


async def test_stream(model: str, llm: AsyncClient) -> None:
    stream = llm.stream(model, "Count to five.", max_tokens=200)
    deltas = [delta async for delta in stream]
    assert stream.completion is not None
    assert stream.completion.text == "".join(deltas)
    assert stream.completion.usage.completion_tokens


async def test_choices(model: str, llm: AsyncClient) -> None:
    assert (await llm.generate(model, "Your move?", choices=["a1", "b2"])).text in ("a1", "b2")


async def test_a_tool_loop(model: str, llm: AsyncClient) -> None:
    tool = Tool("look_up", "Looks up a secret number.", '{"type": "object", "properties": {}}')
    messages = [Message("user", "What is the secret number? Use the tool.")]
    first = await llm.generate(model, messages=messages, tools=[tool], max_tokens=500)
    (call,) = first.tool_calls
    messages += [first.message, Message("tool", ToolResult(call.id, "It is 4711."))]
    second = await llm.generate(model, messages=messages, tools=[tool], max_tokens=500)
    assert "4711" in second.text
