"""Event streams in every legal framing, and in those that providers get wrong: no text is lost.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from services.common.hosted.events import EventDecoder
from tests.support.upstreams.server import Fault, Reply
from tests.unit.hosted.conftest import Provider, Start, call

TEXT = "né \N{GRINNING FACE} of nine"


def replace(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    return lambda body: body.replace(old, new)


FRAMINGS: dict[str, Callable[[bytes], bytes]] = {
    "unchanged": lambda body: body,
    "CRLF": replace(b"\n", b"\r\n"),
    "CR": replace(b"\n", b"\r"),
    "a byte order mark": lambda body: b"\xef\xbb\xbf" + body,
    "no space": replace(b"data: ", b"data:"),
    "comments": replace(b"data: ", b": still working\ndata: "),
    "comment events": replace(b"data: ", b": still working\n\ndata: "),
    "ids and retries": replace(b"data: ", b"id: 7\nretry: 100\ndata: "),
    "unknown fields": replace(b"data: ", b"color: red\ndata: "),
    "empty data": replace(b"data: ", b"data:\n\ndata: "),
    "blank lines": replace(b"\n\n", b"\n\n\n\n"),
    "data on two lines": replace(b'{"', b'{\ndata: "'),
    "no blank lines": replace(b"\n\n", b"\n"),
    "no last blank line": lambda body: body.rstrip(b"\n"),
    "one last line break": lambda body: body.rstrip(b"\n") + b"\n",
    "leading blank lines": lambda body: b"\n\n" + body,
}

TYPES = ["text/event-stream", "text/event-stream; charset=utf-8", "text/plain", ""]


@pytest.mark.parametrize("name", FRAMINGS)
async def test_no_text_is_lost(start: Start, upstream: Any, provider: Provider, name: str) -> None:
    async with start(max_attempts=1) as llm:
        await call(llm, True, provider.model)
        events = upstream.events(upstream.history[0], Reply(TEXT, pieces=list(TEXT)))
        body = FRAMINGS[name](b"".join(events))
        for kind in TYPES if name in ("unchanged", "CRLF") else TYPES[:1]:
            upstream.default = Fault(body=body, content_type=kind)
            assert await call(llm, True, provider.model) == TEXT, kind


def frame(events: list[bytes], chance: random.Random) -> bytes:
    """Write events in a random legal framing."""
    end = chance.choice([b"\n", b"\r\n", b"\r"])
    lines: list[bytes] = [b"\xef\xbb\xbf"] if chance.random() < 0.2 else [b""]
    for event in events:
        for _ in range(chance.randrange(3)):
            lines.append(chance.choice([b": c", b"id: 1", b"event: e", b"retry: 5", b"data2: x"]))
            lines[-1] += end
        for line in event.split(b"\n"):
            lines.append(b"data:" + chance.choice([b"", b" "]) + line + end)
            if line.startswith(b" "):  # its first space would be taken for the separator
                lines[-1] = b"data: " + line + end
        lines += [end] * chance.randrange(1, 3)
    return b"".join(lines)


def test_any_framing_and_any_split_of_the_bytes() -> None:
    for seed in range(500):
        chance = random.Random(seed)  # noqa: S311 - a test
        letters = [b"a", b" ", b"\xc3\xa9", b"\n", b"{", b":"]
        events = [
            b"".join(chance.choices(letters, k=chance.randrange(1, 12))) + b"."
            for _ in range(chance.randrange(1, 8))
        ]
        body = frame(events, chance)
        decoder, found = EventDecoder(10_000), []
        while body:
            size = chance.choice([1, 1, 2, 5, 1000])
            found += decoder.feed(body[:size])
            body = body[size:]
        assert [*found, *decoder.end()] == events, seed
