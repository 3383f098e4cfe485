"""Key, credits, catalogue: what IsAvailable and ListModels say."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from arena_llm import AsyncClient, Price
from tests.support.upstreams.openrouter import OpenRouterUpstream, listing
from tests.unit.openrouter.conftest import Start

MODEL = "openrouter_a/plain"


def key(limit: float | None) -> tuple[int, Any]:
    return 200, {"data": {"limit_remaining": limit, "usage": 1.5, "is_free_tier": False}}


def account(total: float, used: float) -> tuple[int, Any]:
    return 200, {"data": {"total_credits": total, "total_usage": used}}


NOT_FOR_THIS_KEY = (403, {"error": {"code": 403, "message": "Only management keys can"}})

LOW = "Low balance: $0.99 left on OpenRouter"
SOON = "Balance warning: $4.99 left on OpenRouter"

MONEY = [
    # /key, /credits, available, warnings, balance, limit
    (key(None), NOT_FOR_THIS_KEY, True, [], None, None),
    (key(5), NOT_FOR_THIS_KEY, True, [], None, 5),
    (key(4.99), NOT_FOR_THIS_KEY, True, [SOON], None, 4.99),
    (key(1), NOT_FOR_THIS_KEY, True, ["Balance warning: $1.00 left on OpenRouter"], None, 1),
    (key(0.99), NOT_FOR_THIS_KEY, True, [LOW], None, 0.99),
    (key(None), account(10.1, 10), True, ["Low balance: $0.10 left on OpenRouter"], 0.1, None),
    (key(100), account(20, 15.01), True, [SOON], 4.99, 100),
    (key(0.99), account(20, 5), True, [LOW], 15, 0.99),
    (key(0), account(20, 5), False, ["Low balance: $0.00 left on OpenRouter"], 15, 0),
    (key(None), account(5, 5), False, ["Low balance: $0.00 left on OpenRouter"], 0, None),
    (key(None), account(5, 7), False, ["Low balance: $-2.00 left on OpenRouter"], -2, None),
]


@pytest.mark.parametrize(("told", "money", "available", "warnings", "balance", "limit"), MONEY)
async def test_credits(
    llm: AsyncClient,
    upstream: OpenRouterUpstream,
    told: tuple[int, Any],
    money: tuple[int, Any],
    available: bool,
    warnings: list[str],
    balance: float | None,
    limit: float | None,
) -> None:
    upstream.key, upstream.credits = told, money
    answer = await llm.is_available(MODEL)
    assert answer.available is available
    assert answer.reason == ("" if available else "INSUFFICIENT_CREDITS")
    assert list(answer.warnings) == warnings
    assert answer.credits is not None
    assert answer.credits.balance_usd == balance
    assert answer.credits.limit_remaining_usd == limit


@pytest.mark.parametrize(
    ("used", "available", "may"), [(4, True, False), (5, False, True), (7, False, False)]
)
async def test_a_free_model_wants_a_balance_above_zero_too(
    llm: AsyncClient, upstream: OpenRouterUpstream, used: float, available: bool, may: bool
) -> None:
    """A debt stops free models for certain; at zero they may answer, and the detail says so."""
    upstream.credits = account(5, used)
    free = await llm.is_available("openrouter_a/gift:free")
    priced = await llm.is_available(MODEL)
    assert free.available is priced.available is available
    assert free.reason == priced.reason == ("" if available else "INSUFFICIENT_CREDITS")
    assert ("free model may still answer" in free.detail) is may
    assert "free model" not in priced.detail
    assert (free.price, priced.price) == (Price(0, 0), Price(1.5e-7, 6e-7))


async def test_one_request_however_many_ask(llm: AsyncClient, upstream: OpenRouterUpstream) -> None:
    models = [MODEL, "openrouter_a/schema", "openrouter_a/none"]
    await asyncio.gather(*(llm.is_available(models[n % 3]) for n in range(60)))
    # Two pages of models.
    assert sorted(upstream.asked) == ["/credits", "/key", "/models", "/models"]


async def test_credits_are_asked_for_again_after_a_while(
    start: Start, upstream: OpenRouterUpstream
) -> None:
    async with start(credits_seconds=0.001) as llm:
        await llm.is_available(MODEL)
        upstream.key = key(0.5)
        async with asyncio.timeout(20):
            while not (await llm.is_available(MODEL)).warnings:
                pass


async def test_without_a_key(start: Start, upstream: OpenRouterUpstream) -> None:
    async with start(key="") as llm:
        answer = await llm.is_available(MODEL)
        assert (answer.available, answer.reason) == (False, "API_KEY_MISSING")
        assert "OPENROUTER_API_KEY" in answer.detail
        assert [model.name for model in await llm.list_models()] == ["openrouter_a/schema", MODEL]
    assert not upstream.asked


@pytest.mark.parametrize(
    ("status", "reason", "state"),
    [
        (401, "API_KEY_REJECTED", "misconfigured"),
        (500, "UPSTREAM_UNAVAILABLE", "unknown"),
        (429, "RATE_LIMITED", "unknown"),
    ],
)
async def test_a_key_that_openrouter_does_not_answer(
    llm: AsyncClient, upstream: OpenRouterUpstream, status: int, reason: str, state: str
) -> None:
    upstream.key = status, {"error": {"code": status, "message": "no"}}
    answer = await llm.is_available(MODEL)
    assert (answer.available, answer.reason, answer.state) == (False, reason, state)
    assert answer.detail


async def test_a_provider_that_never_answers_is_not_waited_for(
    llm: AsyncClient, upstream: OpenRouterUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.openrouter.availability._WAIT", 0.05)
    upstream.key_hangs = True
    answer = await llm.is_available(MODEL)
    assert (answer.available, answer.state) == (False, "unknown")


async def test_a_server_without_credits_can_stand_in(
    llm: AsyncClient, upstream: OpenRouterUpstream
) -> None:
    gone = 404, {"error": {"message": "no such path"}}
    upstream.key = upstream.credits = gone
    upstream.models = [{"id": "mine", "object": "model", "owned_by": "me"}] * 2
    answer = await llm.is_available("openrouter_mine")
    assert answer.available
    assert "not told" in answer.detail


@pytest.mark.parametrize(
    ("slug", "known"),
    [
        ("a/plain", True),
        ("a/plain-2026", True),
        ("a/plain:nitro", True),
        ("a/gift:free", True),
        ("a/plain:free", False),
        ("a/plane", False),
    ],
)
async def test_a_model_that_openrouter_does_not_list(
    llm: AsyncClient, slug: str, known: bool
) -> None:
    answer = await llm.is_available(f"openrouter_{slug}")
    assert answer.available is known
    assert answer.reason == ("" if known else "MODEL_NOT_FOUND")
    if not known:
        assert "did you mean" in answer.detail
        assert "a/plain" in answer.detail


async def test_a_model_tells_its_price_whether_it_is_listed_or_not(
    llm: AsyncClient, upstream: OpenRouterUpstream
) -> None:
    upstream.models.append(listing("b/unlisted", pricing={"prompt": "0.5", "completion": "2"}))
    assert (await llm.is_available("openrouter_b/unlisted")).price == Price(0.5, 2.0)


async def test_models_are_described(llm: AsyncClient, upstream: OpenRouterUpstream) -> None:
    upstream.models.append(listing("b/auto", pricing={"prompt": "-1", "completion": "-1"}))
    schema, plain = await llm.list_models()
    assert schema.description == "Name of a/schema"
    assert schema.context_length == 8192
    assert schema.price is not None
    assert (schema.price.prompt_usd, schema.price.completion_usd) == (1.5e-7, 6e-7)
    assert set(schema.capabilities) == {"chat", "choices", "json_schema", "logprobs", "seed"}
    assert set(plain.capabilities) == {"chat", "choices", "logprobs", "seed"}


async def test_models_are_listed_without_the_provider(
    llm: AsyncClient, upstream: OpenRouterUpstream
) -> None:
    upstream.models_status = 500
    schema, _ = await llm.list_models()
    assert (schema.name, schema.context_length) == ("openrouter_a/schema", None)
