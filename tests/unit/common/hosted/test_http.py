"""Server-sent events, wherever the bytes are cut."""

from __future__ import annotations

import pytest

from services.common.errors import UpstreamUnavailable
from services.common.hosted.events import EventDecoder, holds_events, is_json

CASES = [
    (b"data: a\n\n", [b"a"]),
    (b"data:a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"]),
    (b"data: a\r\rdata: b\r\r\n", [b"a", b"b"]),
    (b": OPENROUTER PROCESSING\n\ndata: a\n\n", [b"a"]),
    (b"event: x\nid: 1\ndata: a\nretry: 3\n\n", [b"a"]),
    (b"data: a\ndata: b\n\n", [b"a\nb"]),
    (b"data:  a\n\n", [b" a"]),
    (b"\n\n\ndata: a\n\n\n\n", [b"a"]),
    ("data: grüße\n\n".encode(), ["grüße".encode()]),
    (b"data: never ended\n", []),
    (b"", []),
]


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
@pytest.mark.parametrize(("stream", "events"), CASES)
def test_events(stream: bytes, events: list[bytes], size: int) -> None:
    decoder = EventDecoder(1000)
    pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
    assert [data for piece in pieces for data in decoder.feed(piece)] == events


@pytest.mark.parametrize("pieces", [[b"data: ", b"x" * 95], [b"data: " + b"x" * 60 + b"\n"] * 2])
def test_an_endless_event_is_refused(pieces: list[bytes]) -> None:
    *before, last = pieces
    decoder = EventDecoder(100)
    for piece in (b": wait\n\n" * 20, b"data: a\n\n" * 20, *before):
        list(decoder.feed(piece))
    with pytest.raises(UpstreamUnavailable, match="max_answer_bytes"):
        list(decoder.feed(last))


def test_a_byte_order_mark_and_an_unfinished_event_are_read() -> None:
    decoder = EventDecoder(100)
    assert list(decoder.feed(b"\xef\xbb\xbfdata: a\n\ndata: b")) == [b"a"]
    assert list(decoder.end()) == [b"b"]
    assert list(EventDecoder(100).end()) == []


def test_json_and_event_streams_are_recognised() -> None:
    mark = b"\xef\xbb\xbf"
    assert all(map(is_json, (b" {", b"[", mark + b"{")))
    assert not any(map(is_json, (b"", b"null", b"data: {", mark)))
    assert all(map(holds_events, (b"data: {}", mark + b"data:{", b": a\n\ndata:  {}\n\n")))
    assert not any(map(holds_events, (b"", b": a\n\ndata: [DONE]\n\n", b"{}\ndata: {", b"<p>")))
