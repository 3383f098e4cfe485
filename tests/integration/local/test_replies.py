"""What the replies of hf and vllm contain: text, usage, times, log probabilities and scores."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from arena_llm import AsyncClient, Client
from arena_llm.types import Completion, Enforcement, FinishReason, RawPrompt
from tests.support.local_models import PROMPT, LocalService


def test_a_move(service: LocalService, llm: Client) -> None:
    cells = [str(cell) for cell in range(9)]
    reply = llm.generate(service.tiny, PROMPT, choices=cells, session="game-1")
    assert reply.text in cells
    assert (reply.model, reply.backend) == (service.tiny, service.name)
    assert reply.finish_reason == FinishReason.STOP
    assert reply.enforcement is Enforcement.DECODING
    engine = service.engine or {"hf": "openvino", "vllm": "vllm"}[service.name]
    assert reply.served_by.engine.startswith(f"{engine} ")
    assert (reply.served_by.precision, reply.usage.cost_picousd) == ("fp32", 0)
    assert reply.usage.prompt_tokens is not None
    assert reply.usage.prompt_tokens > 20
    assert reply.usage.completion_tokens == 1  # no step for an end token
    times = reply.timings
    assert times.total_seconds is not None
    assert times.first_token_seconds is not None
    assert times.total_seconds >= times.first_token_seconds > 0


def test_a_stream_has_the_text_of_the_completion(service: LocalService, llm: Client) -> None:
    options: dict[str, Any] = {"max_tokens": 32, "seed": 5, "temperature": 0.7, "top_logprobs": 2}
    whole = llm.generate(service.tiny, PROMPT, **options)
    stream = llm.stream(service.tiny, PROMPT, **options)
    deltas = list(stream)
    assert len(deltas) > 1
    assert "".join(deltas) == stream.completion.text == whole.text
    assert stream.completion.usage.completion_tokens == whole.usage.completion_tokens
    streamed, returned = stream.completion.completion_tokens, whole.completion_tokens
    assert streamed is not None
    assert returned is not None
    assert streamed.ids == returned.ids
    assert streamed.logprobs == pytest.approx(returned.logprobs, abs=1e-3)


def test_log_probabilities_are_sorted_and_belong_to_the_text(
    service: LocalService, llm: Client
) -> None:
    options: dict[str, Any] = {"max_tokens": 6, "temperature": 0.0, "top_logprobs": 3}
    reply = llm.generate(service.tiny, PROMPT, regex="[a-z]{20}", **options)
    assert "".join(token.text for token in reply.completion_tokens or ()) == reply.text
    reply = llm.generate(service.tiny, PROMPT, **options)
    trace = reply.completion_tokens or ()
    assert len(trace) == reply.usage.completion_tokens
    for token in trace:
        logprobs = [alternative.logprob for alternative in token.top]
        assert logprobs == sorted(logprobs, reverse=True)  # type: ignore[type-var]
        assert (token.id, token.logprob) == (token.top[0].id, token.top[0].logprob)


def test_a_score_is_the_log_probability_of_the_text(service: LocalService, llm: Client) -> None:
    """A score does not include the end token, which a choice may have."""
    texts = ["4", "44", "4x4"]
    scores = llm.score(service.tiny, PROMPT, texts)
    assert len(scores[2].tokens) > 1
    for text, score in zip(texts, scores, strict=True):
        assert b"".join(score.tokens.bytes).decode() == text
        choice = llm.generate(service.tiny, PROMPT, choices=[text], top_logprobs=0)
        trace = choice.completion_tokens
        assert trace is not None
        count = len(score.tokens)
        assert trace.ids[:count] == score.tokens.ids
        assert score.tokens.logprobs == pytest.approx(trace.logprobs[:count], abs=1e-3)
        assert score.logprob == pytest.approx(sum(score.tokens.logprobs), abs=1e-6)


def test_a_greedy_text_is_scored_as_greedy(service: LocalService, llm: Client) -> None:
    options: dict[str, Any] = {"temperature": 0.0, "max_tokens": 5, "ignore_eos": True}
    trace = llm.generate(service.tiny, PROMPT, token_ids=True, **options).completion_tokens
    assert trace is not None
    ids = trace.ids
    other = (*ids[:4], (ids[4] + 1) % 300)
    scores = llm.score(service.tiny, PROMPT, [ids, other], top_logprobs=2)
    assert [score.is_greedy for score in scores] == [True, False]
    assert [token.top[0].id for token in scores[0].tokens] == [*ids]
    assert {len(token.top) for token in scores[1].tokens} == {2}


def test_the_log_probabilities_of_a_prompt(service: LocalService, llm: Client) -> None:
    """Those of its tokens as a continuation of its first token."""
    ids = (20, 21, 22, 40, 41)
    asked = llm.score(service.tiny, RawPrompt(token_ids=ids), [], prompt_logprobs=True)
    [rest] = llm.score(service.tiny, RawPrompt(token_ids=ids[:1]), [ids[1:]])
    trace = asked.prompt_tokens
    assert trace is not None
    assert (trace.ids, trace.unscored, len(asked)) == (ids, 1, 0)
    assert trace.logprobs == pytest.approx(rest.tokens.logprobs, abs=1e-3)


def test_likeliest_and_chosen_tokens_at_the_same_time(service: LocalService, llm: Client) -> None:
    """In a batch, vLLM's engine returns one kind for all requests."""
    options = [
        {"top_logprobs": 3, "max_tokens": 24, "seed": n} if n % 2
        else {"logprob_token_ids": [5, 6, 7], "max_tokens": 24, "seed": n}
        for n in range(8)
    ]  # fmt: skip

    async def ask_all() -> list[Completion]:
        async with AsyncClient(service.address) as client:
            calls = (client.generate(service.tiny, PROMPT, **o) for o in options)  # type: ignore[arg-type]
            return await asyncio.gather(*calls)

    for n, reply in enumerate(asyncio.run(ask_all())):
        trace = reply.completion_tokens
        assert trace is not None
        assert min(trace.top_logprobs) > -1000, n
        if n % 2:
            best = [token.top[0].logprob for token in trace]
            assert all(t.logprob <= b for t, b in zip(trace, best, strict=True))  # type: ignore[operator]
        else:
            assert trace.top_ids == (5, 6, 7) * len(trace)
