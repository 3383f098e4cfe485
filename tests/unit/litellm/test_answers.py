"""Answers that differ from the documentation, in OpenAI's format, whole and streamed."""

from __future__ import annotations

from typing import Any

import pytest

from arena_llm import ArenaError, AsyncClient
from tests.support.answering import ask, broken, misframed, outcome, without, wrong
from tests.support.upstreams import answers, frames
from tests.support.upstreams.answers import EVENTS, INSUFFICIENT, UNREADABLE, Odd, dump, stream
from tests.support.upstreams.server import Fault, Reply
from tests.unit.litellm.conftest import OPENAI, PROVIDERS, Provider, Start

TABLES = {
    "content": answers.CONTENT,
    "no text": answers.NO_TEXT,
    "surrogates": answers.SURROGATES,
    "unneeded fields": answers.UNNEEDED,
}
MODEL = OPENAI.model
STREAMED = pytest.mark.parametrize("streamed", [False, True], ids=["unary", "streamed"])


@STREAMED
@pytest.mark.parametrize("table", TABLES)
async def test_an_odd_answer_is_read_or_refused_and_bought_once(
    llm: AsyncClient, upstream: Any, table: str, streamed: bool
) -> None:
    assert await wrong(llm, upstream, MODEL, TABLES[table], streamed) == {}


@STREAMED
@pytest.mark.parametrize("status", [200, 402])
async def test_a_402_stays_a_402_in_every_shape(
    llm: AsyncClient, upstream: Any, status: int, streamed: bool
) -> None:
    bodies = answers.ERRORS if status == 200 else answers.STATUS_ERRORS
    for name, body in bodies.items():
        upstream.history.clear()
        upstream.default = Fault(status, body=dump(body))
        assert await outcome(llm, MODEL, streamed) == INSUFFICIENT, name
        assert len(upstream.history) == 1, name


@STREAMED
async def test_counts_that_cannot_be_read_have_no_cost(
    llm: AsyncClient, upstream: Any, streamed: bool
) -> None:
    for name, (sent, tokens) in answers.COUNTS.items():
        usage = {"prompt_tokens": sent, "completion_tokens": 3}
        upstream.default = Odd("ok", top={"usage": usage}).fault(streamed)
        reply = await ask(llm, MODEL, streamed)
        assert (reply.text, reply.usage.prompt_tokens) == ("ok", tokens), name
        assert (reply.usage.cost_usd is not None) == (tokens > 0), name


@STREAMED
@pytest.mark.parametrize("provider", PROVIDERS, indirect=True)
async def test_no_usage_is_no_cost_and_no_guess(
    llm: AsyncClient, upstream: Any, provider: Provider, streamed: bool
) -> None:
    assert await ask(llm, provider.model, streamed)  # a call to record
    (call,) = upstream.history
    upstream.default = without(upstream, call, streamed, ("usage", "usageMetadata"))
    reply = await ask(llm, provider.model, streamed)
    assert reply.text == "ok"
    assert (reply.usage.prompt_tokens, reply.usage.cost_usd) == (0, None)


@pytest.mark.parametrize("provider", PROVIDERS, indirect=True)
async def test_a_whole_answer_in_place_of_a_stream(
    llm: AsyncClient, upstream: Any, provider: Provider
) -> None:
    assert await ask(llm, provider.model, True)  # a call to record
    (call,) = upstream.history
    upstream.default = Fault(body=dump(upstream.answer(call, Reply("grüße", "because"))))
    reply = await ask(llm, provider.model, True)
    assert (reply.text, reply.reasoning, reply.finish_reason) == ("grüße", "because", "stop")
    assert reply.usage.prompt_tokens == 12


@pytest.mark.parametrize("provider", PROVIDERS, indirect=True)
async def test_a_character_in_two_deltas(
    llm: AsyncClient, upstream: Any, provider: Provider
) -> None:
    upstream.default = Reply(pieces=["a\ud83d", "\ude00b", "\ud83d"])
    assert await outcome(llm, provider.model, True) == "a😀b\ufffd"
    upstream.default = Reply("a\ud83db")
    assert await outcome(llm, provider.model, False) == "a\ufffdb"


@pytest.mark.parametrize("chunks", [[], [{"id": "gen-1"}], [{"choices": [], "usage": {}}]])
async def test_a_stream_without_a_choice_is_no_success(
    llm: AsyncClient, upstream: Any, chunks: list[Any]
) -> None:
    upstream.default = Fault(body=stream(*chunks), content_type=EVENTS)
    assert await outcome(llm, MODEL, True) == UNREADABLE


@STREAMED
async def test_log_probabilities_that_cannot_be_read(
    llm: AsyncClient, upstream: Any, streamed: bool
) -> None:
    for logprob in (float("nan"), "high", None):
        content = [{"token": "ok", "logprob": logprob}]
        upstream.default = Odd("ok", choice={"logprobs": {"content": content}}).fault(streamed)
        assert await outcome(llm, MODEL, streamed) == "ok"
        with pytest.raises(ArenaError) as caught:
            await ask(llm, MODEL, streamed, logprobs=1)
        assert (caught.value.reason, caught.value.field) == ("UNSUPPORTED", "config.logprobs")


@STREAMED
@pytest.mark.parametrize("provider", PROVIDERS, indirect=True)
async def test_any_field_may_be_of_another_type(
    llm: AsyncClient, upstream: Any, provider: Provider, streamed: bool
) -> None:
    assert await broken(llm, upstream, provider.model, streamed, 200, "grüße".__eq__) == {}


async def test_a_service_tier_that_is_not_there(start: Start, upstream: Any) -> None:
    """litellm demands it of Groq's answers."""
    model = "litellm_groq/llama-3.3-70b-versatile"
    async with start({"name": model, "key_variable": "OPENAI_API_KEY"}) as llm:
        for streamed in (False, True):
            upstream.default = Odd("ok").fault(streamed)
            assert await outcome(llm, model, streamed) == "ok"


@STREAMED
async def test_an_answer_in_an_unusual_frame(start: Start, upstream: Any, streamed: bool) -> None:
    """It is read, or refused and bought once; what is no answer is asked for again."""
    tables = (frames.STREAMED, frames.SEVERAL_STREAMED)
    if not streamed:
        tables = (frames.WHOLE, frames.SEVERAL_WHOLE)
    async with start(max_attempts=2) as llm:
        for table in tables:
            assert await misframed(llm, upstream, MODEL, table, streamed) == {}


@STREAMED
async def test_a_compressed_answer_is_refused_and_bought_once(
    llm: AsyncClient, upstream: Any, streamed: bool
) -> None:
    rows = {"gzip": frames.PACKED[streamed]}
    assert await misframed(llm, upstream, MODEL, rows, streamed) == {}
    with pytest.raises(ArenaError, match="compressed"):
        await ask(llm, MODEL, streamed)


@pytest.mark.parametrize("provider", ["gemini"], indirect=True)
async def test_several_candidates_of_gemini(
    llm: AsyncClient, upstream: Any, provider: Provider
) -> None:
    """As in OpenAI's format: the first by its index, and no mixture."""

    def event(*parts: tuple[int, str], **more: Any) -> dict[str, Any]:
        candidates = [
            {"index": index, "content": {"parts": [{"text": text}]}, **more}
            for index, text in parts
        ]
        return {"candidates": candidates, "usageMetadata": {}}

    end = {"finishReason": "STOP"}
    upstream.default = Fault(body=dump(event((1, "no"), (0, "ok"), **end)))
    assert await outcome(llm, provider.model, False) == "ok"
    beside = [event((0, "o"), (1, "n")), event((1, "o"), (0, "k"), **end)]
    in_turn = [event((0, "o")), event((1, "n")), event((0, "k"), **end)]
    for chunks, expected in ((beside, "ok"), (in_turn, UNREADABLE)):
        upstream.default = Fault(body=stream(*chunks), content_type=EVENTS)
        assert await outcome(llm, provider.model, True) == expected


@STREAMED
@pytest.mark.parametrize("provider", PROVIDERS, indirect=True)
async def test_an_error_says_the_same_in_every_format(
    start: Start, upstream: Any, provider: Provider, streamed: bool
) -> None:
    """The status decides, whatever the body; litellm's own words are not in the message."""
    async with start(max_attempts=1) as llm:
        for name, (body, said) in frames.ERRORS.items():
            upstream.default = Fault(402, body=body)
            with pytest.raises(ArenaError) as caught:
                await ask(llm, provider.model, streamed)
            error = caught.value
            assert (error.code, error.reason) == INSUFFICIENT, name
            assert error.message.removesuffix(" Payment Required").endswith(f": {said}"), name
            assert error.metadata["upstream_status"] == "402"


@STREAMED
@pytest.mark.parametrize("provider", PROVIDERS, indirect=True)
async def test_an_answer_that_is_none_is_the_providers_fault(
    start: Start, upstream: Any, provider: Provider, streamed: bool
) -> None:
    async with start(max_attempts=1) as llm:
        for body in (b"null", b"[]", b"{}", b'"text"', b"7", b"", b"<html>", b"[" * 5_000):
            upstream.default = Fault(body=body)
            assert await outcome(llm, provider.model, streamed) == UNREADABLE, body[:10]


@STREAMED
@pytest.mark.parametrize("provider", PROVIDERS, indirect=True)
async def test_an_answer_in_another_providers_format_is_no_empty_success(
    llm: AsyncClient, upstream: Any, provider: Provider, streamed: bool
) -> None:
    """It is read, or refused: whatever a gateway in the provider's place speaks."""
    assert await ask(llm, provider.model, streamed)  # a call to record
    (call,) = upstream.history
    call.body["model"] = "m"
    for other in (known for known in PROVIDERS.values() if known is not provider):
        server = other.upstream()
        bodies = [Fault(body=dump(server.answer(call, Reply())))]
        if streamed:
            events = b"".join(server.events(call, Reply()))
            bodies.append(Fault(body=events, content_type=EVENTS))
        for upstream.default in bodies:
            upstream.history.clear()
            assert await outcome(llm, provider.model, streamed) in ("ok", UNREADABLE)
            assert len(upstream.history) == 1


@STREAMED
@pytest.mark.parametrize("provider", PROVIDERS, indirect=True)
async def test_the_id_is_the_providers(
    llm: AsyncClient, upstream: Any, provider: Provider, streamed: bool
) -> None:
    ids = {"openai": "chatcmpl-1", "anthropic": "msg_1", "gemini": "gemini-1"}
    name = next(name for name, known in PROVIDERS.items() if known is provider)
    assert (await ask(llm, provider.model, streamed)).id == ids[name]


async def test_no_word_for_the_end_is_unknown(llm: AsyncClient, upstream: Any) -> None:
    for word in (None, ""):
        upstream.default = Odd("ok", choice={"finish_reason": word}).fault(False)
        assert (await ask(llm, MODEL, False)).finish_reason == "unknown"
