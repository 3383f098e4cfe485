"""OpenRouter's wire format (https://openrouter.ai/docs/api/reference/overview)."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import parse_qs

from aiohttp import web

from services.common.hosted.request import CHAT_PARAMETERS
from tests.support.upstreams.openai import finish, format_extras, stream_extras
from tests.support.upstreams.server import Call, Fault, Reply, UpstreamServer

#: Not a real key. Tests look for it in places where no key may be.
KEY = "sk-or-v1-planted0123456789abcdef"

#: A cost with many digits. None may be lost.
COST = 0.00012345678901234567

USAGE = {
    "prompt_tokens": 12,
    "completion_tokens": 5,
    "total_tokens": 17,
    "cost": COST,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 2},
}

_DETAIL = {"type": "reasoning.text", "format": "anthropic-claude-v1", "index": 0}

PARAMETERS = ["temperature", "top_p", "max_tokens", "seed", "stop", "logprobs", "top_logprobs"]


def listing(slug: str, *more: str, **fields: Any) -> dict[str, Any]:
    """An entry of /models with the usual parameters and `more`."""
    return {
        "id": slug,
        "canonical_slug": f"{slug}-2026",
        "name": f"Name of {slug}",
        "context_length": 8192,
        "pricing": {"prompt": "0.00000015", "completion": "0.0000006"},
        "supported_parameters": [*PARAMETERS, *more],
        **fields,
    }


def list_everything(slug: str) -> dict[str, Any]:
    """An entry of /models for a model that takes everything."""
    names = [name for parameter in CHAT_PARAMETERS.values() for name in parameter.names]
    more = ("tools", "tool_choice", "parallel_tool_calls", "reasoning", "structured_outputs")
    return listing(slug, *names, *more, architecture={"input_modalities": ["text", "image"]})


class OpenRouterUpstream(UpstreamServer):
    """Chat completions, /models, /key and /credits."""

    def __init__(self) -> None:
        super().__init__()
        self.models = [
            listing("a/schema", "structured_outputs", "response_format"),
            listing("a/plain"),
            listing("a/gift:free", pricing={"prompt": "0", "completion": "0"}),
        ]
        #: The answers of /key and /credits: status and body.
        self.key: tuple[int, Any] = (200, {"data": {"limit_remaining": 20.5, "usage": 1}})
        self.credits: tuple[int, Any] = (403, {"error": {"code": 403, "message": "management"}})
        self.models_status = 200
        self.key_hangs = False
        #: What /generation knows, by id, and after how many questions.
        self.generations: dict[str, dict[str, Any]] = {}
        self.generations_after = 1
        self.asked: list[str] = []  # paths other than completions

    @property
    def url(self) -> str:
        """The value for OPENROUTER_BASE_URL."""
        return f"{self.origin}/api/v1"

    async def special(self, call: Call) -> web.StreamResponse | None:
        if call.path == "/api/v1/chat/completions" and call.method == "POST":
            if call.headers.get("Authorization") != f"Bearer {KEY}":
                return self._rejected()
            return None
        self.asked.append(call.path.removeprefix("/api/v1"))
        match self.asked[-1]:
            case "/models":
                return self._page(call)
            case "/key":
                if self.key_hangs:
                    await asyncio.Event().wait()
                status, body = self.key
            case "/credits":
                status, body = self.credits
            case "/generation" if self.asked.count("/generation") >= self.generations_after:
                found = self.generations.get(parse_qs(call.query)["id"][0])
                status, body = (200, {"data": found}) if found else (404, {"error": {"code": 404}})
            case _:
                status, body = 404, {"error": {"code": 404, "message": "no such path"}}
        return web.json_response(body, status=status)

    def _page(self, call: Call) -> web.Response:
        """Half of the models, with a link to the other half."""
        half = len(self.models) // 2
        if "offset" in call.query:
            body: dict[str, Any] = {"data": self.models[half:], "links": {"next": None}}
        else:
            body = {"data": self.models[:half], "links": {"next": f"/api/v1/models?offset={half}"}}
        return web.json_response(body, status=self.models_status)

    def _rejected(self) -> web.Response:
        error = {"code": 401, "message": "No auth credentials found"}
        return web.json_response({"error": error}, status=401)

    def asks_for_stream(self, call: Call) -> bool:
        return bool(call.body.get("stream"))

    def answer(self, call: Call, reply: Reply) -> dict[str, Any]:
        message = {"role": "assistant", "content": reply.text, "reasoning": reply.reasoning or None}
        message |= format_extras(reply)
        if reply.reasoning:
            signature = {"signature": reply.signature}
            message["reasoning_details"] = [{**_DETAIL, "text": reply.reasoning, **signature}]
        choice = {"index": 0, "message": message, "finish_reason": finish(reply)}
        choice |= reply.fields.get("choice", {})
        return {
            **self._head(call),
            "object": "chat.completion",
            "choices": [choice],
            "usage": USAGE,
            **{name: value for name, value in reply.fields.items() if name != "choice"},
        }

    def events(self, call: Call, reply: Reply) -> list[bytes]:
        """A comment, the deltas, the finish reason, the usage, the end mark."""
        pieces = list(reply.text) if reply.pieces is None else reply.pieces
        deltas: list[dict[str, Any]] = []
        for piece in reply.reasoning:
            details = [{**_DETAIL, "text": piece}]
            deltas.append({"reasoning": piece, "content": "", "reasoning_details": details})
        if reply.reasoning:
            signed = [{**_DETAIL, "signature": reply.signature}]
            deltas.append({"content": "", "reasoning_details": signed})
        deltas += [{"content": piece} for piece in pieces]
        deltas += stream_extras(reply)
        choice = {"index": 0, "delta": {"content": ""}, "finish_reason": finish(reply)}
        choice |= reply.fields.get("choice", {})
        more = {name: value for name, value in reply.fields.items() if name != "choice"}
        usage = {**self._head(call), "choices": [], "usage": USAGE, **more}
        return [
            b": OPENROUTER PROCESSING\n\n",
            *(self._chunk(call, {"index": 0, "delta": delta}) for delta in deltas),
            self._chunk(call, choice) + _event(usage),
            b"data: [DONE]\n\n",
        ]

    def error(self, fault: Fault) -> dict[str, Any]:
        code = fault.status if fault.status >= 400 else 502
        return {"error": {"code": code, "message": fault.message, **(fault.error or {})}}

    def error_event(self, fault: Fault) -> bytes:
        choice = {"index": 0, "delta": {"content": ""}, "finish_reason": "error"}
        return _event({"id": "gen-1", "choices": [choice], **self.error(fault)})

    def empty(self, call: Call) -> dict[str, Any]:
        return {**self._head(call), "choices": []}

    def _head(self, call: Call) -> dict[str, Any]:
        return {"id": "gen-1", "provider": "One", "model": call.body["model"]}

    def _chunk(self, call: Call, choice: dict[str, Any]) -> bytes:
        return _event({**self._head(call), "choices": [choice]})


def _event(data: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(data).encode() + b"\n\n"
