"""Answers of every format with one wrong field: the right text or one typed error, bought once.

An HTTP 200 has been paid for. So it is never requested again because a field cannot be read.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

from arena_llm import ArenaError, AsyncClient
from tests.support.upstreams.server import Call, Fault, Reply
from tests.unit.hosted.conftest import OPENAI_FORMAT, STREAMED, Provider, Start, call

TEXT = "seven of nine"


def nest(levels: int) -> Any:
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


class Missing:
    """The field is not there."""


#: What stands in place of a field.
VALUES: list[Any] = [
    *(Missing, None, True, 5, -1, 1.5, 10**30, "", "x", "null"),
    *([], {}, [None], [1], [[]], {"a": 1}, [{"a": 1}], nest(100), "y" * 100_000),
]

Path = tuple[str | int, ...]


def list_paths(value: Any, path: Path = ()) -> Iterator[Path]:
    """Yield the path of each field and item of a JSON value."""
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, inner in items:
        yield (*path, key)
        yield from list_paths(inner, (*path, key))


def change(value: Any, path: Path, new: Any) -> Any:
    """Return a copy with another value at the path."""
    value = copy.deepcopy(value)
    *way, last = path
    place = value
    for key in way:
        place = place[key]
    if new is Missing:
        del place[last]
    else:
        place[last] = new
    return value


def split_event(event: bytes) -> tuple[bytes, Any]:
    """Return what comes before the data of an event, and the data, if it is JSON."""
    before, mark, data = event.partition(b"data:")
    try:
        return before + mark, json.loads(data)
    except ValueError:
        return event, None


def mutate(upstream: Any, asked: Call, streamed: bool) -> Iterator[tuple[str, Fault]]:
    """Yield each answer with one wrong field, and where it is."""
    if not streamed:
        whole = upstream.answer(asked, Reply(TEXT))
        for path in list_paths(whole):
            for value in VALUES:
                body = json.dumps(change(whole, path, value)).encode()
                yield f"{path} = {str(value)[:40]}", Fault(body=body)
        return
    events = [split_event(event) for event in upstream.events(asked, Reply(TEXT, pieces=[TEXT]))]
    for index, (_, data) in enumerate(events):
        for path in list_paths(data):
            for value in VALUES:
                pieces = [
                    before if json_value is None else before + json.dumps(
                        change(json_value, path, value) if place == index else json_value
                    ).encode() + b"\n\n"
                    for place, (before, json_value) in enumerate(events)
                ]  # fmt: skip
                yield (
                    f"event {index} {path} = {str(value)[:40]}",
                    Fault(body=b"".join(pieces), content_type="text/event-stream"),
                )


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
        for place, fault in mutate(upstream, asked, streamed):
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
