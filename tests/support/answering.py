"""What a hosted service makes of odd answers: tables and mutations, over its real client."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from arena_llm import ArenaError, AsyncClient
from arena_llm.types import Completion
from tests.support.upstreams.answers import EVENTS, Odd, dump, stream
from tests.support.upstreams.frames import Frame
from tests.support.upstreams.server import Call, Fault, Reply, UpstreamServer

#: What comes of a call: the text, or the code and reason of its error.
Outcome = str | tuple[str, str]


async def ask(llm: AsyncClient, model: str, streamed: bool, **options: Any) -> Completion:
    """One completion; of a stream, whose deltas must make its text."""
    if not streamed:
        return await llm.generate(model, "hi", **options)
    stream = llm.stream(model, "hi", **options)
    text = "".join([delta async for delta in stream])
    assert stream.completion is not None
    assert stream.completion.text == text
    return stream.completion


async def outcome(llm: AsyncClient, model: str, streamed: bool, **options: Any) -> Outcome:
    """The text or the error of one call."""
    try:
        return (await ask(llm, model, streamed, **options)).text
    except ArenaError as error:
        return error.code, error.reason


async def wrong(
    llm: AsyncClient, upstream: UpstreamServer, model: str, table: Mapping[str, Odd], streamed: bool
) -> dict[str, Any]:
    """The rows of a table that do not come out as expected, from one request each."""
    found: dict[str, Any] = {}
    for name, odd in table.items():
        upstream.history.clear()
        upstream.default = odd.fault(streamed)
        got = await outcome(llm, model, streamed)
        if (got, len(upstream.history)) != (odd.expected, 1):
            found[name] = got, len(upstream.history)
    return found


async def misframed(
    llm: AsyncClient,
    upstream: UpstreamServer,
    model: str,
    table: Mapping[str, Frame],
    streamed: bool,
) -> dict[str, Any]:
    """The rows of a table that do not come out as expected, from as many requests."""
    found: dict[str, Any] = {}
    for name, frame in table.items():
        upstream.history.clear()
        upstream.default = frame.fault()
        got = await outcome(llm, model, streamed)
        if (got, len(upstream.history)) != (frame.expected, frame.asked):
            found[name] = got, len(upstream.history)
    return found


# --- mutations -----------------------------------------------------------------------

_VALUES: tuple[Any, ...] = (..., None, 7, -1, 10**30, True, [], {}, [[]], {"a": [1]}, float("nan"))


def paths(value: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a JSON value but the value itself."""
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield (*before, key)
            yield from paths(value[key], (*before, key))


def mutated(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """A copy with another value at a place; `...` takes the place away."""
    value = copy.deepcopy(value)
    *before, last = path
    place = value
    for key in before:
        place = place[key]
    if new is ...:
        del place[last]
    else:
        place[last] = new
    return value


def mutations(
    upstream: UpstreamServer, call: Call, reply: Reply, streamed: bool, count: int
) -> Iterator[tuple[str, Fault]]:
    """`count` answers of which one place is not as documented, the same ones each time."""
    dice = random.Random(7)  # noqa: S311 - the same each time
    values = _recorded(upstream, call, reply, streamed)
    places = [(n, path) for n, value in enumerate(values) for path in paths(value)]
    chosen = [(*place, new) for place in places for new in _VALUES]
    dice.shuffle(chosen)
    for index, path, new in chosen[:count]:
        if not _is_no_text(path, new):
            odd = [mutated(v, path, new) if n == index else v for n, v in enumerate(values)]
            yield f"{index}: {'.'.join(map(str, path))} = {new!r}", _played(odd, streamed)


def without(upstream: UpstreamServer, call: Call, streamed: bool, names: tuple[str, ...]) -> Fault:
    """The usual answer, or its events, without these keys wherever they are."""

    def cut(value: Any) -> Any:
        if isinstance(value, list):
            return [cut(one) for one in value]
        if isinstance(value, dict):
            return {key: cut(one) for key, one in value.items() if key not in names}
        return value

    return _played(cut(_recorded(upstream, call, Reply(), streamed)), streamed)


def _recorded(upstream: UpstreamServer, call: Call, reply: Reply, streamed: bool) -> list[Any]:
    """The answer, or its events."""
    if not streamed:
        return [upstream.answer(call, reply)]
    lines = b"".join(upstream.events(call, reply)).splitlines()
    data = (line[5:].strip() for line in lines if line.startswith(b"data:"))
    return [json.loads(one) for one in data if one != b"[DONE]"]


def _played(values: list[Any], streamed: bool) -> Fault:
    if streamed:
        return Fault(body=stream(*values), content_type=EVENTS)
    return Fault(body=dump(values[0]))


#: The places that hold text, or that say whether a text is reasoning.
_HOLDERS = ("choices", "message", "delta", "content", "candidates", "parts", "type", "thought")


def _is_no_text(path: tuple[Any, ...], new: Any) -> bool:
    """Whether it takes text away, or its kind, in a way that the format allows."""
    holder = path[-1] in _HOLDERS or isinstance(path[-1], int)
    empty = new in (..., None, [], {}, [[]], {"a": [1]})
    return (holder and empty) or (path[-1] == "text" and new is ...)


async def broken(
    llm: AsyncClient,
    upstream: UpstreamServer,
    model: str,
    streamed: bool,
    count: int,
    expected: Callable[[str], bool],
) -> dict[str, Any]:
    """The mutations of which neither the right text nor a typed error comes."""
    reply = Reply("grüße", reasoning="because")
    upstream.default = reply
    assert await outcome(llm, model, streamed) == "grüße"
    call = upstream.history[-1]
    found: dict[str, Any] = {}
    for name, fault in mutations(upstream, call, reply, streamed, count):
        upstream.default = fault
        got = await outcome(llm, model, streamed)
        fine = expected(got) if isinstance(got, str) else got[0] not in ("INTERNAL", "UNKNOWN")
        if not fine:
            found[name] = got
    return found
