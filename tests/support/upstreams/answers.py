"""Answers in OpenAI's format that differ from the documentation of chat completions.

Each was reported for some provider, gateway or local server, or is similar to such a report.
OpenRouter, OpenAI and most other providers speak this format.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.support.upstreams.server import Fault

UNREADABLE = ("UNAVAILABLE", "UPSTREAM_UNAVAILABLE")
MEDIA = ("UNIMPLEMENTED", "UNSUPPORTED")
EVENTS = "text/event-stream"

_USAGE = {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17}


@dataclass(frozen=True)
class Odd:
    """One unusual answer, whole and as a stream.

    expected: the text, or the code and reason of the error.
    message: of the whole answer. deltas: of the stream. choice: more keys of the last choice.
    top: more keys of the answer and of each event. `...` removes a key.
    """

    expected: str | tuple[str, str]
    message: Any = field(default_factory=lambda: {"role": "assistant", "content": "ok"})
    deltas: Sequence[Any] = ({"content": "o"}, {"content": "k"})
    choice: Mapping[str, Any] = field(default_factory=dict)
    top: Mapping[str, Any] = field(default_factory=dict)
    requests: int = 1  # an answer is never bought twice

    def whole(self) -> bytes:
        """The body of the whole answer."""
        choice = {"index": 0, "message": self.message, "finish_reason": "stop", **self.choice}
        return dump(_with({**_head(), "choices": [choice], "usage": _USAGE}, self.top))

    def events(self) -> bytes:
        """The body of the stream."""
        choices = [{"index": 0, "delta": delta, "finish_reason": None} for delta in self.deltas]
        choices += [{"index": 0, "delta": {}, "finish_reason": "stop", **self.choice}]
        chunks = [{**_head(), "choices": [choice]} for choice in choices]
        chunks += [{**_head(), "choices": [], "usage": _USAGE}]
        return stream(*(_with(chunk, self.top) for chunk in chunks))

    def fault(self, streamed: bool) -> Fault:
        """The answer as a step of the upstream."""
        if streamed:
            return Fault(body=self.events(), content_type=EVENTS)
        return Fault(body=self.whole())


def dump(value: Any) -> bytes:
    """JSON as bytes, with NaN as a literal and a lone surrogate as an escape."""
    return json.dumps(value).encode()


def stream(*events: Any) -> bytes:
    """Events and the end mark as bytes."""
    return b"".join(b"data: %s\n\n" % dump(event) for event in events) + b"data: [DONE]\n\n"


def _head() -> dict[str, Any]:
    return {"id": "gen-1", "object": "chat.completion", "created": 1, "model": "gpt-4o-mini"}


def _with(body: dict[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in {**body, **more}.items() if value is not ...}


def _content(value: Any, *deltas: Any) -> dict[str, Any]:
    """Content of any type. deltas: its pieces in a stream; by default one."""
    return {
        "message": {"role": "assistant", "content": value},
        "deltas": [{"content": delta} for delta in deltas or (value,)],
    }


def _fields(**fields: Any) -> dict[str, Any]:
    return {"message": {"role": "assistant", **fields}, "deltas": [fields]}


def _text(text: Any) -> dict[str, Any]:
    return {"type": "text", "text": text}


_CALL = {"index": 0, "id": "call_1", "type": "function"}
_CALL |= {"function": {"name": "move", "arguments": "{}"}}

#: Content of other types than text.
CONTENT = {
    "parts": Odd("ok", **_content([_text("o"), _text("k")], [_text("o")], [_text("k")])),
    "strings": Odd("ok", **_content(["o", "k"], ["o"], ["k"])),
    "nested parts": Odd("ok", **_content([[_text("o")], {"content": [_text("k")]}])),
    "one part": Odd("ok", **_content(_text("ok"))),
    "output text": Odd("ok", **_content([{"type": "output_text", "text": "ok"}])),
    "a value in a part": Odd("ok", **_content([_text({"value": "ok", "annotations": []})])),
    "text beside an image": Odd("ok", **_content([_text("ok"), {"type": "image_url"}])),
    "parts, one null": Odd("ok", **_content([None, _text("ok"), _text(None)])),
    "an image alone": Odd(MEDIA, **_content([{"type": "image_url", "image_url": {"url": "x"}}])),
    "a refusal among parts": Odd("", **_content([{"type": "refusal", "refusal": "no"}])),
    "a number": Odd(UNREADABLE, **_content(4)),
    "an object": Odd(UNREADABLE, **_content({"choice": "4"})),
    "a part that is a number": Odd(UNREADABLE, **_content([_text(4)])),
    "truth": Odd(UNREADABLE, **_content(True)),
}

#: Answers without text.
NO_TEXT = {
    "tokens without a text": Odd(UNREADABLE, **_content("")),
    "tokens, null": Odd(UNREADABLE, **_content(None)),
    "tokens in an unknown field": Odd(UNREADABLE, **_fields(utterance="ok")),
    "no message": Odd(UNREADABLE, message=None, deltas=[None]),
    "a tool": Odd("", **_fields(content=None, tool_calls=[_CALL]), choice={}),
    "a function": Odd("", **_fields(content="", function_call=_CALL["function"])),
    "a refusal": Odd("", **_fields(content=None, refusal="I will not")),
    "no text and no tokens": Odd("", **_content(""), top={"usage": {"completion_tokens": 0}}),
    "no text and no usage": Odd("", **_content(""), top={"usage": None}),
    "the end token alone": Odd("", **_content(""), top={"usage": {"completion_tokens": 1}}),
    "cut while it reasons": Odd("", **_content(""), choice={"finish_reason": "length"}),
    "filtered": Odd("", **_content(""), choice={"finish_reason": "content_filter"}),
}

#: Text that UTF-8 cannot encode, and text that can only be encoded with the next delta.
SURROGATES = {
    "a lone one": Odd("a\ufffdb", **_content("a\ud83db")),
    "a lone low one": Odd("\ufffdb", **_content("\ude00b")),
    "a lone one at the end": Odd("a\ufffd", **_content("a\ud83d")),
    "a pair": Odd("a😀b", **_content("a😀b", "a\ud83d", "\ude00b")),
    "a pair over an empty delta": Odd("😀", **_content("😀", "\ud83d", "", "\ude00")),
    "two in a row": Odd("\ufffd😀", **_content("\ud83d😀", "\ud83d", "\ud83d", "\ude00")),
    "in an id": Odd("ok", top={"id": "gen-\ud83d"}),
    "in a model": Odd("ok", top={"model": "m\udc00"}),
    "in a finish": Odd("ok", choice={"finish_reason": "st\ud800op"}),
}

#: Fields that a completion does not need, with values of unusual types.
UNNEEDED = (
    {
        f"{key}: {json.dumps(value)[:20]}": Odd("ok", top={key: value})
        for key, values in {
            "id": (None, 7, 10**30, [], {"a": 1}, True, 1.5),
            "model": (None, 7, [], {}),
            "created": (None, "yesterday", 1.5, 10**30, [], -1, float("nan")),
            "object": (None, 7, []),
            "usage": (None, [], "none", 7, {}, {"prompt_tokens": "12"}, {"prompt_tokens": None}),
            "system_fingerprint": (7, [], {}),
            "service_tier": (7, [], {}),
            "citations": (7, [[[]]], {"a": {}}),
            "error": (None, {}, "", []),
            "extra": (7, [[[]]], {"a": {}}),
        }.items()
        for value in values
    }
    | {
        f"choice's {key}: {json.dumps(value)[:20]}": Odd("ok", choice={key: value})
        for key, values in {
            "index": (None, "0", 1.5, [], -1),
            "logprobs": ([], {}, 7, {"content": 7}, {"content": [{"token": 7}]}, "none"),
            "finish_reason": ("eos", "tool_calls", "STOP", 7, ["stop"]),
            "matched_stop": (7, None, []),
            "native_finish_reason": (7, None, []),
            "content_filter_results": (7, [], {}),
        }.items()
        for value in values
    }
    | {
        f"message's {key}: {json.dumps(value)[:20]}": Odd(
            "ok", **_fields(content="ok", **{key: value})
        )
        for key, values in {
            "role": (None, 7, "model", []),
            "reasoning": (None, 7, [], {}, [{"type": "text", "text": "because"}]),
            "reasoning_content": (None, 7, [], {}),
            "reasoning_details": (None, 7, [], {}, [7]),
            "tool_calls": (None, [], {}),
            "function_call": (None, {}),
            "refusal": (None, 7, [], ""),
            "annotations": (None, 7, {}, [7]),
            "audio": (None,),
            "images": (None, [], 7),
        }.items()
        for value in values
    }
)

#: Token counts: as sent, and as read.
COUNTS: dict[str, tuple[Any, int | None]] = {
    "an integer": (12, 12),
    "a whole float": (12.0, 12),
    "text": ("12", 12),
    "text in blanks": (" 12 ", 12),
    "half a token": (12.5, None),
    "words": ("twelve", None),
    "negative": (-12, None),
    "over int32": (2**31, None),
    "over int64": (2**63, None),
    "10^23": (10**23, None),
    "NaN": (float("nan"), None),
    "infinite": (float("inf"), None),
    "null": (None, None),
    "truth": (True, None),
    "a list": ([12], None),
    "an object": ({"n": 12}, None),
}

#: Costs: as sent, and as read.
COSTS: dict[str, tuple[Any, str | None]] = {
    "a number": (0.25, "0.25"),
    "nothing": (0, "0"),
    "text": ("0.25", "0.25"),
    "an object": ({"amount": 0.25}, None),
    "an object with its total": ({"input_tokens_cost": 0.05, "total_cost": 0.25}, "0.25"),
    "words": ("free", None),
    "NaN": (float("nan"), None),
    "NaN as text": ("NaN", None),
    "infinite": (float("inf"), None),
    "minus infinite": (float("-inf"), None),
    "negative": (-0.25, None),
    "absurd": (1e300, None),
    "10^400": (10**400, None),
    "null": (None, None),
    "truth": (True, None),
    "a list": ([0.25], None),
}

INSUFFICIENT = ("FAILED_PRECONDITION", "INSUFFICIENT_CREDITS")

#: Bodies of an error that hold the code 402. The HTTP status may be 402 or 200.
ERRORS: dict[str, Any] = {
    "usual": {"error": {"code": 402, "message": "pay"}},
    "code as text": {"error": {"code": "402", "message": "pay"}},
    "code as float": {"error": {"code": 402.0, "message": "pay"}},
    "status instead": {"error": {"status": 402, "message": "pay"}},
    "message an object": {"error": {"code": 402, "message": {"text": "pay"}}},
    "message a list": {"error": {"code": 402, "message": ["pay"]}},
    "message null": {"error": {"code": 402, "message": None}},
    "message with a surrogate": {"error": {"code": 402, "message": "pay \ud83d"}},
    "metadata a list": {"error": {"code": 402, "message": "pay", "metadata": ["pay"]}},
    "metadata text": {"error": {"code": 402, "message": "pay", "metadata": "pay"}},
    "type a number": {"error": {"code": 402, "message": "pay", "type": 7, "param": []}},
    "choices null": {"error": {"code": 402, "message": "pay"}, "choices": None, "usage": []},
    "choices an object": {"error": {"code": 402, "message": "pay"}, "choices": {}, "id": 7},
    "in the choice": {"choices": [{"error": {"code": 402, "message": "pay"}, "message": None}]},
    "in a list": [{"error": {"code": 402, "message": "pay"}}],
    "JSON in text": {"error": json.dumps({"code": 402, "message": "pay"})},
}

#: Bodies of an error with HTTP status 402, including those that do not hold the code.
STATUS_ERRORS: dict[str, Any] = ERRORS | {
    "text": {"error": "pay"},
    "a list": {"error": ["pay"]},
    "code null": {"error": {"code": None, "message": "pay"}},
    "code a list": {"error": {"code": [402], "message": "pay"}},
    "code huge": {"error": {"code": 10**30, "message": "pay"}},
    "code NaN": {"error": {"code": float("nan"), "message": "pay"}},
    "errors": {"errors": [{"message": "pay"}]},
    "detail": {"detail": {"msg": "pay"}},
    "message alone": {"message": ["pay"]},
    "text alone": "pay",
    "a number": 7,
    "null": None,
    "nothing": {},
}


def repeating(secret: str) -> dict[str, Odd]:
    """Answers that hold the secret in a place that the error repeats."""
    return {
        "a kind of content": Odd(UNREADABLE, **_content([{"type": secret}])),
        "a kind of media": Odd(MEDIA, **_content([{"type": f"image {secret}"}])),
        "the model": Odd(UNREADABLE, **_content(""), top={"model": secret}),
    }
