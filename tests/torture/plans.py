"""Hostile answers of a provider, and what a caller may then get."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tests.support.billing import STEPS
from tests.support.upstreams import answers, cases, frames
from tests.support.upstreams.answers import Odd
from tests.support.upstreams.mutations import Missing, mutate_randomly
from tests.support.upstreams.server import Fault, Reply, Step
from tests.torture.money import USUAL_COST
from tests.torture.providers import Asked, Plan

#: Reasons of errors by which a service says that its provider failed.
FAILED = frozenset(("UPSTREAM_UNAVAILABLE", "INTERRUPTED", "RATE_LIMITED"))
#: What any call may get while others are refused with 429, or with 402.
ALWAYS = frozenset(("RATE_LIMITED", "CREDITS_HELD"))

#: HTTP statuses by which litellm and openrouter see that there is no answer. Then 0 is paid.
_GAVE_UP = (408, 499, 504, 522, 524)


@dataclass(frozen=True)
class Trial:
    """A plan with its name.

    texts: says whether a dishonest text may be the answer; None: none may. reasons: of errors that
    may come. honest: whether an honest text may come. once: the answer may be bought only once.
    sent: what was wrong with the answers.
    """

    name: str
    plan: Plan
    reasons: frozenset[str] = frozenset()
    honest: bool = True
    texts: Callable[[str], bool] | None = None
    once: bool = False
    sent: list[str] = field(default_factory=list)


def _always(step: Step, cost: int) -> Plan:
    return lambda asked: (step, cost)


# --- tables of the unit tests: the outcome of each is known ------------------------------------

_ODD: Mapping[str, Odd] = {
    **answers.CONTENT, **answers.NO_TEXT, **answers.SURROGATES, **answers.UNNEEDED,
}  # fmt: skip


def from_table(dice: random.Random, streamed: bool, model: str) -> Trial:
    """An answer in OpenAI's format that differs from its documentation."""
    if dice.random() < 0.6:
        name, row = dice.choice(list(_ODD.items()))
        return _expect(name, row.expected, row.fault(streamed), USUAL_COST, once=True)
    tables: list[Mapping[str, Any]] = [frames.WHOLE, frames.SEVERAL_WHOLE]
    if streamed:
        tables = [frames.STREAMED, frames.SEVERAL_STREAMED]
    found = {name: row for table in tables for name, row in table.items()}
    if model.startswith("openrouter"):  # its streams must end with a mark
        found.pop("no mark, no last line break", None)
    name, frame = dice.choice(list(found.items()))
    once = frame.requests == 1
    return _expect(name, frame.expected, frame.fault(streamed), USUAL_COST * once, once=once)


def _expect(name: str, expected: Any, step: Step, cost: int, *, once: bool) -> Trial:
    if isinstance(expected, str):
        return Trial(name, _always(step, cost), ALWAYS, False, expected.__eq__, once)
    return Trial(name, _always(step, cost), ALWAYS | {expected[1]}, False, None, once)


def from_errors(dice: random.Random, streamed: bool, model: str) -> Trial:
    """An error of the provider in an unusual shape."""
    status = dice.choice([200, 402])
    bodies = answers.ERRORS if status == 200 else answers.STATUS_ERRORS
    name, body = dice.choice(list(bodies.items()))
    step = Fault(status, body=answers.dump(body))
    expected = ALWAYS | {answers.INSUFFICIENT[1]}
    return Trial(f"402 as {name}", _always(step, 0), expected, honest=False)


def from_usage(dice: random.Random, streamed: bool, model: str) -> Trial:
    """An answer with an unusual usage. Its cost is what can be read, or within the bound."""
    usage: dict[str, Any] = {"prompt_tokens": 12, "completion_tokens": 5}
    cost = USUAL_COST
    if model.startswith("openrouter"):
        name, (sent, read) = dice.choice(list(answers.COSTS.items()))
        usage["cost"] = sent
        if read is not None:
            cost = int(float(read) * 1e12)
    else:
        name, (sent, tokens) = dice.choice(list(answers.COUNTS.items()))
        usage["prompt_tokens"] = sent
        if tokens is not None:
            cost = tokens * 150_000 + 5 * 600_000
    step = Odd("ok", top={"usage": usage}).fault(streamed)
    return Trial(f"usage: {name}", _always(step, cost), ALWAYS, False, "ok".__eq__, True)


# --- faults ------------------------------------------------------------------------------------


def from_faults(dice: random.Random, streamed: bool, model: str) -> Trial:
    """A fault of the billing run, some times in a row, and then an honest answer."""
    name, (step, is_billed) = dice.choice(list(STEPS.items()))
    count = dice.randint(1, 4)

    def plan(asked: Asked) -> tuple[Step, int]:
        if asked.number >= count:
            return asked.reply, asked.cost
        # The usage is at the end of an answer, so that nobody sees it if the answer breaks off.
        return step, asked.cost * is_billed

    # A short outage is cured by the attempts. After a reset, one of them may meet a connection
    # that another call's reset has broken.
    cured = count < {"500": 3, "reset before the answer": 2}.get(name, 0)
    return Trial(name, plan, ALWAYS if cured else FAILED)


def from_stalls(dice: random.Random, streamed: bool, model: str) -> Trial:
    """An answer that stalls or never ends."""
    if dice.random() < 0.5:
        found = [
            (n, fault) for n, (is_stream, fault) in cases.STALLS.items() if is_stream == streamed
        ]
    else:
        found = [(n, row[1]) for n, row in cases.ENDLESS.items() if row[0] == streamed]
    if not streamed:
        found.append(("an outage", cases.ENDLESS["an outage"][1]))
    name, fault = dice.choice(found)
    cost = USUAL_COST * (fault.status < 400)
    reasons = FAILED | {"INVALID_REQUEST"}
    return Trial(f"stall: {name}", _always(fault, cost), reasons, honest=False)


def from_drip(dice: random.Random, streamed: bool, model: str) -> Trial:
    """A slow answer: right if it ends in time."""
    pause = dice.choice([0.01, 0.05, 0.1, 5.0])

    def plan(asked: Asked) -> tuple[Step, int]:
        return replace(asked.reply, pause=pause), asked.cost

    in_time = pause < 1
    return Trial(f"drip of {pause} s", plan, ALWAYS if in_time else FAILED)


def from_mutation(dice: random.Random, streamed: bool, model: str) -> Trial:
    """An honest answer with one wrong field: read, or refused, and bought once."""
    sent: list[tuple[Reply, Any]] = []
    names: list[str] = []

    def plan(asked: Asked) -> tuple[Step, int]:
        while True:
            name, fault, path, value = mutate_randomly(
                asked.upstream, asked.call, asked.reply, asked.streamed, dice
            )
            if not any("usage" in str(key) for key in path):  # what was billed would not be known
                break
        sent.append((asked.reply, value))
        names.append(name)
        return fault, asked.cost

    def is_read(text: str) -> bool:
        return any(_is_changed(text, reply, value) for reply, value in sent)

    reasons = FAILED | {"REFUSED_BY_PROVIDER"}
    return Trial("one wrong field", plan, reasons, True, is_read, True, names)


_NO_TEXT: list[Any] = [[None], [[]], {"a": 1}, [{"a": 1}], "x", "null"]


def _is_changed(text: str, reply: Reply, value: Any) -> bool:
    """Whether a text is an honest one with one piece, or all of it, replaced by a wrong value.

    The piece may be an empty one, before the first text of a stream.
    """
    meant = reply.text
    if isinstance(value, str) and text == value + meant:
        return True
    ends = [*range(0, len(meant), 7), len(meant)]
    middles = [
        text[begin : len(text) - len(meant[begin + 7 :])]
        for begin in ends
        if text.startswith(meant[:begin]) and text[begin:].endswith(meant[begin + 7 :])
    ]
    if isinstance(value, str) and (text == value or value in middles):
        return text != ""
    # A value without text may remove a piece: its text is missing, or its kind is unknown.
    nothing = not value or value is Missing or value in _NO_TEXT
    return nothing and text != "" and "" in middles


# --- below HTTP --------------------------------------------------------------------------------

_LINE = b"HTTP/1.1 200 OK\r\n"
_JSON = b"Content-Type: application/json\r\n"
_EVENTS = b"Content-Type: text/event-stream\r\n"


def _length(body: bytes, more: int = 0) -> bytes:
    return b"Content-Length: %d\r\n" % (len(body) + more)


def _chunked(body: bytes, size: bytes = b"%x") -> bytes:
    half = len(body) // 2
    pieces = (body[:half], body[half:])
    return b"".join(size % len(p) + b"\r\n" + p + b"\r\n" for p in pieces) + b"0\r\n\r\n"


#: What is sent for an answer's body and type.
_RAW: dict[str, Callable[[bytes, bytes], bytes]] = {
    "too short": lambda body, kind: _LINE + kind + _length(body, 50) + b"\r\n" + body,
    "too long": lambda body, kind: _LINE + kind + _length(body, -20) + b"\r\n" + body,
    "two lengths": lambda body, kind: (
        _LINE + kind + _length(body) + _length(body, 3) + b"\r\n" + body
    ),
    "a negative length": lambda body, kind: _LINE + kind + b"Content-Length: -5\r\n\r\n" + body,
    "a length in words": lambda body, kind: _LINE + kind + b"Content-Length: many\r\n\r\n" + body,
    "no length": lambda body, kind: _LINE + kind + b"Connection: close\r\n\r\n" + body,
    "length and chunks": lambda body, kind: (
        _LINE + kind + _length(body) + b"Transfer-Encoding: chunked\r\n\r\n" + _chunked(body)
    ),
    "chunks": lambda body, kind: (
        _LINE + kind + b"Transfer-Encoding: chunked\r\n\r\n" + _chunked(body)
    ),
    "chunks without sizes": lambda body, kind: (
        _LINE + kind + b"Transfer-Encoding: chunked\r\n\r\n" + _chunked(body, b"zz%x")
    ),
    "chunks that break off": lambda body, kind: (
        _LINE + kind + b"Transfer-Encoding: chunked\r\n\r\n" + _chunked(body)[:-30]
    ),
    "an unknown version": lambda body, kind: (
        b"HTTP/9.9 200 OK\r\n" + kind + _length(body) + b"\r\n" + body
    ),
    "no HTTP": lambda body, kind: b"SSH-2.0-OpenSSH_9.6\r\n" + body,
    "nothing": lambda body, kind: b"",
    "half a line": lambda body, kind: b"HTTP/1.1 2",
    "a status of 99999": lambda body, kind: (
        b"HTTP/1.1 99999 X\r\n" + _length(body) + b"\r\n" + body
    ),
    "many continues": lambda body, kind: (
        b"HTTP/1.1 100 Continue\r\n\r\n" * 500 + _LINE + kind + _length(body) + b"\r\n" + body
    ),
    "a zero in a header": lambda body, kind: (
        _LINE + kind + b"X-A: a\x00b\r\n" + _length(body) + b"\r\n" + body
    ),
    "a header without an end": lambda body, kind: _LINE + b"X-A: " + b"a" * 300_000,
    "5000 headers": lambda body, kind: (
        _LINE + kind + b"".join(b"X-%d: a\r\n" % n for n in range(5000)) + _length(body)
        + b"\r\n" + body
    ),
    "gzip that is none": lambda body, kind: (
        _LINE + kind + b"Content-Encoding: gzip\r\n" + _length(body) + b"\r\n" + body
    ),
    "an unknown coding": lambda body, kind: (
        _LINE + kind + b"Content-Encoding: rot13\r\n" + _length(body) + b"\r\n" + body
    ),
    "a charset that is wrong": lambda body, kind: (
        _LINE + kind.replace(b"\r\n", b"; charset=utf-16\r\n") + _length(body) + b"\r\n" + body
    ),
    "a bomb": lambda body, kind: (
        _LINE + kind + b"Content-Encoding: gzip\r\n" + _length(_BOMB) + b"\r\n" + _BOMB
    ),
    "half a character": lambda body, kind: (
        _LINE + kind + _length(body, -1) + b"\r\n" + body.replace("😀".encode(), b"\xf0\x9f\x98")
    ),
}  # fmt: skip
_BOMB = gzip.compress(b" " * 30_000_000)


def from_sockets(dice: random.Random, streamed: bool, model: str) -> Trial:
    """An honest answer in a broken frame. It is read, or refused."""
    name, make = dice.choice(list(_RAW.items()))

    def plan(asked: Asked) -> tuple[Step, int]:
        if asked.streamed:
            body, kind = b"".join(asked.upstream.events(asked.call, asked.reply)), _EVENTS
        else:
            answer = asked.upstream.answer(asked.call, asked.reply)
            body, kind = json.dumps(answer, ensure_ascii=False).encode(), _JSON
        raw = make(body, kind)
        return Fault(raw=raw or b" ", reset=not raw), asked.cost

    cut = (lambda text: text.endswith("\ufffd")) if name == "half a character" else None
    return Trial(f"HTTP: {name}", plan, FAILED, True, cut)


_RETRY = (
    "0",
    "1",
    "-1",
    "NaN",
    "1e400",
    "99999999999",
    "Fri, 31 Dec 2099 23:59:59 GMT",
    "soon",
    "",
)
_LOCATIONS = (
    "http://elsewhere.invalid/v1",
    "/",
    "//",
    "file:///etc/passwd",
    "",
    "http://[::1",
    "\x01",
)
_OWN_ERRORS = [body for body, _ in frames.ERRORS.values()]
_BODIES = [*_OWN_ERRORS, b"", b"\x00" * 1000, b"<html>"]


def from_statuses(dice: random.Random, streamed: bool, model: str) -> Trial:
    """Any HTTP status, with any headers and any body of an error."""
    status = dice.choice([201, 204, 206, 226, *range(300, 309), *range(400, 430), *range(500, 530)])
    headers = {"Retry-After": dice.choice(_RETRY)} if dice.random() < 0.5 else {}
    if status < 400 and dice.random() < 0.8:
        headers["Location"] = dice.choice(_LOCATIONS).replace("\x01", "%01")
    step = Fault(status, body=dice.choice(_BODIES), headers=headers)
    if status in (204, 304):
        step = replace(step, body=b"")
    # An error of the provider's own says that it has not answered.
    gave_up = status in _GAVE_UP and step.body not in _OWN_ERRORS
    billed = USUAL_COST if gave_up else 0
    return Trial(f"status {status // 100}xx", _always(step, billed), _STATUSES, honest=False)


_STATUSES = FAILED | {
    *("INVALID_REQUEST", "CONTEXT_TOO_LONG", "API_KEY_REJECTED", "INSUFFICIENT_CREDITS"),
    *("REFUSED_BY_PROVIDER", "MODEL_NOT_FOUND", "MODEL_MISCONFIGURED", "UNSUPPORTED"),
    *("CREDITS_HELD", "OVERLOADED", "DEADLINE_EXCEEDED", "TOO_LARGE"),
}

_FOR_ALL = (
    *(from_faults, from_faults, from_mutation, from_mutation, from_mutation, from_mutation),
    *(from_sockets, from_sockets, from_statuses, from_statuses, from_drip),
)
_FOR_OPENAI = (*_FOR_ALL, from_table, from_table, from_table, from_table, from_errors, from_usage)


#: The share of answers that stall or never end: each takes a caller's time for seconds.
STALLED = 0.01


def draw(dice: random.Random, streamed: bool, model: str) -> Trial:
    """Draw a hostile answer for a model."""
    if dice.random() < STALLED:
        return from_stalls(dice, streamed, model)
    openai = model.startswith(("openrouter", "litellm_openai"))
    return dice.choice(_FOR_OPENAI if openai else _FOR_ALL)(dice, streamed, model)
