"""Checks what a hosted service makes of unusual answers: tables of them, and mutations."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from arena_llm import ArenaError, AsyncClient
from arena_llm.types import Completion
from tests.support.upstreams.answers import EVENTS, dump, stream
from tests.support.upstreams.server import Call, Fault, Reply, UpstreamServer

#: The end of a call: its text, or the code and reason of its error.
Result = str | tuple[str, str]


class Row(Protocol):
    """An unusual answer. expected: the end of the call. requests: how many it takes."""

    @property
    def expected(self) -> Result: ...

    @property
    def requests(self) -> int: ...

    def fault(self, streamed: bool) -> Fault: ...


async def ask(llm: AsyncClient, model: str, streamed: bool, **options: Any) -> Completion:
    """Generate one completion. The deltas of a stream must add up to its text."""
    if not streamed:
        return await llm.generate(model, "hi", **options)
    stream = llm.stream(model, "hi", **options)
    text = "".join([delta async for delta in stream])
    assert stream.completion is not None
    assert stream.completion.text == text
    return stream.completion


async def result(llm: AsyncClient, model: str, streamed: bool, **options: Any) -> Result:
    """The text or the error of one call."""
    try:
        return (await ask(llm, model, streamed, **options)).text
    except ArenaError as error:
        return error.code, error.reason


async def unexpected(
    llm: AsyncClient, upstream: UpstreamServer, model: str, table: Mapping[str, Row], streamed: bool
) -> dict[str, Any]:
    """The rows of a table whose call does not end as expected, with the end and the requests."""
    rows: dict[str, Any] = {}
    for name, row in table.items():
        upstream.history.clear()
        upstream.default = row.fault(streamed)
        end = await result(llm, model, streamed), len(upstream.history)
        if end != (row.expected, row.requests):
            rows[name] = end
    return rows


# --- mutations -----------------------------------------------------------------------

_VALUES: tuple[Any, ...] = (..., None, 7, -1, 10**30, True, [], {}, [[]], {"a": [1]}, float("nan"))


def _paths(value: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path to every place inside a JSON value."""
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield (*before, key)
            yield from _paths(value[key], (*before, key))


def _mutate(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """A copy with another value at a place. `...` removes the place."""
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


def _mutations(
    upstream: UpstreamServer, call: Call, reply: Reply, streamed: bool, count: int
) -> Iterator[tuple[str, Fault]]:
    """Yield `count` answers with one undocumented value each. They are the same in each run."""
    dice = random.Random(7)  # noqa: S311 - not for security
    values = _record(upstream, call, reply, streamed)
    places = [(n, path) for n, value in enumerate(values) for path in _paths(value)]
    mutations = [(*place, new) for place in places for new in _VALUES]
    dice.shuffle(mutations)
    for index, path, new in mutations[:count]:
        if not _removes_text(path, new):
            odd = [_mutate(v, path, new) if n == index else v for n, v in enumerate(values)]
            yield f"{index}: {'.'.join(map(str, path))} = {new!r}", _replay(odd, streamed)


def without_keys(
    upstream: UpstreamServer, call: Call, streamed: bool, names: tuple[str, ...]
) -> Fault:
    """The usual answer without these keys, at any depth."""

    def cut(value: Any) -> Any:
        if isinstance(value, list):
            return [cut(item) for item in value]
        if isinstance(value, dict):
            return {key: cut(item) for key, item in value.items() if key not in names}
        return value

    return _replay(cut(_record(upstream, call, Reply(), streamed)), streamed)


def _record(upstream: UpstreamServer, call: Call, reply: Reply, streamed: bool) -> list[Any]:
    """The answer as a list of one, or the events of the stream."""
    if not streamed:
        return [upstream.answer(call, reply)]
    lines = b"".join(upstream.events(call, reply)).splitlines()
    data = (line[5:].strip() for line in lines if line.startswith(b"data:"))
    return [json.loads(item) for item in data if item != b"[DONE]"]


def _replay(values: list[Any], streamed: bool) -> Fault:
    if streamed:
        return Fault(body=stream(*values), content_type=EVENTS)
    return Fault(body=dump(values[0]))


#: Places that hold text, or that say whether a text is reasoning.
_HOLDERS = ("choices", "message", "delta", "content", "candidates", "parts", "type", "thought")


def _removes_text(path: tuple[Any, ...], new: Any) -> bool:
    """Whether a mutation removes text, or changes its kind, in a way that the format allows."""
    holder = path[-1] in _HOLDERS or isinstance(path[-1], int)
    empty = new in (..., None, [], {}, [[]], {"a": [1]})
    return (holder and empty) or (path[-1] == "text" and new is ...)


async def broken_mutations(
    llm: AsyncClient,
    upstream: UpstreamServer,
    model: str,
    streamed: bool,
    count: int,
    expected: Callable[[str], bool],
    reply: Reply | None = None,
) -> dict[str, Any]:
    """The mutations whose call ends with neither the right text nor a typed error.

    reply: what is mutated; by default one with a text and reasoning.
    """
    reply = reply or Reply("grüße", reasoning="because")
    upstream.default = reply
    assert expected(str(await result(llm, model, streamed)))
    call = upstream.history[-1]
    broken: dict[str, Any] = {}
    for name, fault in _mutations(upstream, call, reply, streamed, count):
        upstream.default = fault
        end = await result(llm, model, streamed)
        fine = expected(end) if isinstance(end, str) else end[0] not in ("INTERNAL", "UNKNOWN")
        if not fine:
            broken[name] = end
    return broken
