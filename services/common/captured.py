"""Prompt and completion as attributes of a span, for `capture_content: true`.

Names and form are those of OpenTelemetry:
https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from arena_llm.types import (
    Completion,
    Conversation,
    GenerationRequest,
    Image,
    Message,
    Part,
    RawPrompt,
    ToolCall,
    ToolResult,
)

INPUT, OUTPUT = "gen_ai.input.messages", "gen_ai.output.messages"

#: Characters of a part's text: a receiver refuses spans of several megabytes.
_MAX_TEXT = 16_384


def capture(request: GenerationRequest, completion: Completion) -> dict[str, str]:
    """Return the attributes of a call that was answered."""
    answer = _describe(completion.message)
    answer["finish_reason"] = completion.finish_reason.value
    return {INPUT: json.dumps(_list_prompt(request)), OUTPUT: json.dumps([answer])}


def _list_prompt(request: GenerationRequest) -> list[dict[str, Any]]:
    match request.input:
        case str(text) | RawPrompt(text=str(text)):
            return [_describe(Message("user", text))]
        case Conversation(messages):
            return [_describe(message) for message in messages]
        case RawPrompt(token_ids=token_ids):
            return [_describe(Message("user", f"{len(token_ids or ())} token ids"))]


def _describe(message: Message) -> dict[str, Any]:
    return {"role": message.role, "parts": _list_parts(message.parts)}


def _list_parts(parts: Iterable[Part]) -> list[dict[str, Any]]:
    return [_describe_part(part) for part in parts]


def _describe_part(part: Part) -> dict[str, Any]:
    match part:
        case ToolCall(id=name, name=tool, arguments=text):
            return {"type": "tool_call", "id": name, "name": tool, "arguments": _cut(text)}
        case ToolResult(call_id=name, parts=parts):
            return {"type": "tool_call_response", "id": name, "response": _list_parts(parts)}
        case Image(media_type=media_type):  # never its bytes
            return {"type": "image", "mime_type": media_type}
        case _:
            return {"type": part.kind, "content": _cut(part.text)}


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_TEXT else text[:_MAX_TEXT] + "\u2026"
