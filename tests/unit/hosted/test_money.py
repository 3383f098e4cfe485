"""What calls cost: each request to a provider has a known cost, or is known to be unknown."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from copy import deepcopy
from typing import Any

import pytest

from arena_llm import ArenaError, AsyncClient, Message
from arena_llm.types import CacheHint, Text, Usage, to_picousd
from tests.support.providers import PROVIDERS
from tests.support.upstreams import anthropic, gemini, openai
from tests.support.upstreams.openrouter import COST
from tests.support.upstreams.server import Fault, Reply
from tests.support.waiting import eventually
from tests.unit.hosted.conftest import LITELLM, STREAMED, Provider, Start, fail, read_stream

OPENROUTER = pytest.mark.parametrize("provider", ["openrouter"], indirect=True)

#: How one attempt fails, what it cost (None: unknown), and whether only a whole answer can.
FAILURES = {
    "429": (Fault(429, headers={"Retry-After": "0"}), 0, False),
    "500": (Fault(500), 0, False),
    "an error in a 200": (Fault(200), 0, False),
    "a gateway that gave up": (Fault(504), None, False),
    "a reset": (Fault(reset=True), None, False),
    "a cut answer": (Fault(truncate=True), None, True),
    "a reset in the answer": (Fault(truncate=True, reset=True), None, True),
}


@pytest.mark.parametrize("failure", FAILURES)
async def test_what_a_failed_attempt_cost(
    llm: AsyncClient, upstream: Any, provider: Provider, failure: str
) -> None:
    fault, cost, _ = FAILURES[failure]
    upstream.enqueue(fault, Reply("ok"))
    reply = await llm.generate(provider.model, "hi")
    first, last = reply.attempts
    assert (first.cost_picousd, first.reason != "") == (cost, True)
    assert last.cost_picousd > 0
    # The cost of the call is that of all attempts, so it is unknown if one of them is.
    assert reply.usage.cost_picousd == (None if cost is None else last.cost_picousd)
    assert reply.usage.prompt_tokens == 12


@STREAMED
@pytest.mark.parametrize("failure", [n for n, (_, _, whole) in FAILURES.items() if not whole])
async def test_what_a_failed_call_cost(
    start: Start, upstream: Any, provider: Provider, streamed: bool, failure: str
) -> None:
    fault, cost, _ = FAILURES[failure]
    upstream.default = fault
    async with start(max_attempts=2, max_retry_after_seconds=0.001) as llm:
        error = await fail(llm, streamed, provider.model, timeout=5)
    assert error.report.attempts
    assert {attempt.cost_picousd for attempt in error.report.attempts} == {cost}
    assert error.report.usage.cost_picousd == cost
    assert error.metadata["cost_usd"] == ("unknown" if cost is None else "0")


#: 10^-12 dollars of a token of the prompt, a cached one that is written for an hour, and one of the
#: reply, by the lists of the fakes and of litellm.
_PRICES = {
    "openrouter": (150_000, 150_000, 600_000),
    "openai": (150_000, 150_000, 600_000),
    "anthropic": (3_000_000, 6_000_000, 15_000_000),
    "gemini": (300_000, 300_000, 2_500_000),
}


@pytest.mark.parametrize("words", ["hi", "a word " * 1000], ids=["short", "long"])
async def test_an_unknown_cost_has_an_upper_bound(
    start: Start, upstream: Any, provider: Provider, words: str
) -> None:
    """It is the price of max_tokens, and of a prompt whose tokens are bytes."""
    prompt, written, completion = next(
        price for name, price in _PRICES.items() if provider is PROVIDERS[name]
    )
    async with start(max_attempts=2) as llm:
        upstream.enqueue(Fault(504), Reply("ok"), Fault(504), Fault(reset=True))
        reply = await llm.generate(provider.model, words, max_tokens=50)
        with pytest.raises(ArenaError) as caught:
            await llm.generate(provider.model, words, max_tokens=50)
    lost, answered = reply.attempts
    assert answered.max_cost_picousd is None, "its cost is known"
    size = len(words)
    assert size * prompt < lost.max_cost_picousd - 50 * completion < (size + 1200) * written
    error = caught.value
    bounds = [attempt.max_cost_picousd for attempt in error.report.attempts]
    assert bounds == [lost.max_cost_picousd] * 2
    assert to_picousd(error.metadata["max_cost_usd"]) == sum(bounds)


@OPENROUTER
@pytest.mark.parametrize(
    ("model", "options", "known"),
    [
        ("openrouter_a/plain", {"provider_options": {"provider": {"sort": "price"}}}, True),
        ("openrouter_a/plain", {"provider_options": {"plugins": [{"id": "web"}]}}, False),
        ("openrouter_a/plain:online", {}, False),
        ("openrouter_not/listed", {}, False),
        ("openrouter_a/gift:free", {}, True),
    ],
)
async def test_a_bound_is_known_or_unknown(
    start: Start, upstream: Any, model: str, options: dict[str, Any], known: bool
) -> None:
    """Web search and other options can cost more than tokens."""
    upstream.default = Fault(504)
    async with start(max_attempts=1) as llm:
        error = await fail(llm, False, model, max_tokens=5, **options)
    (attempt,) = error.report.attempts
    assert (attempt.max_cost_picousd is not None) is known
    assert ("max_cost_usd" in error.metadata) is known


async def test_a_provider_that_was_not_reached_bills_nothing(
    start: Start, provider: Provider
) -> None:
    async with start(url="http://127.0.0.1:9/api/v1", max_attempts=2) as llm:
        error = await fail(llm, False, provider.model)
    assert [attempt.cost_picousd for attempt in error.report.attempts] == [0, 0]


async def test_a_stream_that_breaks_off_has_an_unknown_cost_and_its_id(
    llm: AsyncClient, upstream: Any, provider: Provider
) -> None:
    upstream.enqueue(Fault(after=("a", "b"), reset=True))
    error = await fail(llm, True, provider.model)
    (attempt,) = error.report.attempts
    assert (attempt.cost_picousd, error.metadata["cost_usd"]) == (None, "unknown")
    if provider.service == "openrouter":
        assert attempt.upstream_id == provider.answer_id


async def test_the_first_ask_of_a_constrained_reply_costs_too(
    start: Start, upstream: Any, provider: Provider
) -> None:
    async with start({"structured_output": False}, max_attempts=1) as llm:
        upstream.enqueue(Reply("neither"), Fault(500))
        error = await fail(llm, False, provider.model, choices=["a", "b"])
        upstream.enqueue(Reply("neither"), Fault(reset=True))
        unclear = await fail(llm, False, provider.model, choices=["a", "b"])
    paid, refused = error.report.attempts
    assert paid.cost_picousd == error.report.usage.cost_picousd > 0
    assert refused.cost_picousd == 0
    assert error.report.usage.prompt_tokens == 12
    assert float(error.metadata["cost_usd"]) == paid.cost_picousd / 1e12
    assert unclear.report.usage.cost_picousd is None
    assert [attempt.cost_picousd for attempt in unclear.report.attempts] == [
        paid.cost_picousd,
        None,
    ]


async def test_each_request_has_an_id_that_begins_with_the_calls(
    llm: AsyncClient, upstream: Any, provider: Provider
) -> None:
    upstream.enqueue(Fault(500), Reply("ok"))
    await llm.generate(provider.model, "hi", request_id="mine-1")
    headers = [{k.lower(): v for k, v in sent.headers.items()} for sent in upstream.history]
    ids = [sent["x-client-request-id"] for sent in headers]
    assert len(set(ids)) == 2
    assert all(value.startswith("mine-1-") for value in ids)


async def test_a_cancelled_stream_is_on_the_next_bill_of_its_request_id(
    start: Start, upstream: Any, provider: Provider
) -> None:
    hold = asyncio.Event()
    upstream.enqueue(Reply("abc", hold=hold, held=2), Reply("ok"))
    async with start(request_id_seconds=300) as llm:
        async with aclosing(llm.stream(provider.model, "hi", request_id="mine-2")) as stream:
            assert await anext(stream)
        await eventually(upstream.history[0].dropped.is_set)
        hold.set()
        reply = await llm.generate(provider.model, "hi", request_id="mine-2")
    lost, answered = reply.attempts
    assert (lost.reason, lost.cost_picousd, answered.reason) == ("INTERRUPTED", None, "")
    assert reply.usage.cost_picousd is None


@OPENROUTER
async def test_openrouter_says_later_what_a_lost_answer_cost(
    llm: AsyncClient, upstream: Any, provider: Provider
) -> None:
    """By the id of the generation, some moments after its end."""
    upstream.generations["gen-1"] = {"total_cost": "0.25"}
    upstream.generations_after = 2  # questions
    upstream.enqueue(Fault(after=("a", "b"), reset=True))
    error = await fail(llm, True, provider.model)
    (attempt,) = error.report.attempts
    assert attempt.cost_picousd == error.report.usage.cost_picousd == to_picousd("0.25")
    assert error.metadata["cost_usd"] == "0.25"


@OPENROUTER
async def test_a_killed_service_loses_no_cost(
    start: Start, upstream: Any, provider: Provider, tmp_path: Any
) -> None:
    """Another service finds the journal, and the next call with the request_id reports it."""
    lines = [
        {"sent": "a1", "request_id": "mine-3", "model": provider.model, "time": 1},
        {"ended": "a1", "request_id": "mine-3", "cost_picousd": 7, "id": "gen-7"},
        {"sent": "a2", "request_id": "mine-3", "model": provider.model, "time": 2},
        {"sent": "a3", "request_id": "mine-4", "model": provider.model, "time": 3, "id": "gen-8"},
    ]
    upstream.generations["gen-8"] = {
        "total_cost": 0.5,
        "upstream_inference_cost": 1,
        "is_byok": True,
    }
    (tmp_path / "openrouter-0.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    async with start(journal=str(tmp_path)) as llm:
        reply = await llm.generate(provider.model, "hi", request_id="mine-3")
        upstream.enqueue(Fault(400))
        with pytest.raises(ArenaError) as caught:
            await llm.generate(provider.model, "hi", request_id="mine-4")
    known, unknown, answered = reply.attempts
    assert (known.cost_picousd, known.reason, known.upstream_id) == (7, "INTERRUPTED", "gen-7")
    assert (unknown.cost_picousd, answered.cost_picousd) == (None, to_picousd(COST))
    # What it cost is found out by its id: OpenRouter's fee, and what the provider takes.
    assert caught.value.report.usage.cost_picousd == to_picousd(1.5)


#: Usage that cannot be right, in each provider's format: what is sent, and what stays known.
_ODD = {
    "a negative prompt": ("prompt", -7, "prompt_tokens"),
    "an absurd completion": ("completion", 10**18, "completion_tokens"),
    "half a token": ("prompt", 0.5, "prompt_tokens"),
    "negative cached tokens": ("cached", -4, "cached_tokens"),
}
_NAMES = {
    "openai": {
        "prompt": ("prompt_tokens",),
        "completion": ("completion_tokens",),
        "cached": ("prompt_tokens_details", "cached_tokens"),
    },
    "anthropic": {
        "prompt": ("input_tokens",),
        "completion": ("output_tokens",),
        "cached": ("cache_read_input_tokens",),
    },
    "gemini": {
        "prompt": ("promptTokenCount",),
        "completion": ("candidatesTokenCount",),
        "cached": ("cachedContentTokenCount",),
    },
}


@LITELLM
@pytest.mark.parametrize("odd", _ODD)
async def test_an_impossible_count_is_unknown_and_logged(
    llm: AsyncClient,
    upstream: Any,
    provider: Provider,
    odd: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    kind, value, field = _ODD[odd]
    format = provider.model.removeprefix("litellm_").partition("/")[0]
    usage = deepcopy({"openai": openai, "anthropic": anthropic, "gemini": gemini}[format].USAGE)
    *path, name = _NAMES[format][kind]
    place = usage
    for key in path:
        place = place[key]
    place[name] = value
    upstream.enqueue(
        Reply("ok", fields={"usageMetadata" if format == "gemini" else "usage": usage})
    )
    reply = await llm.generate(provider.model, "hi")
    assert getattr(reply.usage, field) is None
    assert reply.usage.cost_picousd is None
    said = capsys.readouterr()
    assert "usage cannot be read" in said.out + said.err
    assert name in said.out + said.err


@pytest.mark.parametrize("provider", ["anthropic"], indirect=True)
async def test_a_prompt_cache_is_counted_and_has_its_own_price(
    llm: AsyncClient, upstream: Any, provider: Provider
) -> None:
    """Reading is cheap; writing for an hour costs more than for five minutes."""
    written = {"ephemeral_5m_input_tokens": 6, "ephemeral_1h_input_tokens": 10}
    usage = {
        "input_tokens": 8,
        "cache_read_input_tokens": 4,
        "cache_creation_input_tokens": 16,
        "cache_creation": written,
        "output_tokens": 5,
    }
    upstream.enqueue(Reply("ok", fields={"usage": usage}))
    message = Message("user", (Text("long", cache=CacheHint(3600)), Text("hi")))
    reply = await llm.generate(provider.model, messages=[message], timeout=100)
    (request,) = upstream.history
    assert "cache_control" in str(request.body)
    used = reply.usage
    assert (used.prompt_tokens, used.cached_tokens, used.cache_write_tokens) == (28, 4, 16)
    # In 10^-12 dollars for a token.
    cost = 8 * 3_000_000 + 4 * 300_000 + 6 * 3_750_000 + 10 * 6_000_000 + 5 * 15_000_000
    assert used.cost_picousd == cost


@OPENROUTER
async def test_openrouters_prompt_cache_is_counted(
    llm: AsyncClient, upstream: Any, provider: Provider
) -> None:
    details = {"cached_tokens": 4, "cache_write_tokens": 6}
    usage = {"prompt_tokens": 18, "completion_tokens": 5, "prompt_tokens_details": details}
    upstream.enqueue(Reply("ok", fields={"usage": {**usage, "cost": 0.5}}))
    used = (await llm.generate(provider.model, "hi")).usage
    assert (used.prompt_tokens, used.cached_tokens, used.cache_write_tokens) == (18, 4, 6)
    assert used.cost_picousd == to_picousd(0.5)


@pytest.mark.parametrize("sent", [None, {}, "none", []], ids=["null", "empty", "text", "a list"])
async def test_what_a_provider_does_not_report_is_unknown(
    llm: AsyncClient, upstream: Any, provider: Provider, sent: Any
) -> None:
    """LiteLLM would count the tokens itself, or write 0."""
    name = "usageMetadata" if "gemini" in provider.model else "usage"
    upstream.enqueue(Reply("ok", fields={name: sent}))
    reply = await llm.generate(provider.model, "hi")
    assert (reply.text, reply.usage) == ("ok", Usage())
    assert [attempt.cost_picousd for attempt in reply.attempts] == [None]


@OPENROUTER
@pytest.mark.parametrize("cost", [-0.25, 1e300, float("nan"), "free", True, [1]], ids=str)
@STREAMED
async def test_an_impossible_cost_is_unknown_and_logged(
    llm: AsyncClient,
    upstream: Any,
    provider: Provider,
    streamed: bool,
    cost: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    usage = {"prompt_tokens": 12, "completion_tokens": 5, "cost": cost}
    upstream.enqueue(Reply("ok", fields={"usage": usage}))
    if streamed:
        _, reply = await read_stream(llm.stream(provider.model, "hi"))
    else:
        reply = await llm.generate(provider.model, "hi")
    assert (reply.usage.cost_picousd, reply.usage.cost_basis) == (None, None)
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (12, 5)
    assert "usage cannot be read" in "".join(capsys.readouterr())


def running_calls() -> int:
    """The calls of services in this process that run, with or without callers."""
    return sum("SharedCalls._run" in str(task.get_coro()) for task in asyncio.all_tasks())


async def test_a_failure_that_its_caller_did_not_hear_is_on_the_bill(
    start: Start, upstream: Any, provider: Provider
) -> None:
    """The call runs to its end without its caller, because its provider bills it anyway."""
    settings = {"max_attempts": 1, "first_byte_seconds": 0.2, "request_id_seconds": 60}
    async with start(**settings) as llm:
        await llm.generate(provider.model, "hi")  # litellm is imported
        upstream.history.clear()
        upstream.enqueue(Fault(hang=True))
        asked = {"request_id": "r-1", "max_tokens": 50}
        call = asyncio.create_task(llm.generate(provider.model, "hi", **asked))
        await eventually(lambda: upstream.history)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        await eventually(lambda: not running_calls())
        reply = await llm.generate(provider.model, "hi", **asked)
    lost, answered = reply.attempts
    assert (lost.cost_picousd, lost.reason, answered.reason) == (None, "INTERRUPTED", "")
    assert lost.max_cost_picousd
