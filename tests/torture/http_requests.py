"""The kind `http`: hostile requests to the gateway."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any, NamedTuple

from gateway.errors import BY_CODE, BY_REASON
from tests.torture.calls import HTTP_ERRORS, PATIENCE, Caller, read_http
from tests.torture.providers import expected_text, new_mark
from tests.torture.record import Record, bounded, repeat
from tests.torture.system import TOKENS, System

WIDTH = 12
#: HTTP statuses and codes that the gateway's table has, and those of what it refuses by itself.
_CODES = {row.code for row in (*BY_REASON.values(), *BY_CODE.values())} | {
    *("bad_json", "missing_required_parameter", "not_found", "method_not_allowed"),
    *("unsupported_endpoint", "unsupported_value", "model_not_found"),
    "unsupported_content_encoding",
}
#: Never right: a bug.
_BUGS = ("internal_error", "version_mismatch")


class HttpRequest(NamedTuple):
    """A request. text: the honest answer; must_fail: it may not be answered with 200."""

    name: str
    body: bytes
    text: str = ""
    must_fail: bool = False
    path: str = "/chat/completions"
    method: str = "POST"
    headers: dict[str, str] = {}  # noqa: RUF012 - of a tuple, never changed
    streamed: bool = False


def _plain(dice: random.Random, model: str) -> tuple[dict[str, Any], str]:
    mark = new_mark(dice)
    messages = [{"role": "user", "content": f"Please repeat: {mark}"}]
    return {"model": model, "messages": messages, "max_tokens": 20}, expected_text(mark)


def noise(dice: random.Random, model: str) -> HttpRequest:
    """Bodies that are no JSON, or no object."""
    body, _ = _plain(dice, model)
    good = json.dumps(body).encode()
    place = dice.randrange(len(good))
    bodies = [
        b"", b"null", b"[]", b"7", b'"x"', b"{", b"{}", good[:place], good + b"}",
        b"\xff\xfe" + good,
        good.replace(b"Please", b"\xed\xa0\x80"), b"[" * 50_000, b'{"a":' * 50_000,
        dice.randbytes(2000),
        good[:place] + b"\x00" + good[place:], b'{"model": NaN}', good.decode().encode("utf-16"),
    ]  # fmt: skip
    return HttpRequest("noise", dice.choice(bodies), must_fail=True)


_VALUES: list[Any] = [
    *(None, True, 0, -1, 7, 2**31, 2**63, 10**30, 1.5, -0.0, "", "x", "null", [], {}, [None], [[]]),
    *({"a": 1}, [{"a": 1}], "x" * 10_000, "\ud83d", "\x00", [1] * 5_000, ["a"] * 5_000),
    {"type": "json_schema", "json_schema": {"name": "x", "schema": {"$ref": "#"}}},
    *({"type": "json_object"}, {"type": "nothing"}, {str(n): n for n in range(3_000)}),
    {"9" * 5_000: 1}, {"-1": 1}, {"5": float("inf")},
]  # fmt: skip
_FIELDS = (
    *(
        "model",
        "messages",
        "max_tokens",
        "max_completion_tokens",
        "temperature",
        "top_p",
        "n",
        "stop",
    ),
    *(
        "seed",
        "stream",
        "stream_options",
        "logit_bias",
        "logprobs",
        "top_logprobs",
        "tools",
        "user",
    ),
    *("tool_choice", "parallel_tool_calls", "response_format", "reasoning_effort", "guided_choice"),
    *(
        "guided_regex",
        "guided_json",
        "structured_outputs",
        "top_k",
        "min_p",
        "nothing",
        "functions",
    ),
    *("presence_penalty", "frequency_penalty", "store", "metadata", "modalities", "service_tier"),
    *("repetition_penalty", "min_tokens", "stop_token_ids", "ignore_eos", "chat_template_kwargs"),
)


def fields(dice: random.Random, model: str) -> HttpRequest:
    """Fields with any values: honoured, or refused by their names."""
    body, text = _plain(dice, model)
    changed = dice.sample(_FIELDS, dice.choice([1, 1, 1, 2]))
    for name in changed:
        body[name] = dice.choice(_VALUES)
    text = "" if {"messages", "stop", "n", "model"} & set(changed) else text
    data = json.dumps(body).encode()
    return HttpRequest(f"field {changed[0]}", data, text, streamed=body.get("stream") is True)


def messages(dice: random.Random, model: str) -> HttpRequest:
    """Conversations that are none."""
    body, _ = _plain(dice, model)
    role = dice.choice(
        ["user", "system", "assistant", "tool", "developer", "function", "", "x", None, 7]
    )
    content: list[Any] = [
        *("x", None, 7, [], {}, [{"type": "text"}], [{"type": "text", "text": 7}], [[]]),
        [{"type": "image_url", "image_url": {"url": "http://127.0.0.1:1/x.png"}}],
        [{"type": "image_url", "image_url": {"url": "data:image/png;base64,%%%"}}],
        [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}],
        *([{"type": "input_audio"}], [{"type": "nothing"}], "x" * 100_000, [{"text": "x"}] * 5_000),
    ]
    body["messages"] = [{"role": role, "content": dice.choice(content)}] * dice.choice(
        [1, 1, 2, 5_000]
    )
    if dice.random() < 0.3:
        calls = [{"id": 7, "type": "function", "function": {"name": "x", "arguments": "{"}}]
        body["messages"] = [{"role": "assistant", "content": None, "tool_calls": calls}]
    return HttpRequest("messages", json.dumps(body).encode())


_DIGITS = ("0", "-1", "²", "9" * 30, "9" * 5_000, "1e9", "x", "+5")


def headers(dice: random.Random, model: str) -> HttpRequest:
    """Headers that mean something, with odd values."""
    body, text = _plain(dice, model)
    name = dice.choice(
        ["Authorization", "Idempotency-Key", "arena-hops", "arena-session", "traceparent", "Expect",
         "Content-Type", "Content-Encoding", "Accept-Encoding", "X-Forwarded-For", "Cookie", "Host"]
    )  # fmt: skip
    value = dice.choice(
        [*_DIGITS, "", "Bearer", "Basic eDp4", "Bearer ü", "s" * 5_000, "a b", "gzip"]
    )
    if name == "Authorization":
        value = dice.choice(
            ["", "Bearer", "Bearer x", "Basic eDp4", "Bearer ü", f"Token {TOKENS['door']}"]
        )
    return HttpRequest(
        f"header {name}",
        json.dumps(body).encode(),
        text,
        name == "Authorization",
        headers={name: value},
    )


def paths(dice: random.Random, model: str) -> HttpRequest:
    """Other paths and methods."""
    body, _ = _plain(dice, model)
    path = dice.choice(
        ["/models", f"/models/{model}", "/models/x", "/models/%00", "/models/" + "m" * 5_000,
         "/embeddings",
         "/chat/completions/", "/../v1/models", "/nothing", "/completions", "/chat//completions",
         "/%ff"]
    )  # fmt: skip
    method = dice.choice(
        ["GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH", "TRACE", "NONSENSE"]
    )
    return HttpRequest("path", json.dumps(body).encode(), path=path, method=method)


def too_large(dice: random.Random, model: str) -> HttpRequest:
    """A body of many megabytes, or of many values."""
    body, _ = _plain(dice, model)
    match dice.randrange(3):
        case 0:
            return HttpRequest("too large", b" " * 34_000_000, must_fail=True)
        case 1:
            body["messages"] = [{"role": "user", "content": "x"}] * 100_000
        case 2:
            body["stop"] = ["x" * 10] * 300_000
    return HttpRequest("too many", json.dumps(body).encode(), must_fail=True)


_ALL: tuple[Callable[[random.Random, str], HttpRequest], ...] = (
    *(noise, fields, fields, fields, fields, messages, messages, headers, headers, paths),
)
TOO_LARGE = 0.01


async def torture(caller: Caller, record: Record, seconds: float) -> None:
    """Send hostile requests until the time is over."""
    system = caller.system

    async def attempt(dice: random.Random) -> None:
        model = dice.choice(system.models)
        make = too_large if dice.random() < TOO_LARGE else dice.choice(_ALL)
        request = make(dice, model)
        name = f"{request.name}, {model.partition('_')[0]}"
        try:
            answer = await bounded(record, name, PATIENCE, _send(system, request))
        except ValueError:
            record.refused(f"not sent: {name}")  # aiohttp sends no such header
        except HTTP_ERRORS as error:
            # The gateway may close the connection of a request that it does not read.
            slow = len(request.body) > 1_000_000  # on a busy machine, longer than it may take
            if slow or request.headers or request.method == "NONSENSE":
                record.refused(f"closed: {name}")
            else:
                record.fail(name, f"the connection was closed: {error!r} {request.body[:200]!r}")
        else:
            if answer is not None:
                _judge(record, name, request, *answer)

    await repeat(record, seconds, WIDTH, attempt)


async def _send(system: System, request: HttpRequest) -> tuple[int, bytes, str]:
    headers = {
        "Authorization": f"Bearer {TOKENS['door']}", "Content-Type": "application/json",
        **request.headers,
    }  # fmt: skip
    url = system.url + request.path
    async with system.http.request(
        request.method, url, data=request.body, headers=headers, allow_redirects=False
    ) as answer:
        return answer.status, await answer.read(), answer.headers.get("Content-Type", "")


def _judge(
    record: Record, name: str, request: HttpRequest, status: int, body: bytes, kind: str
) -> None:
    sent = request.body[:300]
    if "/completions" not in request.path or request.method != "POST":
        if status >= 500 or b"Traceback" in body:
            record.fail(name, f"HTTP {status} {request.method} {request.path[:80]} {body[:200]!r}")
        else:
            record.answered(name)
        return
    streamed = kind.startswith("text/event-stream")
    answer = read_http(status, body, streamed)
    if answer.reason:
        if answer.reason in _BUGS or answer.reason not in _CODES:
            record.fail(name, f"HTTP {status} {answer.reason}: {body[:300]!r} {sent!r}")
        else:
            record.refused(name)
    elif (answer.text or "").startswith("unreadable"):
        record.fail(name, f"{answer} {sent!r}")
    elif request.must_fail:
        record.fail(name, f"it was answered: {answer} {sent!r} {request.headers}")
    elif request.text and answer.text not in (request.text, "ok"):
        record.fail(name, f"{answer}, and the provider meant {request.text!r}: {sent!r}")
    else:
        record.answered(name)
