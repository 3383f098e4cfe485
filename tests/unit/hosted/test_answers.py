"""Answers that differ from the documentation, whole and streamed.

Each is read, or refused with a typed error and never bought twice.
"""

from __future__ import annotations

from typing import Any

import pytest

from arena_llm import ArenaError, AsyncClient
from tests.support.upstreams import answers, frames
from tests.support.upstreams.answers import EVENTS, INSUFFICIENT, UNREADABLE, Odd, dump, stream
from tests.support.upstreams.checks import (
    ask,
    broken_mutations,
    result,
    unexpected,
    without_keys,
)
from tests.support.upstreams.server import Fault, Reply
from tests.unit.hosted.conftest import (
    LITELLM,
    OPENAI_FORMAT,
    PROVIDERS,
    STREAMED,
    Provider,
    Start,
)

TABLES = {
    "content": answers.CONTENT,
    "no text": answers.NO_TEXT,
    "surrogates": answers.SURROGATES,
    "unneeded fields": answers.UNNEEDED,
}


@STREAMED
@pytest.mark.parametrize("table", TABLES)
@OPENAI_FORMAT
async def test_unusual_answers(
    llm: AsyncClient, upstream: Any, provider: Provider, table: str, streamed: bool
) -> None:
    assert await unexpected(llm, upstream, provider.model, TABLES[table], streamed) == {}


@STREAMED
async def test_any_field_may_have_another_type(
    llm: AsyncClient, upstream: Any, provider: Provider, streamed: bool
) -> None:
    count = 100 if provider.service == "openrouter" else 20  # litellm is slow
    broken = await broken_mutations(llm, upstream, provider.model, streamed, count, "grüße".__eq__)
    assert broken == {}


@STREAMED
async def test_any_field_of_a_tool_call_may_have_another_type(
    llm: AsyncClient, upstream: Any, provider: Provider, streamed: bool
) -> None:
    """Such a call is read or refused, and is no bug of this service."""
    count = 150 if provider.service == "openrouter" else 40
    calls = [("call_1", "move", '{"to": "e4"}'), ("call_2", "pass", "{}")]
    reply = Reply("", "because", calls=calls)
    args: Any = (llm, upstream, provider.model, streamed, count, lambda text: True, reply)
    assert await broken_mutations(*args) == {}


@STREAMED
@OPENAI_FORMAT
async def test_an_answer_in_an_unusual_frame(
    start: Start, upstream: Any, provider: Provider, streamed: bool
) -> None:
    tables = (frames.WHOLE, frames.SEVERAL_WHOLE)
    if streamed:
        tables = (frames.STREAMED, frames.SEVERAL_STREAMED)
    rows = {f"{n}: {name}": row for n, rows in enumerate(tables) for name, row in rows.items()}
    if provider.service == "openrouter":  # its streams must end with a mark
        rows.pop("0: no mark, no last line break", None)
    async with start(max_attempts=2) as llm:
        assert await unexpected(llm, upstream, provider.model, rows, streamed) == {}


@STREAMED
@OPENAI_FORMAT
async def test_a_compressed_answer_is_read(
    llm: AsyncClient, upstream: Any, provider: Provider, streamed: bool
) -> None:
    upstream.default = frames.PACKED[streamed].fault(streamed)
    assert await result(llm, provider.model, streamed) == "ok"
    assert len(upstream.history) == 1


@STREAMED
@pytest.mark.parametrize("status", [200, 402])
@OPENAI_FORMAT
async def test_a_402_is_recognised_in_every_shape(
    llm: AsyncClient, upstream: Any, provider: Provider, status: int, streamed: bool
) -> None:
    bodies = answers.ERRORS if status == 200 else answers.STATUS_ERRORS
    for name, body in bodies.items():
        upstream.history.clear()
        upstream.default = Fault(status, body=dump(body))
        assert await result(llm, provider.model, streamed) == INSUFFICIENT, name
        assert len(upstream.history) == 1, name


@STREAMED
async def test_an_error_has_the_same_message_in_every_shape(
    start: Start, upstream: Any, provider: Provider, streamed: bool
) -> None:
    async with start(max_attempts=1) as llm:
        for name, (body, message) in frames.ERRORS.items():
            upstream.default = Fault(402, body=body)
            with pytest.raises(ArenaError) as caught:
                await ask(llm, provider.model, streamed)
            error = caught.value
            assert (error.code, error.reason) == INSUFFICIENT, name
            assert f": {message}" in error.message, (name, error.message)
            assert len(error.message) < 520
            assert error.metadata["upstream_status"] == "402"


WORDS = "no such luck"
#: Errors with HTTP 200: the body, and its Content-Type.
REPORTED: dict[str, tuple[bytes, str]] = {
    "an error": (dump({"error": {"message": WORDS}}), frames.JSON),
    "a text": (dump({"error": WORDS}), frames.JSON),
    "a list": (dump([{"error": {"code": 500, "message": WORDS}}]), frames.JSON),
    "errors": (dump({"errors": [{"message": WORDS}], "success": False}), frames.JSON),
    "a message": (dump({"object": "error", "message": WORDS, "code": 500}), frames.JSON),
    "a detail": (dump({"detail": WORDS}), frames.JSON),
    "a state": (dump({"base_resp": {"status_code": 7, "status_msg": WORDS}}), frames.JSON),
    "beside odd choices": (dump({"error": {"message": WORDS}, "choices": "none"}), frames.JSON),
    "plain text": (WORDS.encode(), "text/plain"),
    "a page": (f"<html><body>{WORDS}</body></html>".encode(), "text/html"),
    "an event": (stream({"error": {"message": WORDS}}), EVENTS),
    "an event that is the error": (stream({"message": WORDS, "code": 500}), EVENTS),
    "an event in words": (f"event: error\ndata: {WORDS}\n\n".encode(), EVENTS),
}


@STREAMED
async def test_the_words_of_an_error_with_http_200_reach_the_caller(
    start: Start, upstream: Any, provider: Provider, streamed: bool
) -> None:
    async with start(max_attempts=1) as llm:
        for name, (body, kind) in REPORTED.items():
            if kind == EVENTS and not streamed:
                continue
            upstream.default = Fault(body=body, content_type=kind)
            with pytest.raises(ArenaError) as caught:
                await ask(llm, provider.model, streamed)
            error = caught.value
            assert (error.code, error.reason) == UNREADABLE, name
            assert WORDS in error.message, (name, error.message)


@STREAMED
@OPENAI_FORMAT
async def test_token_counts(
    llm: AsyncClient, upstream: Any, provider: Provider, streamed: bool
) -> None:
    """litellm computes the cost from the counts, so unreadable counts have no cost."""
    for name, (sent, tokens) in answers.COUNTS.items():
        usage = {"prompt_tokens": sent, "completion_tokens": 3}
        upstream.default = Odd("ok", top={"usage": usage}).fault(streamed)
        reply = await ask(llm, provider.model, streamed)
        assert (reply.text, reply.usage.prompt_tokens) == ("ok", tokens), name
        priced = provider.service == "litellm" and tokens is not None
        assert (reply.usage.cost_usd is not None) == priced, name


@STREAMED
@OPENAI_FORMAT
async def test_a_count_of_5000_digits(
    llm: AsyncClient, upstream: Any, provider: Provider, streamed: bool
) -> None:
    fault = Odd("ok", top={"usage": {"prompt_tokens": "digits"}}).fault(streamed)
    assert fault.body is not None
    body = fault.body.replace(b'"digits"', b"1" * 5000)
    upstream.default = Fault(body=body, content_type=fault.content_type)
    assert (await ask(llm, provider.model, streamed)).usage.prompt_tokens is None


@STREAMED
async def test_an_answer_without_usage_has_no_cost_and_no_guessed_tokens(
    llm: AsyncClient, upstream: Any, provider: Provider, streamed: bool
) -> None:
    assert await ask(llm, provider.model, streamed)  # a call to record
    (call,) = upstream.history
    upstream.default = without_keys(upstream, call, streamed, ("usage", "usageMetadata"))
    reply = await ask(llm, provider.model, streamed)
    assert reply.text == "ok"
    assert (reply.usage.prompt_tokens, reply.usage.cost_usd) == (None, None)


async def test_a_whole_answer_in_place_of_a_stream(
    llm: AsyncClient, upstream: Any, provider: Provider
) -> None:
    assert await ask(llm, provider.model, True)  # a call to record
    (call,) = upstream.history
    upstream.default = Fault(body=dump(upstream.answer(call, Reply("grüße", "because"))))
    reply = await ask(llm, provider.model, True)
    assert (reply.text, reply.reasoning, reply.finish_reason) == ("grüße", "because", "stop")
    assert reply.usage.prompt_tokens == 12


async def test_a_character_split_over_two_deltas(
    llm: AsyncClient, upstream: Any, provider: Provider
) -> None:
    upstream.default = Reply(pieces=["a\ud83d", "\ude00b", "\ud83d"])
    assert await result(llm, provider.model, True) == "a😀b\ufffd"
    upstream.default = Reply("a\ud83db")
    assert await result(llm, provider.model, False) == "a\ufffdb"


@pytest.mark.parametrize("chunks", [[], [{"id": "gen-1"}], [{"choices": [], "usage": {}}]])
@OPENAI_FORMAT
async def test_a_stream_without_a_choice_is_an_error(
    llm: AsyncClient, upstream: Any, provider: Provider, chunks: list[Any]
) -> None:
    upstream.default = Fault(body=stream(*chunks), content_type=EVENTS)
    assert await result(llm, provider.model, True) == UNREADABLE


@OPENAI_FORMAT
async def test_a_stream_that_ends_with_the_whole_message(
    llm: AsyncClient, upstream: Any, provider: Provider
) -> None:
    whole = {"index": 0, "finish_reason": "stop", "message": {"content": "ok"}}
    pieces = [{"choices": [{"delta": {"content": piece}}]} for piece in "ok"]
    upstream.default = Fault(body=stream(*pieces, {"choices": [whole]}), content_type=EVENTS)
    assert await result(llm, provider.model, True) == "ok"


@STREAMED
@OPENAI_FORMAT
async def test_a_stop_string_explains_an_empty_text(
    llm: AsyncClient, upstream: Any, provider: Provider, streamed: bool
) -> None:
    upstream.default = answers.NO_TEXT["tokens without a text"].fault(streamed)
    assert await result(llm, provider.model, streamed, stop=["\n"]) == ""


@STREAMED
@OPENAI_FORMAT
async def test_unreadable_log_probabilities_are_missing(
    llm: AsyncClient, upstream: Any, provider: Provider, streamed: bool
) -> None:
    """That is an error only if they were requested."""
    for logprob in (float("nan"), "high", None, ...):
        content = [{"token": "ok", "logprob": logprob}]
        choice = {} if logprob is ... else {"logprobs": {"content": content}}
        upstream.default = Odd("ok", choice=choice).fault(streamed)
        assert await result(llm, provider.model, streamed) == "ok"
        with pytest.raises(ArenaError) as caught:
            await ask(llm, provider.model, streamed, top_logprobs=1)
        assert (caught.value.reason, caught.value.field) == ("UNSUPPORTED", "returns.top_logprobs")


@STREAMED
async def test_a_body_that_is_not_an_answer(
    start: Start, upstream: Any, provider: Provider, streamed: bool
) -> None:
    async with start(max_attempts=1) as llm:
        for body in (b"null", b"[]", b"{}", b'"text"', b"7", b"", b"<html>", b"[" * 5_000):
            upstream.default = Fault(body=body)
            assert await result(llm, provider.model, streamed) == UNREADABLE, body[:10]


@STREAMED
@LITELLM
async def test_an_answer_in_another_providers_format_is_not_an_empty_success(
    llm: AsyncClient, upstream: Any, provider: Provider, streamed: bool
) -> None:
    """A gateway may answer in another format. It is read or refused."""
    assert await ask(llm, provider.model, streamed)  # a call to record
    (call,) = upstream.history
    call.body["model"] = "m"
    for name in ("openai", "anthropic", "gemini"):
        if PROVIDERS[name] is provider:
            continue
        server = PROVIDERS[name].upstream()
        bodies = [Fault(body=dump(server.answer(call, Reply())))]
        if streamed:
            events = b"".join(server.events(call, Reply()))
            bodies.append(Fault(body=events, content_type=EVENTS))
        for upstream.default in bodies:
            upstream.history.clear()
            assert await result(llm, provider.model, streamed) in ("ok", UNREADABLE)
            assert len(upstream.history) == 1


@STREAMED
async def test_the_id_is_the_providers(
    llm: AsyncClient, upstream: Any, provider: Provider, streamed: bool
) -> None:
    assert (await ask(llm, provider.model, streamed)).id == provider.answer_id


@OPENAI_FORMAT
async def test_a_missing_finish_reason_is_unknown(
    llm: AsyncClient, upstream: Any, provider: Provider
) -> None:
    for word in (None, ""):
        upstream.default = Odd("ok", choice={"finish_reason": word}).fault(False)
        assert (await ask(llm, provider.model, False)).finish_reason == "unknown"
