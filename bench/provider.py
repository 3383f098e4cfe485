"""`python -m bench.provider ADDRESS DELAY FAULTS`: a provider that costs almost nothing.

It answers every POST with a chat completion after DELAY seconds, in raw HTTP, so that a
benchmark measures only what calls it. FAULTS is the share of calls that end in a 429, a
500, a reset or a truncated body. The text of a good answer is the start of the prompt, or a
move in JSON if the prompt lists legal actions as the arena's does. A GET returns the models
and the key, which are read before an experiment starts.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import sys
from typing import Any

import uvloop

_HEAD = "HTTP/1.1 {} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{}\r\n"
_ANSWER = (
    '{"id":"gen-1","object":"chat.completion","created":1,"model":"a/b","choices":[{"index":0,'
    '"message":{"role":"assistant","content":"TEXT"},"finish_reason":"stop"}],"usage":'
    '{"prompt_tokens":60,"completion_tokens":1,"total_tokens":61,"cost":0.0001}}'
)
_MODELS = json.dumps({"data": [{"id": f"lab/model-{n}"} for n in range(6)]})
_KEY = '{"data":{"usage":0,"total_credits":10,"total_usage":0}}'
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
_ERROR = '{"error":{"code":CODE,"message":"planted"}}'


def http_answer(status: int, body: str, headers: str = "") -> bytes:
    return (_HEAD.format(status, len(body), headers) + body).encode()


def _text(body: bytes) -> str:
    """The text of the answer, escaped for JSON."""
    if b"Legal actions, one per line" in body:
        move = {"reasoning": "it wins", "action": some_action(json.loads(body)["messages"])}
        return json.dumps(json.dumps(move))[1:-1]
    text = body.partition(b'"content":"')[2].partition(b'"')[0].decode()
    return text[:40] or "5"


def some_action(messages: list[dict[str, str]]) -> str:
    """One of the legal actions that the arena's prompt lists."""
    listed = messages[0]["content"].partition("Legal actions, one per line")[2]
    action: str = json.loads(random.choice(_QUOTED.findall(listed)))  # noqa: S311 - no secret
    return action


class Provider(asyncio.Protocol):
    """One connection. Requests need a Content-Length."""

    def __init__(self, delay: float, faults: float) -> None:
        self._delay = delay
        self._faults = faults
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport  # uvloop's is not an asyncio.Transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (head_end := self._received.find(b"\r\n\r\n")) >= 0:
            head = self._received[:head_end].lower()
            length = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0] or 0)
            end = head_end + 4 + length
            if len(self._received) < end:
                return
            body, self._received = self._received[head_end + 4 : end], self._received[end:]
            if head.startswith(b"get "):
                self._transport.write(http_answer(200, _MODELS if b"/models" in head else _KEY))
            elif self._delay:
                asyncio.get_running_loop().call_later(self._delay, self._answer, body)
            else:
                self._answer(body)

    def _answer(self, body: bytes) -> None:
        if self._transport.is_closing():
            return
        if random.random() >= self._faults:  # noqa: S311 - no secret
            self._transport.write(http_answer(200, _ANSWER.replace("TEXT", _text(body))))
            return
        match random.randrange(4):  # noqa: S311 - no secret
            case 0:
                error = _ERROR.replace("CODE", "429")
                self._transport.write(http_answer(429, error, "Retry-After: 0\r\n"))
            case 1:
                self._transport.write(http_answer(500, _ERROR.replace("CODE", "500")))
            case 2:
                self._transport.abort()
            case 3:
                self._transport.write(http_answer(200, _ANSWER[:100]))


async def serve(address: str, delay: float, faults: float) -> None:
    host, _, port = address.rpartition(":")
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: Provider(delay, faults), host, int(port), backlog=2048
    )
    await server.serve_forever()


if __name__ == "__main__":
    address, delay, faults = sys.argv[1:]
    uvloop.run(serve(address, float(delay), float(faults)))
