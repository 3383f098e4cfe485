"""Answers of every format with one wrong field."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

from tests.support.upstreams.server import Call, Fault, Reply, UpstreamServer


def nest(levels: int) -> Any:
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


class Missing:
    """The field is not there."""


#: What replaces a field.
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


Events = list[tuple[bytes, Any]]


def mutate(
    upstream: UpstreamServer, asked: Call, reply: Reply, streamed: bool
) -> Iterator[tuple[str, Fault]]:
    """Yield each answer with one wrong field, and where it is."""
    events = _list_events(upstream, asked, reply, streamed)
    for index, (_, data) in enumerate(events):
        for path in list_paths(data):
            for value in VALUES:
                yield _mutate(events, index, path, value, streamed)


def mutate_randomly(
    upstream: UpstreamServer, asked: Call, reply: Reply, streamed: bool, dice: random.Random
) -> tuple[str, Fault, Path, Any]:
    """Return one such answer, and the path and value of its wrong field."""
    events = _list_events(upstream, asked, reply, streamed)
    places = [(index, path) for index, (_, data) in enumerate(events) for path in list_paths(data)]
    index, path = dice.choice(places)
    value = dice.choice(VALUES)
    return *_mutate(events, index, path, value, streamed), path, value


def _list_events(upstream: UpstreamServer, asked: Call, reply: Reply, streamed: bool) -> Events:
    """The events of a stream, as split_event does; a whole answer is one of them."""
    if streamed:
        return [split_event(event) for event in upstream.events(asked, reply)]
    return [(b"", upstream.answer(asked, reply))]


def _mutate(
    events: Events, place: int, path: Path, value: Any, streamed: bool
) -> tuple[str, Fault]:
    changed = list(events)
    changed[place] = events[place][0], change(events[place][1], path, value)
    end = b"\n\n" if streamed else b""
    pieces = [
        before if data is None else before + json.dumps(data).encode() + end
        for before, data in changed
    ]
    kind = "text/event-stream" if streamed else "application/json"
    where = f"event {place} {path}" if streamed else f"{path}"
    return f"{where} = {str(value)[:40]}", Fault(body=b"".join(pieces), content_type=kind)
