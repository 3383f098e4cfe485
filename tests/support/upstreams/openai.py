"""OpenAI's chat completions (https://platform.openai.com/docs/api-reference/chat)."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

from tests.support.upstreams.server import Call, Fault, Reply, UpstreamServer

#: Not a real key. Tests look for it in places where no key may be.
KEY = "sk-proj-planted0123456789abcdef"

USAGE = {
    "prompt_tokens": 12,
    "completion_tokens": 5,
    "total_tokens": 17,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 2},
}


#: An answer with log-probabilities.
_TOP = [{"token": "ok", "logprob": -0.1}, {"token": "no", "logprob": -2.5}]
_TOKEN = {"token": "ok", "logprob": -0.1, "bytes": None, "top_logprobs": _TOP}
LOGPROBS = Reply(fields={"choice": {"logprobs": {"content": [_TOKEN], "refusal": None}}})


class OpenAIUpstream(UpstreamServer):
    """POST /v1/chat/completions, with `reasoning_content` as DeepSeek and vLLM send it."""

    @property
    def url(self) -> str:
        """The value for OPENAI_API_BASE."""
        return f"{self.origin}/v1"

    async def special(self, call: Call) -> web.StreamResponse | None:
        if call.path != "/v1/chat/completions":
            return web.json_response(self.error(Fault(404, f"no {call.path}")), status=404)
        if call.headers.get("Authorization") != f"Bearer {KEY}":
            key = call.headers.get("Authorization", "").removeprefix("Bearer ")
            wrong = Fault(401, f"Incorrect API key provided: {key}")
            return web.json_response(self.error(wrong), status=401)
        return None

    def asks_for_stream(self, call: Call) -> bool:
        return bool(call.body.get("stream"))

    def answer(self, call: Call, reply: Reply) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": reply.text or None}
        if reply.reasoning:
            message["reasoning_content"] = reply.reasoning
        message |= format_extras(reply)
        choice = {"index": 0, "message": message, "finish_reason": finish(reply)}
        choice |= reply.fields.get("choice", {})
        more = {name: value for name, value in reply.fields.items() if name != "choice"}
        head = self._head(call, "chat.completion")
        return {**head, "choices": [choice], "usage": USAGE, **more}

    def events(self, call: Call, reply: Reply) -> list[bytes]:
        """The role, the deltas, the finish reason, the usage if requested, the end mark."""
        pieces = list(reply.text) if reply.pieces is None else reply.pieces
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
        if reply.reasoning:
            deltas += [{"reasoning_content": reply.reasoning}]
        deltas += [{"content": piece} for piece in pieces]
        deltas += stream_extras(reply)
        last = {
            "index": 0,
            "delta": {},
            "finish_reason": finish(reply),
            **reply.fields.get("choice", {}),
        }
        end = self._chunk(call, choices=[last])
        if (call.body.get("stream_options") or {}).get("include_usage"):
            end += self._chunk(call, choices=[], usage=reply.fields.get("usage", USAGE))
        return [
            *(
                self._chunk(call, choices=[{"index": 0, "delta": delta, "finish_reason": None}])
                for delta in deltas
            ),
            end,
            b"data: [DONE]\n\n",
        ]

    def error(self, fault: Fault) -> dict[str, Any]:
        kind = {"message": fault.message, "type": "planted_error", "param": None, "code": None}
        return {"error": {**kind, **(fault.error or {})}}

    def error_event(self, fault: Fault) -> bytes:
        return _event(self.error(fault))

    def empty(self, call: Call) -> dict[str, Any]:
        return {**self._head(call, "chat.completion"), "choices": []}

    def _head(self, call: Call, kind: str) -> dict[str, Any]:
        return {"id": "chatcmpl-1", "object": kind, "created": 1, "model": call.body["model"]}

    def _chunk(self, call: Call, **fields: Any) -> bytes:
        return _event({**self._head(call, "chat.completion.chunk"), **fields})


def format_extras(reply: Reply) -> dict[str, Any]:
    """The refusal and the tool calls of a message."""
    fields: dict[str, Any] = {"refusal": reply.refusal} if reply.refusal else {}
    if reply.calls:
        fields["tool_calls"] = [
            {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}
            for id, name, arguments in reply.calls
        ]
    return fields


def stream_extras(reply: Reply) -> list[dict[str, Any]]:
    """The same as deltas: id and name come first, then the arguments by character."""
    deltas: list[dict[str, Any]] = [{"refusal": piece} for piece in reply.refusal]
    for index, (id, name, arguments) in enumerate(reply.calls):
        function = {"name": name, "arguments": ""}
        begin = {"index": index, "id": id, "type": "function", "function": function}
        deltas.append({"tool_calls": [begin]})
        for piece in arguments:
            call = {"index": index, "function": {"arguments": piece}}
            deltas.append({"tool_calls": [call]})
    return deltas


def finish(reply: Reply) -> str:
    """The finish_reason of a reply."""
    return "tool_calls" if reply.calls else "stop"


def _event(data: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(data).encode() + b"\n\n"
