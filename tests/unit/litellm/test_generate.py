"""What goes out to three providers and what comes back, unary and streamed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from arena_llm import ArenaError, AsyncClient, Message
from tests.support.upstreams.server import Reply
from tests.unit.litellm.conftest import OPENAI, PROVIDERS, Provider, Start, call, drained, failed

ALL = pytest.mark.parametrize("provider", PROVIDERS, indirect=True)
MODEL = OPENAI.model

#: What the fakes' usage costs by litellm's price map, in US dollars: 8 tokens of the
#: prompt, 4 from the cache, 5 of the completion.
COST = {
    "litellm_openai/gpt-4o-mini": 8 * 0.15e-6 + 4 * 0.075e-6 + 5 * 0.6e-6,
    "litellm_anthropic/claude-sonnet-4-5": 8 * 3e-6 + 4 * 0.3e-6 + 5 * 15e-6,
    "litellm_gemini/gemini-2.5-flash": 8 * 0.3e-6 + 4 * 0.03e-6 + 5 * 2.5e-6,
}

_TOP = [{"token": "ok", "logprob": -0.1}, {"token": "no", "logprob": -2.5}]
_TOKEN = {"token": "ok", "logprob": -0.1, "bytes": None, "top_logprobs": _TOP}
LOGPROBS = Reply(fields={"choice": {"logprobs": {"content": [_TOKEN], "refusal": None}}})


async def test_every_field_of_the_request_goes_out(start: Start, upstream: Any) -> None:
    upstream.enqueue(LOGPROBS)
    async with start({"allow_options": ["something_new"]}) as llm:
        await llm.generate(
            MODEL,
            messages=[Message("system", "Be brief."), Message("user", "Your move?")],
            temperature=0.1,
            top_p=0.9,
            max_tokens=64,
            seed=7,
            stop=["\n"],
            presence_penalty=0.5,
            frequency_penalty=-0.5,
            logprobs=2,
            session="game-1",
            labels={"player": "x"},
            provider_options={"service_tier": "flex", "something_new": {"deep": 1}},
        )
    (call,) = upstream.history
    assert call.body == {
        "model": "gpt-4o-mini",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Your move?"},
        ],
        "temperature": 0.1,
        "top_p": 0.9,
        "max_tokens": 64,
        "seed": 7,
        "stop": ["\n"],
        "presence_penalty": 0.5,
        "frequency_penalty": -0.5,
        "logprobs": True,
        "top_logprobs": 2,
        "service_tier": "flex",
        "something_new": {"deep": 1},
    }


@pytest.mark.parametrize("streamed", [False, True], ids=["unary", "streamed"])
@ALL
async def test_an_answer(
    llm: AsyncClient, upstream: Any, provider: Provider, streamed: bool
) -> None:
    upstream.enqueue(Reply("grüße", reasoning="because"))
    if streamed:
        texts, reply = await drained(llm.stream(provider.model, "hi", max_tokens=9))
        assert texts == list("grüße")
    else:
        reply = await llm.generate(provider.model, "hi", max_tokens=9)
    assert (reply.text, reply.reasoning) == ("grüße", "because")
    assert reply.finish_reason == "stop"
    assert (reply.model, reply.backend, reply.attempts) == (provider.model, "litellm", 1)
    assert reply.id
    usage = reply.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens) == (12, 5, 4)
    assert usage.reasoning_tokens > 0
    assert usage.cost_usd == pytest.approx(COST[provider.model], rel=1e-9)
    assert reply.timings.total_seconds >= reply.timings.first_token_seconds > 0


@pytest.mark.parametrize(
    ("provider", "fields"),
    [
        ("openai", {"choice": {"finish_reason": "length"}}),
        ("anthropic", {"stop_reason": "max_tokens"}),
        (
            "gemini",
            {"candidates": [{"content": {"parts": [{"text": ""}]}, "finishReason": "MAX_TOKENS"}]},
        ),
    ],
    indirect=["provider"],
)
async def test_a_completion_that_was_cut_short(
    llm: AsyncClient, upstream: Any, provider: Provider, fields: dict[str, Any]
) -> None:
    upstream.default = Reply("o", fields=fields)
    assert (await llm.generate(provider.model, "hi")).finish_reason == "length"
    _, whole = await drained(llm.stream(provider.model, "hi"))
    assert whole.finish_reason == "length"


async def test_log_probabilities(llm: AsyncClient, upstream: Any) -> None:
    upstream.enqueue(LOGPROBS, LOGPROBS)
    whole = await llm.generate(MODEL, "hi", logprobs=2)
    _, streamed = await drained(llm.stream(MODEL, "hi", logprobs=2))
    for reply in (whole, streamed):
        (token,) = reply.logprobs
        assert (token.token, token.logprob) == ("ok", -0.1)
        assert [(t.token, t.logprob) for t in token.top] == [("ok", -0.1), ("no", -2.5)]


@pytest.mark.parametrize("streamed", [False, True], ids=["unary", "streamed"])
async def test_log_probabilities_that_do_not_come(
    llm: AsyncClient, start: Start, streamed: bool
) -> None:
    error = await failed(llm, streamed, logprobs=2)
    assert (error.reason, error.field) == ("UNSUPPORTED", "config.logprobs")
    async with start({"drop_params": ["logprobs"]}) as careless:
        assert await call(careless, streamed, logprobs=2) == "ok"


@ALL
async def test_choices_are_asked_for_as_a_schema(
    llm: AsyncClient, upstream: Any, provider: Provider
) -> None:
    upstream.enqueue(Reply('{"choice": "4"}'), Reply('{"choice": "8"}'))
    reply = await llm.generate(provider.model, "Your move?", choices=["0", "4", "8"])
    assert reply.text == "4"
    texts, _ = await drained(llm.stream(provider.model, "Your move?", choices=["0", "4", "8"]))
    assert texts == ["8"]
    for asked in upstream.history:
        assert '"enum": ["0", "4", "8"]' in json.dumps(asked.body)


async def test_a_model_without_schemas_is_asked_in_words(start: Start, upstream: Any) -> None:
    async with start({"structured_output": False}) as llm:
        upstream.enqueue(Reply("I take four"), Reply("4"))
        reply = await llm.generate(MODEL, "Your move?", choices=["0", "4"])
        upstream.enqueue(Reply("five"), Reply("six"))
        error = await failed(llm, choices=["0", "4"])
    assert (reply.text, reply.attempts) == ("4", 2)
    assert reply.usage.cost_usd == pytest.approx(2 * COST[MODEL])
    assert (error.code, error.reason) == ("UNIMPLEMENTED", "UNSUPPORTED")
    assert all("response_format" not in call.body for call in upstream.history)


async def test_a_json_schema(llm: AsyncClient, upstream: Any) -> None:
    schema = {"type": "object", "properties": {"cell": {"type": "integer"}}}
    upstream.enqueue(Reply('{"cell": 4}'))
    assert (await llm.generate(MODEL, "hi", json_schema=schema)).text == '{"cell": 4}'
    sent = upstream.history[0].body["response_format"]
    assert sent["json_schema"]["schema"] == schema


async def test_a_cost_that_nobody_knows_is_absent(start: Start, upstream: Any) -> None:
    model = "litellm_openai/no-such-model"
    async with start({"name": model}) as llm:
        whole = await llm.generate(model, "hi")
        _, streamed = await drained(llm.stream(model, "hi"))
        (listed,) = await llm.list_models()
    assert whole.usage.prompt_tokens == streamed.usage.prompt_tokens == 12
    assert whole.usage.cost_usd is streamed.usage.cost_usd is listed.price is None


async def test_the_model_that_really_answered(llm: AsyncClient, upstream: Any) -> None:
    upstream.enqueue(Reply(fields={"model": "gpt-4o-mini-2024-07-18"}))
    reply = await llm.generate(MODEL, "hi")
    assert reply.model == "litellm_openai/gpt-4o-mini-2024-07-18"


async def test_as_many_at_once_as_the_entry_allows(start: Start, upstream: Any) -> None:
    upstream.default = Reply(delay=0.02)
    async with start({"max_concurrency": 2}) as llm:
        replies = await llm.generate_many(MODEL, ["hi"] * 8, concurrency=8)
    assert [reply.text for reply in replies] == ["ok"] * 8
    assert upstream.most_running == 2


async def test_scoring_is_for_local_models(llm: AsyncClient) -> None:
    with pytest.raises(ArenaError) as caught:
        await llm.score(MODEL, "hi", ["a"])
    assert caught.value.reason == "UNSUPPORTED"
