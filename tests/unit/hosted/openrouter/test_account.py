"""Credits and catalogue: the answers of IsAvailable and ListModels."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from arena_llm import AsyncClient
from arena_llm.types import Availability, FreePrice, PriceTable, PriceUnit, Rate, to_picousd
from tests.support.upstreams.openrouter import OpenRouterUpstream, listing
from tests.unit.hosted.conftest import Start
from tests.unit.hosted.openrouter.conftest import MODEL, SCHEMA


def key(limit: float | None) -> tuple[int, Any]:
    return 200, {"data": {"limit_remaining": limit, "usage": 1.5, "is_free_tier": False}}


def account(total: float, used: float) -> tuple[int, Any]:
    return 200, {"data": {"total_credits": total, "total_usage": used}}


def dollars(value: float | None) -> Decimal | None:
    return None if value is None else Decimal(str(value))


def price(answer: Availability) -> Any:
    assert answer.model is not None
    return answer.model.price


def rates(prompt: str, completion: str) -> PriceTable:
    return PriceTable(
        (
            Rate(PriceUnit.PROMPT_TOKEN, to_picousd(prompt)),
            Rate(PriceUnit.COMPLETION_TOKEN, to_picousd(completion)),
        )
    )


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
    (key(None), account(5, 7), False, ["Low balance: -$2.00 left on OpenRouter"], -2, None),
]


@pytest.mark.parametrize(
    ("key_answer", "credits_answer", "available", "warnings", "balance", "limit"), MONEY
)
async def test_credits(
    llm: AsyncClient,
    upstream: OpenRouterUpstream,
    key_answer: tuple[int, Any],
    credits_answer: tuple[int, Any],
    available: bool,
    warnings: list[str],
    balance: float | None,
    limit: float | None,
) -> None:
    upstream.key, upstream.credits = key_answer, credits_answer
    answer = await llm.is_available(MODEL)
    assert answer.available is available
    assert answer.reason == ("" if available else "INSUFFICIENT_CREDITS")
    assert list(answer.warnings) == warnings
    assert answer.credits is not None
    assert answer.credits.balance_usd == dollars(balance)
    assert answer.credits.limit_remaining_usd == dollars(limit)


@pytest.mark.parametrize(
    ("used", "available", "may"), [(4, True, False), (5, False, True), (7, False, False)]
)
async def test_a_free_model_needs_a_balance_too(
    llm: AsyncClient, upstream: OpenRouterUpstream, used: float, available: bool, may: bool
) -> None:
    """With a debt free models never answer. At zero they may, and the detail says so."""
    upstream.credits = account(5, used)
    free = await llm.is_available("openrouter_a/gift:free")
    priced = await llm.is_available(MODEL)
    assert free.available is priced.available is available
    assert free.reason == priced.reason == ("" if available else "INSUFFICIENT_CREDITS")
    assert ("free model may still answer" in free.detail) is may
    assert "free model" not in priced.detail
    assert price(free) == FreePrice()
    assert price(priced) == rates("0.00000015", "0.0000006")


async def test_concurrent_callers_share_one_request(
    llm: AsyncClient, upstream: OpenRouterUpstream
) -> None:
    models = [MODEL, SCHEMA, "openrouter_a/none"]
    await asyncio.gather(*(llm.is_available(models[n % 3]) for n in range(60)))
    # Two pages of models.
    assert sorted(upstream.asked) == ["/credits", "/key", "/models", "/models"]


async def test_credits_are_fetched_again_after_a_while(
    start: Start, upstream: OpenRouterUpstream
) -> None:
    async with start(credits_seconds=0.001) as llm:
        await llm.is_available(MODEL)
        upstream.key = key(0.5)
        async with asyncio.timeout(20):
            while not (await llm.is_available(MODEL)).warnings:
                pass


async def test_without_a_key_nothing_is_fetched(start: Start, upstream: OpenRouterUpstream) -> None:
    async with start(key="") as llm:
        assert (await llm.is_available(MODEL)).reason == "API_KEY_MISSING"
        assert [model.name for model in await llm.list_models()] == [SCHEMA, MODEL]
    assert not upstream.asked


@pytest.mark.parametrize(
    ("status", "reason", "state"),
    [
        (401, "API_KEY_REJECTED", "misconfigured"),
        (500, "UPSTREAM_UNAVAILABLE", "unknown"),
        (429, "RATE_LIMITED", "unknown"),
    ],
)
async def test_a_key_check_that_fails(
    llm: AsyncClient, upstream: OpenRouterUpstream, status: int, reason: str, state: str
) -> None:
    upstream.key = status, {"error": {"code": status, "message": "no"}}
    answer = await llm.is_available(MODEL)
    assert (answer.available, answer.reason, answer.state) == (False, reason, state)
    assert answer.detail


async def test_a_provider_that_never_answers_does_not_delay_the_check(
    llm: AsyncClient, upstream: OpenRouterUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.openrouter.account._WAIT", 0.05)
    upstream.key_hangs = True
    answer = await llm.is_available(MODEL)
    assert (answer.available, answer.state) == (False, "unknown")


async def test_a_server_without_credits(llm: AsyncClient, upstream: OpenRouterUpstream) -> None:
    gone = 404, {"error": {"message": "no such path"}}
    upstream.key = upstream.credits = gone
    upstream.models = [{"id": "mine", "object": "model", "owned_by": "me"}] * 2
    answer = await llm.is_available("openrouter_mine")
    assert answer.available
    assert "may not see its credits" in answer.detail


@pytest.mark.parametrize(
    ("slug", "known"),
    [
        ("a/plain", True),
        ("a/plain-2026", True),
        ("a/plain:nitro", True),
        ("a/plain:nitro:online", True),
        ("a/plain@preset/mine", True),
        ("a/plain:floor@preset/mine", True),
        ("@preset/mine", True),
        ("a/plane@preset/mine", False),
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


async def test_an_unlisted_model_has_a_price(
    llm: AsyncClient, upstream: OpenRouterUpstream
) -> None:
    upstream.models.append(listing("b/unlisted", pricing={"prompt": "0.5", "completion": "2"}))
    assert price(await llm.is_available("openrouter_b/unlisted")) == rates("0.5", "2")


async def test_models_are_described(llm: AsyncClient, upstream: OpenRouterUpstream) -> None:
    upstream.models.append(listing("b/auto", pricing={"prompt": "-1", "completion": "-1"}))
    schema, plain = await llm.list_models()
    assert schema.description == "Name of a/schema"
    assert schema.context_length == 8192
    assert schema.price == rates("0.00000015", "0.0000006")
    assert set(schema.capabilities) == {"chat", "choices", "json_schema", "logprobs", "seed"}
    assert set(plain.capabilities) == {"chat", "choices", "logprobs", "seed"}


async def test_models_are_listed_even_if_the_provider_fails(
    llm: AsyncClient, upstream: OpenRouterUpstream
) -> None:
    upstream.models_status = 500
    schema, _ = await llm.list_models()
    assert (schema.name, schema.context_length) == (SCHEMA, None)


# --- unusual answers -------------------------------------------------------------------

ODD_MODELS: list[Any] = [
    7,
    None,
    {"id": 7},
    {"id": "a/bare"},
    listing("a/null", pricing=None, context_length=None, name=None, supported_parameters=None),
    listing("a/numbers", pricing={"prompt": 0.5, "completion": 1}, context_length="8192"),
    listing("a/variable", pricing={"prompt": "-1", "completion": "-1"}),
    listing("a/nan", pricing={"prompt": float("nan"), "completion": "NaN"}),
    listing("a/huge", pricing={"prompt": "1e999", "completion": "0"}, context_length=10**30),
    listing("a/lists", pricing=[], context_length=[], name=[], supported_parameters={}),
    listing("a/half", name="half \ud83d", context_length=1.5, canonical_slug=7),
]


async def test_an_unreadable_model_does_not_hide_the_others(
    start: Start, upstream: OpenRouterUpstream
) -> None:
    upstream.models = [*ODD_MODELS, listing("a/plain")]
    names = ["a/plain", "a/bare", *(m["id"] for m in ODD_MODELS[4:])]
    async with start(models=[f"openrouter_{name}" for name in names]) as llm:
        models = {model.name: model for model in await llm.list_models()}
        answer = await llm.is_available(MODEL)
    assert answer.available
    known = {name for name, m in models.items() if isinstance(m.price, PriceTable)}
    assert known == {f"openrouter_a/{name}" for name in ("plain", "numbers", "half")}
    assert models["openrouter_a/numbers"].context_length == 8192
    assert not models["openrouter_a/huge"].context_length


@pytest.mark.parametrize(
    ("limit", "expected"),
    [(20.5, 20.5), ("20.5", 20.5), (-3, -3), (float("nan"), None), ([], None), ("free", None)],
)
async def test_unreadable_credits_are_unknown(
    llm: AsyncClient, upstream: OpenRouterUpstream, limit: Any, expected: float | None
) -> None:
    upstream.key = (200, {"data": {"limit_remaining": limit}})
    upstream.credits = (200, {"data": {"total_credits": float("inf"), "total_usage": "x"}})
    answer = await llm.is_available(MODEL)
    assert answer.credits is not None
    assert answer.credits.limit_remaining_usd == dollars(expected)
    assert answer.credits.balance_usd is None
