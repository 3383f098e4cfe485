"""What goes out to OpenRouter and what comes back, unary and streamed."""

from __future__ import annotations

import asyncio
import json

import pytest

from arena_llm import ArenaError, AsyncClient, Message
from arena_llm.aio import AsyncStream
from arena_llm.types import Completion
from tests.support.scripted import eventually, reaching
from tests.support.upstreams.openrouter import COST, KEY, OpenRouterUpstream
from tests.support.upstreams.server import Reply
from tests.unit.openrouter.conftest import Start, failed

MODEL = "openrouter_a/plain"


async def drained(stream: AsyncStream) -> tuple[list[str], Completion]:
    texts = [delta async for delta in stream]
    assert stream.completion is not None
    return texts, stream.completion


async def test_every_field_of_the_request_goes_out(
    llm: AsyncClient, upstream: OpenRouterUpstream
) -> None:
    await llm.generate(
        MODEL,
        messages=[Message("system", "Be brief."), Message("user", "Your move?")],
        temperature=0.1,
        top_p=0.9,
        top_k=40,
        max_tokens=64,
        seed=7,
        stop=["\n"],
        presence_penalty=0.5,
        frequency_penalty=-0.5,
        session="game-1",
        labels={"player": "x"},
        provider_options={
            "provider": {"order": ["one"]},
            "models": ["b/fallback"],
            "transforms": ["middle-out"],
            "reasoning": {"effort": "low"},
        },
    )
    (call,) = upstream.history
    assert call.body == {
        "model": "a/plain",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Your move?"},
        ],
        "temperature": 0.1,
        "top_p": 0.9,
        "top_k": 40,
        "max_tokens": 64,
        "seed": 7,
        "stop": ["\n"],
        "presence_penalty": 0.5,
        "frequency_penalty": -0.5,
        "session_id": "game-1",
        "provider": {"require_parameters": True, "order": ["one"]},
        "models": ["b/fallback"],
        "transforms": ["middle-out"],
        "reasoning": {"effort": "low"},
    }
    assert call.headers["Authorization"] == f"Bearer {KEY}"
    assert call.headers["X-Title"] == "Arena LLM"


@pytest.mark.parametrize(
    ("options", "required"),
    [
        ({}, None),
        ({"max_tokens": 5}, None),
        ({"seed": 1}, True),
        ({"logprobs": 2}, True),
        ({"json_schema": {"type": "object"}}, True),
        ({"seed": 1, "provider_options": {"provider": {"require_parameters": False}}}, False),
    ],
)
async def test_a_parameter_is_honoured_or_refused_unless_the_caller_says_otherwise(
    llm: AsyncClient, upstream: OpenRouterUpstream, options: dict[str, object], required: object
) -> None:
    token = {"token": "{}", "logprob": -0.5, "top_logprobs": []}
    upstream.enqueue(Reply("{}", fields={"choice": {"logprobs": {"content": [token]}}}))
    await llm.generate("openrouter_a/schema", "hi", **options)  # type: ignore[arg-type]
    provider = upstream.history[0].body.get("provider", {})
    assert provider.get("require_parameters") is required


@pytest.mark.parametrize(
    "name",
    [
        *("model", "messages", "prompt", "stream", "stream_options", "n", "usage", "session_id"),
        *("response_format", "api_key", "base_url", "extra_headers", "extra_body"),
        *("temperature", "max_tokens", "max_completion_tokens", "stop", "top_logprobs"),
    ],
)
async def test_options_cannot_override_what_the_request_says(
    llm: AsyncClient, upstream: OpenRouterUpstream, name: str
) -> None:
    """Whether the request says it or not."""
    with pytest.raises(ArenaError) as caught:
        await llm.generate(MODEL, "hi", provider_options={name: "other"})
    assert (caught.value.reason, caught.value.field) == (
        "INVALID_REQUEST",
        f"provider_options.{name}",
    )
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
async def test_options_name_no_unlisted_model_where_none_may_be(
    start: Start, upstream: OpenRouterUpstream, options: dict[str, object], field: str | None
) -> None:
    async with start(allow_unlisted=False) as llm:
        if field is None:
            await llm.generate(MODEL, "hi", provider_options=options)
            return
        with pytest.raises(ArenaError) as caught:
            await llm.generate(MODEL, "hi", provider_options=options)
    assert caught.value.code == "INVALID_ARGUMENT"
    assert caught.value.field == f"provider_options.{field}"
    assert not upstream.history


@pytest.mark.parametrize("streamed", [False, True])
async def test_everything_of_the_answer_comes_back(
    llm: AsyncClient, upstream: OpenRouterUpstream, streamed: bool
) -> None:
    top = [{"token": "ok", "logprob": -0.25}, {"token": "no", "logprob": -1.5}]
    logprobs = {"content": [{"token": "ok", "logprob": -0.25, "top_logprobs": top}]}
    upstream.enqueue(
        Reply(
            "grüße",
            reasoning="because",
            fields={"model": "b/fallback", "choice": {"logprobs": logprobs}},
        )
    )
    if streamed:
        texts, reply = await drained(llm.stream(MODEL, "hi", logprobs=2))
        assert texts == list("grüße")
    else:
        reply = await llm.generate(MODEL, "hi", logprobs=2)
    assert reply.text == "grüße"
    assert reply.reasoning == "because"
    assert reply.finish_reason == "stop"
    assert reply.model == "openrouter_b/fallback"
    assert (reply.backend, reply.id, reply.attempts) == ("openrouter", "gen-1", 1)
    usage = reply.usage
    assert usage.cost_usd == COST
    assert (usage.prompt_tokens, usage.completion_tokens) == (12, 5)
    assert (usage.reasoning_tokens, usage.cached_tokens) == (2, 4)
    (token,) = reply.logprobs
    assert (token.token, token.logprob) == ("ok", -0.25)
    assert [(t.token, t.logprob) for t in token.top] == [("ok", -0.25), ("no", -1.5)]
    timings = reply.timings
    assert 0 < timings.first_token_seconds <= timings.total_seconds


@pytest.mark.parametrize(
    ("told", "expected"),
    [("length", "length"), ("content_filter", "content_filter"), ("tool_calls", "unknown")],
)
async def test_finish_reasons(
    llm: AsyncClient, upstream: OpenRouterUpstream, told: str, expected: str
) -> None:
    reply = Reply("x", fields={"choice": {"finish_reason": told}})
    upstream.enqueue(reply, reply)
    assert (await llm.generate(MODEL, "hi")).finish_reason == expected
    assert (await drained(llm.stream(MODEL, "hi")))[1].finish_reason == expected


async def test_a_delta_arrives_while_the_stream_goes_on(
    llm: AsyncClient, upstream: OpenRouterUpstream
) -> None:
    gate = asyncio.Event()
    upstream.enqueue(Reply("ab", hold=gate))
    stream = llm.stream(MODEL, "hi")
    assert await anext(aiter(stream)) == "a"
    assert upstream.running == 1
    gate.set()
    assert [delta async for delta in stream] == ["b"]


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_deadline_hangs_up_on_the_provider(
    llm: AsyncClient, upstream: OpenRouterUpstream, streamed: bool
) -> None:
    upstream.default = Reply(hold=asyncio.Event())
    error = await reaching(
        lambda: upstream.history, lambda seconds: failed(llm, streamed, timeout=seconds)
    )
    assert error.code == "DEADLINE_EXCEEDED"
    await eventually(lambda: all(one.dropped.is_set() for one in upstream.history))


async def test_connections_are_used_again(llm: AsyncClient, upstream: OpenRouterUpstream) -> None:
    for _ in range(20):
        await llm.generate(MODEL, "hi")
        await drained(llm.stream(MODEL, "hi"))
    assert upstream.connections == 1


async def test_500_calls_at_once(start: Start, upstream: OpenRouterUpstream) -> None:
    gate = asyncio.Event()
    upstream.default = lambda call: Reply(call.body["messages"][0]["content"], hold=gate)
    async with start(timeout_seconds=60) as llm:
        calls = asyncio.gather(*(llm.generate(MODEL, f"{n}", timeout=60) for n in range(500)))
        await eventually(lambda: upstream.running == 500, 60)
        gate.set()
        assert [reply.text for reply in await calls] == [str(n) for n in range(500)]


async def test_a_score_is_refused(llm: AsyncClient) -> None:
    with pytest.raises(ArenaError) as caught:
        await llm.score(MODEL, "hi", ["a"])
    assert caught.value.reason == "UNSUPPORTED"


async def test_a_model_that_is_not_listed(start: Start, upstream: OpenRouterUpstream) -> None:
    async with start() as llm:
        assert (await llm.generate("openrouter_b/other", "hi")).text == "ok"
    async with start(allow_unlisted=False) as llm:
        for call in (llm.generate, lambda *args: drained(llm.stream(*args))):
            with pytest.raises(ArenaError) as caught:
                await call("openrouter_a/plane", "hi")  # type: ignore[operator]
            assert caught.value.reason == "MODEL_NOT_FOUND"
            assert "openrouter_a/plain" in str(caught.value)
    assert json.dumps([call.body["model"] for call in upstream.history]) == '["b/other"]'
