"""Answers of every format with one wrong field: the right text or one typed error, bought once.

An HTTP 200 has been paid for. So it is never requested again because a field cannot be read.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from arena_llm import ArenaError, AsyncClient
from tests.support.upstreams.mutations import mutate, split_event
from tests.support.upstreams.server import Fault, Reply
from tests.unit.hosted.conftest import OPENAI_FORMAT, STREAMED, Provider, Start, call

TEXT = "seven of nine"


async def outcome(llm: AsyncClient, provider: Provider, streamed: bool) -> str | ArenaError:
    try:
        return await call(llm, streamed, provider.model, timeout=20)
    except ArenaError as error:
        return error


#: Codes of errors that are not the provider's.
OURS = ("INTERNAL", "UNKNOWN", "DEADLINE_EXCEEDED", "CANCELLED")


@STREAMED
async def test_one_wrong_field(
    start: Start, upstream: Any, provider: Provider, streamed: bool
) -> None:
    wrong: list[str] = []
    async with start(max_attempts=2) as llm:
        assert await call(llm, streamed, provider.model) == "ok"
        asked = upstream.history[0]
        for place, fault in mutate(upstream, asked, Reply(TEXT, pieces=[TEXT]), streamed):
            upstream.history.clear()
            upstream.default = fault
            got = await outcome(llm, provider, streamed)
            if isinstance(got, ArenaError):
                right = got.code not in OURS
            else:
                # A wrong field may also be a text, which is then the whole text or a part of it.
                right = TEXT in got or (got != "" and got in (fault.body or b"").decode())
            if not right:
                wrong.append(f"{place}: {got!r}"[:200])
            if len(upstream.history) > 1:
                wrong.append(f"{place}: bought {len(upstream.history)} times, {got!r}"[:200])
    assert not wrong, "\n".join(wrong[:60]) + f"\n{len(wrong)} in all"


#: What servers send as the error of a completion that has none.
NO_ERRORS: list[Any] = [
    *(None, False, True, "", "null", {}, [], {"message": None}, {"message": ""}, {"code": 0}),
    *({"code": None, "message": None}, {"code": 200, "message": "OK"}, {"error": None}),
]
ERRORS: list[Any] = ["boom", {"code": 429, "message": "slow down"}, {"message": ["boom"]}, ["boom"]]


async def test_an_error_beside_a_completion(
    start: Start, upstream: Any, provider: Provider
) -> None:
    """One that says nothing is none. With any other one the completion has been paid for."""
    async with start(max_attempts=3) as llm:
        await call(llm, False, provider.model)
        whole = upstream.answer(upstream.history[0], Reply(TEXT))
        for error in NO_ERRORS:
            upstream.default = Fault(body=json.dumps({**whole, "error": error}).encode())
            assert await outcome(llm, provider, False) == TEXT, error
        for error in ERRORS:
            upstream.default = Fault(body=json.dumps({**whole, "error": error}).encode())
            upstream.history.clear()
            got = await outcome(llm, provider, False)
            assert isinstance(got, ArenaError), error
            assert got.reason == "UPSTREAM_UNAVAILABLE", error
            assert ("boom" in str(got)) or ("slow down" in str(got))
            assert len(upstream.history) == 1, error
            assert got.report.attempts[0].cost_picousd != 0, error


#: Events that say nothing, anywhere in a stream.
NOTHING = [b"data: null\n\n", b"data: []\n\n", b"data: [null]\n\n", b": waiting\n\n"]


@OPENAI_FORMAT
async def test_events_that_say_nothing(start: Start, upstream: Any, provider: Provider) -> None:
    async with start(max_attempts=1) as llm:
        await call(llm, True, provider.model)
        events = upstream.events(upstream.history[0], Reply(TEXT, pieces=["seven ", "of nine"]))
        for nothing in NOTHING:
            for place in range(len(events)):
                body = b"".join([*events[:place], nothing, *events[place:]])
                upstream.default = Fault(body=body, content_type="text/event-stream")
                assert await outcome(llm, provider, True) == TEXT, (nothing, place)
        separate = b"".join(events).split(b"\n\n")
        chunks = [data for _, data in map(split_event, separate) if data is not None]
        upstream.default = Fault(body=json.dumps(chunks).encode())
        assert await outcome(llm, provider, True) == TEXT, "all chunks in a list"


@pytest.mark.parametrize("provider", ["anthropic"], indirect=True)
async def test_no_part_of_a_stream_is_skipped(
    start: Start, upstream: Any, provider: Provider
) -> None:
    """Events of an unknown type are skipped, unless they hold a part of the answer."""
    async with start(max_attempts=1) as llm:
        await call(llm, True, provider.model)
        events = upstream.events(upstream.history[0], Reply(TEXT, pieces=["seven ", "of ", "nine"]))
        separate = [event for event in b"".join(events).split(b"\n\n") if event]
        for place, event in enumerate(separate):
            head, data = split_event(event)
            if data is None:
                continue
            changed = head + json.dumps({**data, "type": "new"}).encode()
            body = b"\n\n".join([*separate[:place], changed, *separate[place + 1 :], b""])
            upstream.default = Fault(body=body, content_type="text/event-stream")
            got = await outcome(llm, provider, True)
            assert isinstance(got, ArenaError) or got == TEXT, (event, got)
