"""Anthropic's messages (https://docs.anthropic.com/en/api/messages)."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

from tests.support.upstreams.server import Call, Fault, Reply, UpstreamServer

#: Not a real key. Tests look for it in places where no key may be.
KEY = "sk-ant-planted0123456789abcdef"

#: input_tokens does not include the cached tokens.
USAGE = {
    "input_tokens": 8,
    "cache_read_input_tokens": 4,
    "cache_creation_input_tokens": 0,
    "output_tokens": 5,
}

#: https://docs.anthropic.com/en/api/errors
_ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}


class AnthropicUpstream(UpstreamServer):
    """POST /v1/messages."""

    @property
    def url(self) -> str:
        """The value for ANTHROPIC_API_BASE."""
        return self.origin

    async def special(self, call: Call) -> web.StreamResponse | None:
        if call.path != "/v1/messages":
            return web.json_response(self.error(Fault(404, f"no {call.path}")), status=404)
        if call.headers.get("x-api-key") != KEY:
            return web.json_response(self.error(Fault(401, "invalid x-api-key")), status=401)
        return None

    def asks_for_stream(self, call: Call) -> bool:
        return bool(call.body.get("stream"))

    def answer(self, call: Call, reply: Reply) -> dict[str, Any]:
        content: list[dict[str, Any]] = [{"type": "text", "text": reply.text}] * bool(reply.text)
        if reply.reasoning:
            block = {"type": "thinking", "thinking": reply.reasoning}
            content.insert(0, {**block, "signature": reply.signature})
        content += [
            {"type": "tool_use", "id": id, "name": name, "input": json.loads(arguments)}
            for id, name, arguments in reply.calls
        ]
        return {
            **self._head(call),
            "content": content,
            "stop_reason": "tool_use" if reply.calls else "end_turn",
            "stop_sequence": None,
            "usage": USAGE,
            **reply.fields,
        }

    def events(self, call: Call, reply: Reply) -> list[bytes]:
        """https://docs.anthropic.com/en/docs/build-with-claude/streaming"""
        pieces = list(reply.text) if reply.pieces is None else reply.pieces
        usage = reply.fields.get("usage", USAGE)
        start = {**self._head(call), "content": [], "stop_reason": None, "usage": usage}
        head = _event("message_start", message=start)
        index = 0
        if reply.reasoning:
            block = {"type": "thinking", "thinking": "", "signature": ""}
            delta = {"type": "thinking_delta", "thinking": reply.reasoning}
            head += _event("content_block_start", index=0, content_block=block)
            head += _event("content_block_delta", index=0, delta=delta)
            signed = {"type": "signature_delta", "signature": reply.signature}
            head += _event("content_block_delta", index=0, delta=signed)
            head += _event("content_block_stop", index=0)
            index = 1
        head += _event("content_block_start", index=index, content_block=_TEXT) + _event("ping")
        reason = "tool_use" if reply.calls else "end_turn"
        ending = {"stop_reason": reason, "stop_sequence": None, **reply.fields}
        ended = {"output_tokens": usage["output_tokens"]}
        calls = b"".join(_stream_call(index + 1 + n, *call) for n, call in enumerate(reply.calls))
        return [
            head,
            *(
                _event("content_block_delta", index=index, delta={**_DELTA, "text": piece})
                for piece in pieces
            ),
            _event("content_block_stop", index=index)
            + calls
            + _event("message_delta", delta=ending, usage=ended),
            _event("message_stop"),
        ]

    def error(self, fault: Fault) -> dict[str, Any]:
        kind = _ERROR_TYPES.get(fault.status, "api_error")
        return {
            "type": "error",
            "error": {"type": kind, "message": fault.message, **(fault.error or {})},
            "request_id": "req_1",
        }

    def error_event(self, fault: Fault) -> bytes:
        return _event(**self.error(fault))

    def empty(self, call: Call) -> dict[str, Any]:
        return {**self.answer(call, Reply()), "content": []}

    def _head(self, call: Call) -> dict[str, Any]:
        return {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": call.body["model"],
        }


def _stream_call(index: int, id: str, name: str, arguments: str) -> bytes:
    block = {"type": "tool_use", "id": id, "name": name, "input": {}}
    events = _event("content_block_start", index=index, content_block=block)
    for piece in arguments:
        delta = {"type": "input_json_delta", "partial_json": piece}
        events += _event("content_block_delta", index=index, delta=delta)
    return events + _event("content_block_stop", index=index)


_TEXT = {"type": "text", "text": ""}
_DELTA = {"type": "text_delta"}


def _event(type: str, **fields: Any) -> bytes:
    data = {"type": type, **fields}
    return f"event: {type}\n".encode() + b"data: " + json.dumps(data).encode() + b"\n\n"
