"""Bodies that hold a normal answer in OpenAI's format in an unusual frame, or no answer at all."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass, field
from typing import Any

from tests.support.upstreams.answers import EVENTS, UNREADABLE, Odd, dump
from tests.support.upstreams.server import Fault

BOM = b"\xef\xbb\xbf"
JSON = "application/json"

_USUAL = Odd("ok")
_WHOLE, _STREAM = _USUAL.whole(), _USUAL.events()
_CHUNKS = [line[6:] for line in _STREAM.splitlines() if line.startswith(b"data: {")]


@dataclass(frozen=True)
class Frame:
    """A body. expected: the text, or the code and reason of the error. requests: how many the
    call takes; more than one only if there is no answer that was paid for."""

    body: bytes
    expected: str | tuple[str, str] = "ok"
    content_type: str = JSON
    headers: dict[str, str] = field(default_factory=dict)
    requests: int = 1

    def fault(self, streamed: bool) -> Fault:
        """The body as a step of the upstream."""
        return Fault(body=self.body, content_type=self.content_type, headers=self.headers)


def _none(body: bytes, content_type: str = JSON) -> Frame:
    return Frame(body, UNREADABLE, content_type, requests=2)


_NOTHING = {
    "an empty body": _none(b""),
    "a page": _none(b"<html>Welcome", "text/html"),
    "a page with the type of JSON": _none(b"<html>Welcome"),
    **{word: _none(word.encode()) for word in ("null", "[]", "{}", "7", "true", '"text"')},
}

WHOLE = _NOTHING | {
    "a byte order mark": Frame(BOM + _WHOLE),
    "blanks": Frame(b" \n \n" + _WHOLE + b"\n"),
    "a list": Frame(b"[" + _WHOLE + b"]"),
    "headers outside ASCII": Frame(_WHOLE, headers={"X-City": "Zürich 😀"}),
    "a stream": Frame(_STREAM, UNREADABLE, EVENTS),
    "two answers": Frame(_WHOLE + _WHOLE, UNREADABLE),
    "an answer and more": Frame(_WHOLE + b"\n\x00", UNREADABLE),
    "comments alone": _none(b": wait\n\n: wait\n\n", EVENTS),
}

STREAMED = _NOTHING | {
    "a byte order mark": Frame(BOM + _STREAM, content_type=EVENTS),
    "no mark, no last line break": Frame(
        b"\n\n".join(b"data: " + chunk for chunk in _CHUNKS[:-1]), content_type=EVENTS
    ),
    "a line for each chunk": Frame(b"\n".join(_CHUNKS)),
    "a line for each chunk, with the type of events": Frame(
        b"\n".join(_CHUNKS), content_type=EVENTS
    ),
    "headers outside ASCII": Frame(_STREAM, content_type=EVENTS, headers={"X-City": "Zürich"}),
    "an event that is not JSON": Frame(b"data: {'a': 1}\n\n" + _STREAM, UNREADABLE, EVENTS),
    "comments alone": _none(b": wait\n\n: wait\n\n", EVENTS),
}

#: Compressed answers. litellm's transport refuses them, because it cannot bound their size.
PACKED = {
    False: Frame(gzip.compress(_WHOLE), UNREADABLE, JSON, {"Content-Encoding": "gzip"}),
    True: Frame(gzip.compress(_STREAM), UNREADABLE, EVENTS, {"Content-Encoding": "gzip"}),
}


def _choice(index: int, text: str, **more: Any) -> dict[str, Any]:
    return {"index": index, "message": {"content": text}, "delta": {"content": text}, **more}


def _event(*choices: dict[str, Any]) -> bytes:
    return b"data: " + dump({"id": "gen-1", "choices": choices}) + b"\n\n"


_END: dict[str, Any] = {"finish_reason": "stop"}
_MARK = b"data: [DONE]\n\n"

#: Several choices although one was requested. Their texts are never mixed.
SEVERAL_WHOLE = {
    "in order": Frame(dump({"choices": [_choice(0, "ok", **_END), _choice(1, "no", **_END)]})),
    "reversed": Frame(dump({"choices": [_choice(1, "no", **_END), _choice(0, "ok", **_END)]})),
    "the second alone": Frame(dump({"choices": [_choice(1, "ok", **_END)]})),
}
SEVERAL_STREAMED = {
    "side by side": Frame(
        _event(_choice(0, "o"), _choice(1, "n"))
        + _event(_choice(1, "o", **_END), _choice(0, "k", **_END))
        + _MARK,
        content_type=EVENTS,
    ),
    "in turn": Frame(
        _event(_choice(0, "o")) + _event(_choice(1, "n")) + _event(_choice(0, "k", **_END)) + _MARK,
        UNREADABLE,
        EVENTS,
    ),
    "the second alone": Frame(
        _event(_choice(1, "o")) + _event(_choice(1, "k", **_END)) + _MARK, content_type=EVENTS
    ),
}

_DEEP = b'{"error":' * 2_000 + b"{}" + b"}" * 2_000
_PAY = {"error": {"message": "pay \ud83d"}}

#: Bodies of an error, and the end of its message.
ERRORS: dict[str, tuple[bytes, str]] = {
    "usual": (dump({"error": {"message": "pay"}}), "pay"),
    "a surrogate": (dump(_PAY), "pay \ufffd"),
    "in lists": (dump([{"error": [["pay"]]}]), "pay"),
    "in errors": (dump({"error": {"error": {"error": {"message": "pay"}}}}), "pay"),
    "several": (dump({"errors": [{"message": "pay"}, {"message": "soon"}]}), "pay; soon"),
    "JSON in the message": (dump({"error": {"message": dump({"error": "pay"}).decode()}}), "pay"),
    "JSON in JSON in a list": (
        dump([{"error": {"message": json.dumps(json.dumps([{"detail": "pay"}]))[1:-1]}}]),
        '\\"pay\\"',
    ),
    "behind a gateway": (
        dump({"error": {"message": "failed", "metadata": {"raw": '{"error":{"message":"pay"}}'}}}),
        "failed: pay",
    ),
    "behind a gateway, text": (
        dump({"error": {"message": "failed", "metadata": {"raw": "pay"}}}),
        "failed: pay",
    ),
    "an error and a message": (dump({"error": "Bad", "message": "pay"}), "Bad: pay"),
    "an error's state": (dump({"base_resp": {"status_code": 1008, "status_msg": "pay"}}), "pay"),
    "a problem": (dump({"type": "about:blank", "title": "pay", "status": 402}), "pay"),
    "fields that are wrong": (dump({"detail": [{"loc": ["x"], "msg": "pay"}]}), "pay"),
    "another spelling": (dump({"errorMessage": "pay", "__type": "Payment"}), "pay"),
    "an object": (dump({"error": {"message": {"a": [1]}}}), '{"a": [1]}'),
    "a number": (dump({"error": 7}), "7"),
    "a byte order mark": (BOM + dump({"error": {"message": "pay"}}), "pay"),
    "Latin-1": ('{"error":{"message":"größe"}}'.encode("latin-1"), "gr\ufffd\ufffde"),
    "NaN": (b'{"error": {"message": "pay", "code": NaN}}', "pay"),
    "another error's name": (
        dump({"error": {"type": "overloaded_error", "message": "pay"}}),
        "pay",
    ),
    "too deep": (_DEEP, "HTTP 402"),
    "a page": (
        b"<!doctype html><html><head><title>No</title><style>p {}</style></head><body><h1>No</h1>"
        b"<p>You must <b>pay</b>&nbsp;now<script>x()</script></html>",
        "HTTP 402 Payment Required: No You must pay now",
    ),
    "an empty page": (b"<html></html>", "HTTP 402"),
    "text": (b"you must pay\n", "HTTP 402 Payment Required: you must pay"),
    "half of a character": (b"pay\xff", "HTTP 402 Payment Required: pay\ufffd"),
    "bytes": (b"pay\x00\x01", "HTTP 402"),
    "Python's": (b"{'error': 'pay'}", "{'error': 'pay'}"),
    "nothing": (b"", "HTTP 402"),
    "long": (json.dumps({"error": {"message": "pay " + "x" * 200_000}}).encode(), "pay xxx"),
}
