"""Requests and answers: what is sent to the provider, and what the caller gets."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping
from typing import Any

import pytest

from arena_llm import ArenaError, AsyncClient, Message
from arena_llm.types import PARAMETERS, Parameter, StopMatch, to_picousd
from services.common.hosted.request import CHAT_PARAMETERS
from tests.support.upstreams.openai import LOGPROBS
from tests.support.upstreams.openrouter import COST
from tests.support.upstreams.server import Reply
from tests.support.waiting import eventually
from tests.unit.hosted.conftest import (
    LITELLM,
    OPENAI_FORMAT,
    PROVIDERS,
    STREAMED,
    Provider,
    Start,
    call,
    fail,
    make_start,
    read_stream,
)

#: What the fakes' usage costs, in US dollars. By litellm's price map: 8 prompt tokens, 4 cached
#: ones, 5 completion tokens.
COSTS = {
    "openrouter_a/plain": COST,
    "litellm_openai/gpt-4o-mini": 8 * 0.15e-6 + 4 * 0.075e-6 + 5 * 0.6e-6,
    "litellm_anthropic/claude-sonnet-4-5": 8 * 3e-6 + 4 * 0.3e-6 + 5 * 15e-6,
    "litellm_gemini/gemini-2.5-flash": 8 * 0.3e-6 + 4 * 0.03e-6 + 5 * 2.5e-6,
}


@STREAMED
async def test_an_answer(
    llm: AsyncClient, upstream: Any, provider: Provider, streamed: bool
) -> None:
    upstream.enqueue(Reply("grüße", reasoning="because"))
    if streamed:
        texts, reply = await read_stream(llm.stream(provider.model, "hi", max_tokens=9))
        assert texts == list("grüße")
    else:
        reply = await llm.generate(provider.model, "hi", max_tokens=9)
    assert (reply.text, reply.reasoning) == ("grüße", "because")
    assert reply.finish_reason == "stop"
    assert (reply.model, reply.backend) == (provider.model, provider.service)
    (attempt,) = reply.attempts
    assert (attempt.http_status, attempt.reason, attempt.upstream_id) == (200, "", reply.id)
    assert attempt.cost_picousd == reply.usage.cost_picousd
    usage = reply.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens) == (12, 5, 4)
    assert usage.reasoning_tokens > 0
    assert usage.cost_picousd == to_picousd(COSTS[provider.model])
    assert usage.cost_basis == ("billed" if provider.service == "openrouter" else "price_list")
    assert reply.timings.total_seconds >= reply.timings.first_token_seconds > 0


async def test_messages_keep_their_roles(
    llm: AsyncClient, upstream: Any, provider: Provider
) -> None:
    roles = [("system", "Be brief."), ("user", "hi"), ("assistant", "oh"), ("user", "move?")]
    await llm.generate(provider.model, messages=[Message(*pair) for pair in roles])  # type: ignore[arg-type]
    (request,) = upstream.history
    sent = str(request.body)
    assert all(text in sent for _, text in roles)
    if "messages" in request.body and provider.variable != "ANTHROPIC_API_KEY":
        assert request.body["messages"] == [{"role": r, "content": text} for r, text in roles]


@OPENAI_FORMAT
async def test_a_long_conversation_keeps_its_order(
    llm: AsyncClient, upstream: Any, provider: Provider
) -> None:
    """It is written in a thread."""
    texts = [f"{n}" for n in range(301)]
    roles = itertools.cycle(("user", "assistant"))
    messages = [Message(role, text) for role, text in zip(roles, texts, strict=False)]  # type: ignore[arg-type]
    await llm.generate(provider.model, messages=messages)
    assert [m["content"] for m in upstream.history[0].body["messages"]] == texts


def sample(parameter: Parameter) -> Any:
    """A value that the parameter allows and that no default has."""
    if parameter.type is str:
        return ["END"]
    if parameter.keyed:
        return {50256: 1.5}
    if parameter.type is bool or parameter.max_items:
        return True if parameter.type is bool else [7]
    if parameter.path == "config.temperature":
        return 0.7  # Anthropic takes 1 at most
    low, high = parameter.minimum or 0, parameter.maximum
    number = low + 3 if high is None or high - low > 3 else low + (high - low) / 4
    return int(number) if parameter.type is int else number


def leaves(value: Any) -> list[Any]:
    """All single values in a JSON value, with the names."""
    if isinstance(value, Mapping):
        return [leaf for pair in value.items() for part in pair for leaf in leaves(part)]
    if isinstance(value, list):
        return [leaf for part in value for leaf in leaves(part)]
    return [value]


@pytest.mark.parametrize("service", ["openrouter", "litellm"])
@pytest.mark.parametrize("name", CHAT_PARAMETERS)
async def test_every_sampling_parameter_reaches_the_provider(
    name: str, service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With litellm, it must reach at least one provider. The others refuse it by name.

    A parameter that is missing in CHAT_PARAMETERS fails here.
    """
    parameter = PARAMETERS[name]
    value = sample(parameter)
    sent = 0
    for provider in PROVIDERS.values():
        if provider.service != service:
            continue
        async with provider.upstream() as upstream:
            upstream.default = LOGPROBS
            start = make_start(upstream, provider, monkeypatch)
            async with start() as llm:
                refused = ""
                try:
                    await llm.generate(provider.model, "hi", **{name: value})
                except ArenaError as error:
                    refused = f"{error.reason} {error.field}"
            assert refused in ("", f"UNSUPPORTED {parameter.path}")
            if not refused:
                (request,) = upstream.history
                expected = leaves(value)[-1]
                assert expected in leaves(request.body), (provider.model, request.body)
                sent += 1
    assert sent >= 1 or name in ("min_p", "repetition_penalty")  # test_request.py has others


@OPENAI_FORMAT
async def test_log_probabilities(llm: AsyncClient, upstream: Any, provider: Provider) -> None:
    upstream.enqueue(LOGPROBS, LOGPROBS)
    whole = await llm.generate(provider.model, "hi", top_logprobs=2)
    _, streamed = await read_stream(llm.stream(provider.model, "hi", top_logprobs=2))
    for reply in (whole, streamed):
        assert reply.completion_tokens is not None
        (token,) = reply.completion_tokens
        assert (token.text, token.logprob) == ("ok", -0.1)
        assert [(t.text, t.logprob) for t in token.top] == [("ok", -0.1), ("no", -2.5)]
    for request in upstream.history:
        assert (request.body["logprobs"], request.body["top_logprobs"]) == (True, 2)


@pytest.mark.parametrize(
    ("provider", "fields"),
    [
        ("openrouter", {"choice": {"finish_reason": "length"}}),
        ("openai", {"choice": {"finish_reason": "length"}}),
        ("anthropic", {"stop_reason": "max_tokens"}),
        (
            "gemini",
            {"candidates": [{"content": {"parts": [{"text": ""}]}, "finishReason": "MAX_TOKENS"}]},
        ),
    ],
    indirect=["provider"],
)
async def test_a_completion_that_was_cut_off(
    llm: AsyncClient, upstream: Any, provider: Provider, fields: dict[str, Any]
) -> None:
    upstream.default = Reply("o", fields=fields)
    assert (await llm.generate(provider.model, "hi")).finish_reason == "length"
    _, whole = await read_stream(llm.stream(provider.model, "hi"))
    assert whole.finish_reason == "length"


@pytest.mark.parametrize(
    ("word", "expected"), [("content_filter", "content_filter"), ("tool_calls", "unknown")]
)
@pytest.mark.parametrize("provider", ["openrouter"], indirect=True)
async def test_finish_reasons(
    llm: AsyncClient, upstream: Any, provider: Provider, word: str, expected: str
) -> None:
    upstream.default = Reply("x", fields={"choice": {"finish_reason": word}})
    assert (await llm.generate(provider.model, "hi")).finish_reason == expected
    assert (await read_stream(llm.stream(provider.model, "hi")))[1].finish_reason == expected


@pytest.mark.parametrize(
    ("provider", "fields"),
    [
        ("openrouter", {"choice": {"stop_reason": "END"}}),
        ("openrouter", {"choice": {"matched_stop": "END"}}),
        ("openai", {"choice": {"stop_reason": "END"}}),
        ("openai", {"choice": {"matched_stop": "END"}}),
        ("anthropic", {"stop_reason": "stop_sequence", "stop_sequence": "END"}),
    ],
    indirect=["provider"],
)
async def test_the_string_that_stopped_a_completion(
    llm: AsyncClient, upstream: Any, provider: Provider, fields: dict[str, Any]
) -> None:
    """vLLM, SGLang and Anthropic say so. They may also report a token, or a string of their own."""
    upstream.default = Reply("ok", fields=fields)
    for stop, expected in ((["x", "END"], StopMatch("END")), (["x"], None)):
        whole = await llm.generate(provider.model, "hi", stop=stop)
        _, streamed = await read_stream(llm.stream(provider.model, "hi", stop=stop))
        assert whole.stop_match == streamed.stop_match == expected


@LITELLM
@pytest.mark.parametrize("name", ["x-ms-region", "X-Groq-Region"])
async def test_the_region_that_answered(
    llm: AsyncClient, upstream: Any, provider: Provider, name: str
) -> None:
    upstream.default = Reply("ok", headers={name: "Sweden Central"})
    whole = await llm.generate(provider.model, "hi")
    _, streamed = await read_stream(llm.stream(provider.model, "hi"))
    assert whole.served_by.region == streamed.served_by.region == "Sweden Central"


@OPENAI_FORMAT
async def test_the_reply_names_the_model_that_answered(
    llm: AsyncClient, upstream: Any, provider: Provider
) -> None:
    upstream.default = Reply(fields={"model": "b/other"})
    prefix = {"openrouter": "openrouter_", "litellm": "litellm_openai/"}[provider.service]
    assert (await llm.generate(provider.model, "hi")).model == f"{prefix}b/other"


async def test_a_delta_is_delivered_before_the_stream_ends(
    llm: AsyncClient, upstream: Any, provider: Provider
) -> None:
    gate = asyncio.Event()
    upstream.enqueue(Reply("ab", hold=gate, held=2))
    stream = llm.stream(provider.model, "hi")
    assert await anext(aiter(stream)) == "a"
    assert upstream.running == 1
    gate.set()
    assert [delta async for delta in stream] == ["b"]


async def test_connections_are_reused(llm: AsyncClient, upstream: Any, provider: Provider) -> None:
    for _ in range(10):
        await llm.generate(provider.model, "hi")
        await read_stream(llm.stream(provider.model, "hi"))
    assert upstream.connections == 1


async def test_no_more_calls_run_than_the_entry_allows(
    start: Start, upstream: Any, provider: Provider
) -> None:
    gate = asyncio.Event()
    upstream.default = Reply(hold=gate)
    async with start({"max_concurrency": 2}) as llm:
        calls = asyncio.gather(*(call(llm, False, provider.model) for _ in range(6)))
        await eventually(lambda: upstream.running == 2)
        gate.set()
        assert set(await calls) == {"ok"}
    assert upstream.most_running == 2


@STREAMED
async def test_an_unlisted_model_can_be_refused(
    start: Start, upstream: Any, provider: Provider, streamed: bool
) -> None:
    async with start(allow_unlisted=False) as llm:
        error = await fail(llm, streamed, f"{provider.model}x")
        assert error.reason == "MODEL_NOT_FOUND"
        assert provider.model in error.message  # the nearest name
        assert [model.name for model in await llm.list_models()] == [provider.model]
    assert not upstream.history
