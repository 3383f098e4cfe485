"""The body of OpenRouter's requests, and provider_options."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from arena_llm import ArenaError, AsyncClient, Message
from arena_llm.types import CacheHint, ProviderRouting, Text, Tool
from tests.support.upstreams import answers
from tests.support.upstreams.answers import Odd
from tests.support.upstreams.checks import ask
from tests.support.upstreams.openrouter import KEY, OpenRouterUpstream, listing
from tests.support.upstreams.server import Fault, Reply
from tests.unit.hosted.conftest import STREAMED, Start, fail
from tests.unit.hosted.openrouter.conftest import MODEL, SCHEMA


async def test_the_whole_body(llm: AsyncClient, upstream: OpenRouterUpstream) -> None:
    await llm.generate(
        MODEL,
        messages=[Message("system", "Be brief."), Message("user", "Your move?")],
        temperature=0.1,
        top_k=40,
        max_tokens=64,
        stop=["\n"],
        session="game-1",
        labels={"player": "x"},
        provider_options={
            "provider": {"order": ["one"]},
            "models": ["b/fallback"],
            "transforms": ["middle-out"],
            "reasoning": {"effort": "low"},
        },
    )
    (request,) = upstream.history
    assert request.body == {
        "model": "a/plain",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Your move?"},
        ],
        "temperature": 0.1,
        "top_k": 40,
        "max_tokens": 64,
        "stop": ["\n"],
        "session_id": "game-1",
        "provider": {"require_parameters": True, "order": ["one"]},
        "models": ["b/fallback"],
        "transforms": ["middle-out"],
        "reasoning": {"effort": "low"},
    }
    assert request.headers["Authorization"] == f"Bearer {KEY}"
    assert request.headers["X-Title"] == "Arena LLM"


@pytest.mark.parametrize(
    ("options", "required"),
    [
        ({}, None),
        ({"max_tokens": 5}, None),
        ({"seed": 1}, True),
        ({"top_logprobs": 2}, True),
        ({"json_schema": {"type": "object"}}, True),
        ({"seed": 1, "provider_options": {"provider": {"require_parameters": False}}}, False),
    ],
)
async def test_providers_must_honour_the_parameters_unless_the_caller_says_otherwise(
    llm: AsyncClient, upstream: OpenRouterUpstream, options: dict[str, object], required: object
) -> None:
    token = {"token": "{}", "logprob": -0.5, "top_logprobs": []}
    upstream.enqueue(Reply("{}", fields={"choice": {"logprobs": {"content": [token]}}}))
    await llm.generate(SCHEMA, "hi", **options)  # type: ignore[arg-type]
    provider = upstream.history[0].body.get("provider", {})
    assert provider.get("require_parameters") is required


async def test_a_parameter_that_no_provider_honours_is_named(
    llm: AsyncClient, upstream: OpenRouterUpstream
) -> None:
    upstream.default = Fault(404, message="No endpoints found that can handle the parameters")
    error = await fail(llm, False, MODEL, top_k=3, seed=1)
    assert (error.code, error.reason, error.field) == (
        "UNIMPLEMENTED",
        "UNSUPPORTED",
        "config.top_k",
    )
    assert error.report is not None
    assert [attempt.http_status for attempt in error.report.attempts] == [404]
    for model, options in {
        "openrouter_a/none": {"top_k": 3},  # there is no such model
        MODEL: {"seed": 1},  # honoured, so the 404 has another cause
    }.items():
        assert (await fail(llm, False, model, **options)).reason == "MODEL_NOT_FOUND"


@pytest.mark.parametrize(
    "name",
    [
        *("model", "messages", "prompt", "stream", "stream_options", "n", "usage", "session_id"),
        *("response_format", "api_key", "base_url", "extra_headers", "extra_body"),
        *("temperature", "max_tokens", "max_completion_tokens", "stop", "top_logprobs"),
    ],
)
async def test_options_cannot_set_a_reserved_field(
    llm: AsyncClient, upstream: OpenRouterUpstream, name: str
) -> None:
    error = await fail(llm, False, MODEL, provider_options={name: "other"})
    assert (error.reason, error.field) == ("INVALID_REQUEST", "provider_options_json")
    assert f"provider_options.{name}" in error.message
    assert not upstream.history


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"models": ["openai/gpt-5"]}, "models"),
        ({"models": ["a/schema", "openai/gpt-5"]}, "models"),
        ({"models": "a/schema"}, "models"),
        ({"models": [1]}, "models"),
        ({"preset": "mine"}, "preset"),
        ({"models": ["a/schema"]}, None),
    ],
)
async def test_options_cannot_name_an_unlisted_model_where_only_listed_ones_are_allowed(
    start: Start, upstream: OpenRouterUpstream, options: dict[str, object], field: str | None
) -> None:
    async with start(allow_unlisted=False) as llm:
        if field is None:
            await llm.generate(MODEL, "hi", provider_options=options)
            return
        with pytest.raises(ArenaError) as caught:
            await llm.generate(MODEL, "hi", provider_options=options)
    assert caught.value.code == "INVALID_ARGUMENT"
    assert caught.value.field == "provider_options_json"
    assert not upstream.history


async def test_the_error_says_what_the_models_provider_said(
    llm: AsyncClient, upstream: OpenRouterUpstream
) -> None:
    metadata = {"provider_name": "One", "raw": {"detail": "x" * 10_000}, "reasons": ["violence"]}
    upstream.enqueue(Fault(403, message="Provider\nreturned error", error={"metadata": metadata}))
    error = await fail(llm, False, MODEL)
    assert error.metadata["provider"] == "One"
    assert error.message.startswith("openrouter: Provider returned error: xxx")
    assert len(error.message) <= 500


@STREAMED
async def test_costs(llm: AsyncClient, upstream: OpenRouterUpstream, streamed: bool) -> None:
    for name, (cost, dollars) in answers.COSTS.items():
        upstream.default = Odd("ok", top={"usage": {"cost": cost}}).fault(streamed)
        reply = await ask(llm, MODEL, streamed)
        expected = None if dollars is None else Decimal(dollars)
        assert (reply.text, reply.usage.cost_usd) == ("ok", expected), name


BYOK = {"cost_details": {"upstream_inference_cost": 0.19}}
#: Usage, and the cost: with the caller's own key at the provider, fee and provider together.
COSTS_BESIDE: dict[str, tuple[dict[str, Any], str | None]] = {
    "own key": ({"cost": 0.0095, "is_byok": True, **BYOK}, "0.1995"),
    "an older answer": ({"cost": 0.0095, **BYOK}, "0.1995"),
    "no fee": ({"is_byok": True, **BYOK}, "0.19"),
    "OpenRouter's key": ({"cost": 0.2, "is_byok": False, **BYOK}, "0.2"),
    "nothing beside": ({"cost": 0.2, "cost_details": {"upstream_inference_cost": None}}, "0.2"),
    "unreadable": ({"cost": 0.2, "cost_details": {"upstream_inference_cost": "much"}}, None),
    "no details": ({"cost": 0.2, "cost_details": [1]}, "0.2"),
}


@pytest.mark.parametrize("name", COSTS_BESIDE)
async def test_what_the_provider_takes_beside_the_fee(
    llm: AsyncClient, upstream: OpenRouterUpstream, name: str
) -> None:
    usage, dollars = COSTS_BESIDE[name]
    upstream.default = Odd("ok", top={"usage": usage}).fault(False)
    reply = await llm.generate(MODEL, "hi")
    assert reply.usage.cost_usd == (None if dollars is None else Decimal(dollars))


async def test_routing(llm: AsyncClient, upstream: OpenRouterUpstream) -> None:
    routing = ProviderRouting(("one", "two"), allow_fallbacks=False, precisions=("bf16", "fp8"))
    reply = await llm.generate(MODEL, "hi", routing=routing)
    assert upstream.history[0].body["provider"] == {
        "order": ["one", "two"],
        "only": ["one", "two"],
        "allow_fallbacks": False,
        "quantizations": ["bf16", "fp8"],
    }
    assert reply.served_by.provider == reply.attempts[0].provider == "One"
    options = {"provider": {"order": ["three"]}}
    with pytest.raises(ArenaError) as caught:
        await llm.generate(MODEL, "hi", routing=routing, provider_options=options)
    assert caught.value.field == "provider_options_json"


@pytest.mark.parametrize(
    ("option", "value"),
    [("min_p", 0.1), ("repetition_penalty", 1.2), ("logit_bias", {7: -1.5})],
)
async def test_further_sampling_parameters(
    llm: AsyncClient, upstream: OpenRouterUpstream, option: str, value: object
) -> None:
    await llm.generate(MODEL, "hi", **{option: value})  # type: ignore[arg-type]
    body = upstream.history[0].body
    assert body[option] == ({"7": -1.5} if option == "logit_bias" else value)
    assert body["provider"] == {"require_parameters": True}


async def test_tools_are_required_of_the_provider(
    llm: AsyncClient, upstream: OpenRouterUpstream
) -> None:
    await llm.generate(MODEL, "hi", tools=[Tool("move")])
    assert upstream.history[0].body["provider"] == {"require_parameters": True}


async def test_a_level_that_the_catalogue_does_not_list(
    llm: AsyncClient, upstream: OpenRouterUpstream
) -> None:
    reasoning = {"supported_efforts": ["low", "high"]}
    upstream.models.append(listing("a/thinker", reasoning=reasoning))
    await llm.generate("openrouter_a/thinker", "hi", reasoning_effort="low")
    error = await fail(llm, False, "openrouter_a/thinker", reasoning_effort="minimal")
    assert (error.reason, error.field) == ("UNSUPPORTED", "reasoning.effort")
    assert "low, high" in error.message
    error = await fail(llm, False, "openrouter_openai/o4-mini", reasoning_effort="xhigh")
    assert (error.reason, error.field) == ("UNSUPPORTED", "reasoning.effort")


@STREAMED
async def test_who_answered(llm: AsyncClient, upstream: OpenRouterUpstream, streamed: bool) -> None:
    choice = {"native_finish_reason": "end_turn"}
    upstream.default = Reply(fields={"choice": choice, "system_fingerprint": "fp_1"})
    reply = await ask(llm, MODEL, streamed)
    assert reply.served_by.provider == "One"
    assert reply.served_by.system_fingerprint == "fp_1"
    assert (reply.finish_reason, reply.native_finish_reason) == ("stop", "end_turn")


async def test_cache_hints(llm: AsyncClient, upstream: OpenRouterUpstream) -> None:
    """At most four are sent: the last ones."""
    parts = [Text(f"{n}", cache=CacheHint(600 * (n % 2))) for n in range(6)]
    await llm.generate(MODEL, messages=[Message("user", parts)])
    content = upstream.history[0].body["messages"][0]["content"]
    hints = [part.get("cache_control") for part in content]
    short, long = {"type": "ephemeral"}, {"type": "ephemeral", "ttl": "1h"}
    assert hints == [None, None, short, long, short, long]
