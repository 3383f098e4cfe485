"""Which levels and budgets of reasoning a model has. litellm would round those that it lacks."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.hosted.conftest import PROVIDERS, Provider, Start, fail


@pytest.fixture(params=["anthropic"])
def provider(request: pytest.FixtureRequest) -> Provider:
    return PROVIDERS[request.param]


@pytest.mark.parametrize(
    ("provider", "model", "levels", "budget"),
    [
        ("openai", "gpt-4o-mini", [], False),
        ("openai", "o4-mini", ["low", "medium", "high"], False),
        ("openai", "gpt-5-mini", ["minimal", "low", "medium", "high"], False),
        ("openai", "gpt-5.1", ["none", "low", "medium", "high"], False),
        ("anthropic", "claude-sonnet-4-5", ["none", "low", "medium", "high"], True),
        ("anthropic", "claude-opus-4-6", ["none", "auto", "low", "medium", "high", "max"], True),
        (
            "anthropic",
            "claude-opus-4-7",
            ["none", "auto", "low", "medium", "high", "xhigh", "max"],
            False,
        ),
        ("gemini", "gemini-2.5-flash", ["none", "auto", "minimal", "low", "medium", "high"], True),
        ("gemini", "gemini-2.5-pro", ["auto", "minimal", "low", "medium", "high"], True),
        ("gemini", "gemini-3-pro-preview", ["low", "medium", "high"], False),
    ],
    indirect=["provider"],
)
async def test_the_levels_of_a_model(
    start: Start, upstream: Any, provider: Provider, model: str, levels: list[str], budget: bool
) -> None:
    """Each listed level is sent, and every other one is refused."""
    name = f"{provider.model.rpartition('/')[0]}/{model}"
    async with start({"name": name}) as llm:
        (listed,) = await llm.list_models()
        assert [*listed.reasoning_efforts] == levels
        assert ("reasoning.budget_tokens" in listed.supported_fields) == budget
        for level in ("none", "auto", "minimal", "low", "medium", "high", "xhigh", "max"):
            upstream.history.clear()
            if level in levels:
                await llm.generate(name, "hi", reasoning_effort=level)
                assert len(upstream.history) == 1
            else:
                error = await fail(llm, False, name, reasoning_effort=level)
                assert (error.reason, error.field) == ("UNSUPPORTED", "reasoning.effort")
        if not budget:
            error = await fail(llm, False, name, reasoning_budget_tokens=2000)
            assert (error.reason, error.field) == ("UNSUPPORTED", "reasoning.budget_tokens")


@pytest.mark.parametrize("level", ["low", "high", "max"])
async def test_an_adaptive_model_gets_the_level(
    start: Start, upstream: Any, provider: Provider, level: str
) -> None:
    model = "litellm_anthropic/claude-opus-4-6"
    async with start({"name": model}) as llm:
        await llm.generate(model, "hi", reasoning_effort=level)
        await llm.generate(model, "hi", reasoning_effort="auto")
    first, second = (call.body for call in upstream.history)
    assert first["thinking"]["type"] == "adaptive"
    assert first["output_config"] == {"effort": level}
    assert second["thinking"] == {"type": "adaptive", "display": "summarized"}
    assert "effort" not in json.dumps(second)
