"""`python -m bench._upstream PORT`: a provider on loopback that answers at once.

Every POST gets the same chat completion, in OpenAI's format with OpenRouter's price.
It is a bare protocol and not a web framework, so that on a machine with few cores it
takes little from those that are measured.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import uvloop

MODEL = "bench/instant"  # what a caller asks for; the upstream takes any
TEXT = "5"

_BODY = json.dumps(
    {
        "id": "gen-1",
        "object": "chat.completion",
        "created": 1,
        "model": MODEL,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": TEXT},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 60, "completion_tokens": 1, "total_tokens": 61, "cost": 0.0001},
    }
).encode()


def _response(status: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


_COMPLETION = _response("200 OK", _BODY)
_NOT_FOUND = _response("404 Not Found", b'{"error": {"code": 404, "message": "not here"}}')
_LENGTH_REQUIRED = _response("411 Length Required", b'{"error": {"code": 411, "message": ""}}')


class Instant(asyncio.Protocol):
    """One connection, kept alive. Requests need a Content-Length."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport  # uvloop's is no asyncio.Transport
        self._buffer = b""

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower()
            length = 0
            if head.startswith(b"post "):
                _, found, rest = head.partition(b"\r\ncontent-length:")
                if not found:  # where such a body ends is not known here
                    self._transport.write(_LENGTH_REQUIRED)
                    self._transport.close()
                    return
                length = int(rest.partition(b"\r\n")[0])
            if len(self._buffer) < end + 4 + length:
                return
            self._buffer = self._buffer[end + 4 + length :]
            self._transport.write(_COMPLETION if head.startswith(b"post ") else _NOT_FOUND)


async def serve(port: int) -> None:
    """Answer until the process ends."""
    server = await asyncio.get_running_loop().create_server(Instant, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
