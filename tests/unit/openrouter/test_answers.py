"""Answers that differ from the documentation, in both dialects, whole and streamed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from arena_llm import ArenaError, AsyncClient
from tests.support.answering import ask, broken, misframed, outcome, wrong
from tests.support.upstreams import answers, frames
from tests.support.upstreams.answers import EVENTS, INSUFFICIENT, UNREADABLE, Odd, dump, stream
from tests.support.upstreams.openrouter import OpenRouterUpstream, listing
from tests.support.upstreams.server import Fault
from tests.unit.openrouter.conftest import MODEL, Start

TABLES = {
    "content": answers.CONTENT,
    "no text": answers.NO_TEXT,
    "surrogates": answers.SURROGATES,
    "unneeded fields": answers.UNNEEDED,
}
STREAMED = pytest.mark.parametrize("streamed", [False, True], ids=["unary", "streamed"])


@pytest.fixture(params=["openrouter", "openai"])
async def llm(start: Start, request: pytest.FixtureRequest) -> AsyncIterator[AsyncClient]:
    async with start(dialect=request.param) as client:
        yield client


@STREAMED
@pytest.mark.parametrize("table", TABLES)
async def test_an_odd_answer_is_read_or_refused_and_bought_once(
    llm: AsyncClient, upstream: OpenRouterUpstream, table: str, streamed: bool
) -> None:
    assert await wrong(llm, upstream, MODEL, TABLES[table], streamed) == {}


@STREAMED
@pytest.mark.parametrize("status", [200, 402])
async def test_a_402_stays_a_402_in_every_shape(
    llm: AsyncClient, upstream: OpenRouterUpstream, status: int, streamed: bool
) -> None:
    bodies = answers.ERRORS if status == 200 else answers.STATUS_ERRORS
    for name, body in bodies.items():
        upstream.history.clear()
        upstream.default = Fault(status, body=dump(body))
        assert await outcome(llm, MODEL, streamed) == INSUFFICIENT, name
        assert len(upstream.history) == 1, name


@STREAMED
async def test_counts_and_costs(
    llm: AsyncClient, upstream: OpenRouterUpstream, streamed: bool
) -> None:
    for name, (sent, tokens) in answers.COUNTS.items():
        usage = {"prompt_tokens": sent, "completion_tokens": 3}
        upstream.default = Odd("ok", top={"usage": usage}).fault(streamed)
        reply = await ask(llm, MODEL, streamed)
        assert (reply.text, reply.usage.prompt_tokens) == ("ok", tokens), name
    for name, (cost, dollars) in answers.COSTS.items():
        upstream.default = Odd("ok", top={"usage": {"cost": cost}}).fault(streamed)
        reply = await ask(llm, MODEL, streamed)
        assert (reply.text, reply.usage.cost_usd) == ("ok", dollars), name


@STREAMED
async def test_a_number_of_5000_digits(
    llm: AsyncClient, upstream: OpenRouterUpstream, streamed: bool
) -> None:
    fault = Odd("ok", top={"usage": {"prompt_tokens": "digits"}}).fault(streamed)
    assert fault.body is not None
    upstream.default = Fault(
        body=fault.body.replace(b'"digits"', b"1" * 5000), content_type=fault.content_type
    )
    assert (await ask(llm, MODEL, streamed)).usage.prompt_tokens == 0


async def test_a_whole_answer_in_place_of_a_stream(
    llm: AsyncClient, upstream: OpenRouterUpstream
) -> None:
    upstream.default = Fault(body=Odd("ok").whole())
    assert await outcome(llm, MODEL, True) == "ok"
    upstream.default = Fault(body=Odd("", message={"content": ""}).whole())
    assert await outcome(llm, MODEL, True) == UNREADABLE


@pytest.mark.parametrize("chunks", [[], [{"id": "gen-1"}], [{"choices": [], "usage": {}}]])
async def test_a_stream_without_a_choice_is_no_success(
    llm: AsyncClient, upstream: OpenRouterUpstream, chunks: list[Any]
) -> None:
    upstream.default = Fault(body=stream(*chunks), content_type=EVENTS)
    assert await outcome(llm, MODEL, True) == UNREADABLE


async def test_a_stream_that_ends_with_the_whole_message(
    llm: AsyncClient, upstream: OpenRouterUpstream
) -> None:
    whole = {"index": 0, "finish_reason": "stop", "message": {"content": "ok"}}
    pieces = [{"choices": [{"delta": {"content": piece}}]} for piece in "ok"]
    upstream.default = Fault(body=stream(*pieces, {"choices": [whole]}), content_type=EVENTS)
    assert await outcome(llm, MODEL, True) == "ok"


@STREAMED
async def test_an_empty_text_stands_where_a_stop_string_explains_it(
    llm: AsyncClient, upstream: OpenRouterUpstream, streamed: bool
) -> None:
    upstream.default = answers.NO_TEXT["tokens without a text"].fault(streamed)
    assert await outcome(llm, MODEL, streamed, stop=["\n"]) == ""


@STREAMED
async def test_log_probabilities_that_cannot_be_read(
    llm: AsyncClient, upstream: OpenRouterUpstream, streamed: bool
) -> None:
    for logprob in (float("nan"), "high", None):
        content = [{"token": "ok", "logprob": logprob}]
        upstream.default = Odd("ok", choice={"logprobs": {"content": content}}).fault(streamed)
        assert await outcome(llm, MODEL, streamed) == "ok"
        with pytest.raises(ArenaError) as caught:
            await ask(llm, MODEL, streamed, logprobs=1)
        assert (caught.value.reason, caught.value.field) == ("UNSUPPORTED", "config.logprobs")


@STREAMED
async def test_any_field_may_be_of_another_type(
    llm: AsyncClient, upstream: OpenRouterUpstream, streamed: bool
) -> None:
    assert await broken(llm, upstream, MODEL, streamed, 300, "grüße".__eq__) == {}


# --- the list of models, and credits --------------------------------------------------

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


async def test_odd_models_do_not_hide_the_others(
    start: Start, upstream: OpenRouterUpstream
) -> None:
    upstream.models = [*ODD_MODELS, listing("a/plain")]
    names = ["a/plain", "a/bare", *(m["id"] for m in ODD_MODELS[4:])]
    async with start(models=[f"openrouter_{name}" for name in names]) as llm:
        models = {model.name: model for model in await llm.list_models()}
        answer = await llm.is_available(MODEL)
    assert answer.available
    prices = {name: model.price for name, model in models.items() if model.price is not None}
    assert prices.keys() == {f"openrouter_a/{name}" for name in ("plain", "numbers", "half")}
    assert models["openrouter_a/numbers"].context_length == 8192
    assert not models["openrouter_a/huge"].context_length


@pytest.mark.parametrize(
    ("limit", "left"),
    [(20.5, 20.5), ("20.5", 20.5), (-3, -3), (float("nan"), None), ([], None), ("free", None)],
)
async def test_odd_credits_are_unknown(
    start: Start, upstream: OpenRouterUpstream, limit: Any, left: float | None
) -> None:
    upstream.key = (200, {"data": {"limit_remaining": limit}})
    upstream.credits = (200, {"data": {"total_credits": float("inf"), "total_usage": "x"}})
    async with start() as llm:
        answer = await llm.is_available(MODEL)
    assert answer.credits is not None
    assert (answer.credits.limit_remaining_usd, answer.credits.balance_usd) == (left, None)


@STREAMED
@pytest.mark.parametrize("dialect", ["openrouter", "openai"])
async def test_an_answer_in_an_unusual_frame(
    start: Start, upstream: OpenRouterUpstream, dialect: str, streamed: bool
) -> None:
    """It is read, or refused and bought once; what is no answer is asked for again."""
    rows = frames.WHOLE | {f"choices {k}": v for k, v in frames.SEVERAL_WHOLE.items()}
    if streamed:
        rows = frames.STREAMED | {f"choices {k}": v for k, v in frames.SEVERAL_STREAMED.items()}
    if dialect == "openrouter":  # its streams end with a mark
        rows.pop("no mark, no last line break", None)
    async with start(dialect=dialect, max_attempts=2) as llm:
        assert await misframed(llm, upstream, MODEL, rows, streamed) == {}


@STREAMED
async def test_a_compressed_answer_is_read(
    llm: AsyncClient, upstream: OpenRouterUpstream, streamed: bool
) -> None:
    upstream.default = frames.PACKED[streamed].fault()
    assert await outcome(llm, MODEL, streamed) == "ok"


@STREAMED
async def test_an_error_says_the_same_in_every_shape(
    llm: AsyncClient, upstream: OpenRouterUpstream, streamed: bool
) -> None:
    for name, (body, said) in frames.ERRORS.items():
        upstream.default = Fault(402, body=body)
        with pytest.raises(ArenaError) as caught:
            await ask(llm, MODEL, streamed)
        assert caught.value.message.removesuffix(" Payment Required").endswith(f": {said}"), name
