"""Gemini's generateContent (https://ai.google.dev/api/generate-content)."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs

from aiohttp import web

from tests.support.upstreams.server import Call, Fault, Reply, UpstreamServer

#: Not a real key. Tests look for it in places where no key may be.
KEY = "AIza-planted0123456789abcdefghijklmnopq"

USAGE = {
    "promptTokenCount": 12,
    "cachedContentTokenCount": 4,
    "candidatesTokenCount": 3,
    "thoughtsTokenCount": 2,
    "totalTokenCount": 17,
}

#: https://ai.google.dev/gemini-api/docs/troubleshooting
_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


class GeminiUpstream(UpstreamServer):
    """POST .../models/MODEL:generateContent and :streamGenerateContent."""

    @property
    def url(self) -> str:
        """The value for GEMINI_API_BASE."""
        return self.origin

    async def special(self, call: Call) -> web.StreamResponse | None:
        if not call.path.endswith((":generateContent", ":streamGenerateContent")):
            return web.json_response(self.error(Fault(404, f"no {call.path}")), status=404)
        key = call.headers.get("x-goog-api-key") or parse_qs(call.query).get("key", [""])[0]
        if key != KEY:
            wrong = Fault(401, f"API key not valid: {key}")
            return web.json_response(self.error(wrong), status=401)
        return None

    def asks_for_stream(self, call: Call) -> bool:
        return call.path.endswith(":streamGenerateContent")

    def answer(self, call: Call, reply: Reply) -> dict[str, Any]:
        parts: list[dict[str, Any]] = [{"text": reply.text}] * bool(reply.text)
        if reply.reasoning:
            parts.insert(0, {"text": reply.reasoning, "thought": True})
        return self._chunk(call, parts + _format_calls(reply), "STOP", **reply.fields)

    def events(self, call: Call, reply: Reply) -> list[bytes]:
        pieces = list(reply.text) if reply.pieces is None else reply.pieces
        thoughts = [[{"text": reply.reasoning, "thought": True}]] if reply.reasoning else []
        parts = [*thoughts, *([{"text": piece}] for piece in pieces)]
        usage = {"usageMetadata": reply.fields.get("usageMetadata", USAGE)}
        return [
            b"",  # nothing comes before the first delta
            *(_event(self._chunk(call, part, **usage)) for part in parts),
            *(_event(self._chunk(call, [part], **usage)) for part in _format_calls(reply)),
            _event(self._chunk(call, [{"text": ""}], "STOP", **reply.fields)),
        ]

    def error(self, fault: Fault) -> dict[str, Any]:
        status = _STATUSES.get(fault.status, "UNKNOWN")
        return {
            "error": {
                "code": fault.status,
                "message": fault.message,
                "status": status,
                **(fault.error or {}),
            }
        }

    def error_event(self, fault: Fault) -> bytes:
        return _event(self.error(fault))

    def empty(self, call: Call) -> dict[str, Any]:
        return {"candidates": [], "modelVersion": _model(call)}

    def _chunk(
        self, call: Call, parts: list[dict[str, Any]], finish: str = "", **fields: Any
    ) -> dict[str, Any]:
        candidate = {"index": 0, "content": {"role": "model", "parts": parts}}
        if finish:
            candidate["finishReason"] = finish
        return {
            "candidates": [candidate],
            "usageMetadata": USAGE,
            "modelVersion": _model(call),
            "responseId": "gemini-1",
            **fields,
        }


def _format_calls(reply: Reply) -> list[dict[str, Any]]:
    """The first call is signed."""
    parts: list[dict[str, Any]] = [
        {"functionCall": {"name": name, "args": json.loads(arguments)}}
        for _, name, arguments in reply.calls
    ]
    if parts:
        parts[0]["thoughtSignature"] = reply.signature
    return parts


def _model(call: Call) -> str:
    return call.path.rpartition("/")[2].partition(":")[0]


def _event(data: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(data).encode() + b"\r\n\r\n"
