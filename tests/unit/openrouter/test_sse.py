"""Server-sent events, however the bytes are cut."""

from __future__ import annotations

import pytest

from services.openrouter import sse

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
    decoder = sse.Decoder()
    pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
    assert [data for piece in pieces for data in decoder.feed(piece)] == events


def test_a_line_that_never_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_LINE", 100)
    decoder = sse.Decoder()
    assert list(decoder.feed(b"data: " + b"x" * 90)) == []
    with pytest.raises(ValueError, match="100 bytes"):
        list(decoder.feed(b"x" * 10))
