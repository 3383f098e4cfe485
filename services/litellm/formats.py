"""Gives the fields of three wire formats the types that litellm relies on.

OpenAI's format has the most dialects, so only the fields that litellm needs are kept of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from services.common.errors import UnreadableAnswer
from services.common.hosted.answers import (
    Choice,
    Message,
    choose,
    plain_text,
    read_answer,
    read_message,
)
from services.common.hosted.failures import failure_in
from services.common.hosted.values import count, label

if TYPE_CHECKING:
    from services.litellm.wire import Wire


# --- https://platform.openai.com/docs/api-reference/chat ---------------------------


def openai(value: dict[str, Any], wire: Wire, streamed: bool) -> dict[str, Any]:
    answer = wire.chunks.read(value) if streamed else read_answer(value)
    if (failure := failure_in(answer)) is not None:
        raise wire.error(failure)
    wire.id = wire.id or answer.id
    clean: dict[str, Any] = {
        "id": answer.id,
        "object": "chat.completion.chunk" if streamed else "chat.completion",
        "created": count(value.get("created")) or 0,
        "model": answer.model,
        "choices": [] if answer.choice is None else [_choice(wire, answer.choice, streamed)],
    }
    if answer.usage is not None:
        clean["usage"] = wire.usage(answer.usage)
    clean = {name: field for name, field in clean.items() if field != ""}
    # A part of the price; of Groq's answers litellm demands it.
    clean["service_tier"] = tier if isinstance(tier := value.get("service_tier"), str) else None
    return clean


def _choice(wire: Wire, choice: Choice, streamed: bool) -> dict[str, Any]:
    clean: dict[str, Any] = {
        "index": 0,
        "finish_reason": wire.ended(choice.finish),
        "logprobs": _logprobs(choice.logprobs),
    }
    message = choice.message or Message()
    wire.add(message)
    if choice.message is None and not streamed:
        raise UnreadableAnswer("the provider answered with a choice that has no message")
    said: dict[str, Any] = {"role": "assistant", "content": message.text}
    if message.reasoning:
        said["reasoning_content"] = message.reasoning
    if message.tools and (calls := list(_tool_calls(choice.source))):
        said["tool_calls"] = calls  # litellm makes JSON of some
    clean["delta" if streamed else "message"] = said
    if _is_older(choice.source):
        clean["text"] = message.text
    return clean


# --- https://docs.anthropic.com/en/api/messages ------------------------------------


def anthropic(value: dict[str, Any], wire: Wire) -> dict[str, Any]:
    clean = dict(value)
    if "index" in clean:
        clean["index"] = count(clean["index"]) or 0
    match value.get("type"):
        case "message_start":
            clean["message"] = _anthropic_message(wire, _object(value.get("message")))
        case "content_block_start":
            clean["content_block"] = _block(wire, value.get("content_block"), "text")
        case "content_block_delta":
            clean["delta"] = _block(wire, value.get("delta"), "text_delta")
        case "message_delta":
            clean["usage"] = wire.usage(value.get("usage"))
            delta = _object(value.get("delta"))
            clean["delta"] = {**delta, "stop_reason": wire.ended(delta.get("stop_reason"))}
        case "content_block_stop" | "message_stop":
            pass
        case _:
            clean = _anthropic_message(wire, value)
    return clean


def _anthropic_message(wire: Wire, message: dict[str, Any]) -> dict[str, Any]:
    content = message.get("content")
    blocks = content if isinstance(content, list) else [content] if content else []
    wire.answered = True
    wire.id = wire.id or label(message.get("id"))
    return {
        **message,
        "type": "message",
        "role": "assistant",
        "id": label(message.get("id")),
        "model": label(message.get("model")),
        "content": [_block(wire, block, "text") for block in blocks],
        "stop_reason": wire.ended(message.get("stop_reason")),
        "usage": wire.usage(message.get("usage")),
    }


def _block(wire: Wire, value: Any, usual: str) -> dict[str, Any]:
    """A block of content, or its next piece. usual: its type where it does not say."""
    wire.answered = True
    block = {"text": value} if not isinstance(value, dict) else value
    kind = label(block.get("type")) or usual
    if kind in ("text", "text_delta"):
        return {"type": kind, "text": _text(wire, block)}
    if kind in ("thinking", "thinking_delta"):
        signature = {"signature": label(block.get("signature"))} if kind == "thinking" else {}
        return {"type": kind, "thinking": plain_text(block.get("thinking")), **signature}
    if kind == "tool_use":
        wire.extras.tools.append(label(block.get("name")))
    return block


# --- https://ai.google.dev/api/generate-content -------------------------------------


def gemini(value: dict[str, Any], wire: Wire, streamed: bool) -> dict[str, Any]:
    candidates = value.get("candidates") or []
    if isinstance(candidates, dict):
        candidates = [candidates]
    if not isinstance(candidates, list) or not all(isinstance(c, dict) for c in candidates):
        raise UnreadableAnswer("the provider's answer has candidates that are no objects")
    candidate = choose(candidates, wire.candidate if streamed else None)
    if candidate is not None and wire.candidate is None:
        wire.candidate = count(candidate.get("index")) or 0
    wire.id = wire.id or label(value.get("responseId"))
    clean = {
        **value,
        "candidates": [] if candidate is None else [_candidate(wire, candidate)],
        "responseId": label(value.get("responseId")),
        "modelVersion": label(value.get("modelVersion")),
    }
    if "usageMetadata" in value or not streamed:  # of a whole answer litellm demands it
        clean["usageMetadata"] = wire.usage(value.get("usageMetadata"))
    return {name: field for name, field in clean.items() if field != ""}


def _candidate(wire: Wire, candidate: dict[str, Any]) -> dict[str, Any]:
    wire.answered = True
    content = candidate.get("content")
    parts = content.get("parts") if isinstance(content, dict) else content
    if not isinstance(parts, list):
        parts = [] if parts is None else [parts]
    clean = {
        "index": count(candidate.get("index")) or 0,
        "content": {
            "role": "model",
            "parts": [_part(wire, one) for one in parts],
        },
    }
    if finish := wire.ended(candidate.get("finishReason")):
        clean["finishReason"] = finish
    if isinstance(logprobs := candidate.get("logprobsResult"), dict):
        clean["logprobsResult"] = logprobs
    return clean


def _part(wire: Wire, value: Any) -> dict[str, Any]:
    part = value if isinstance(value, dict) else {"text": value}
    if call := part.get("functionCall"):
        wire.extras.tools.append(label(_object(call).get("name")))
        return part
    if "text" not in part:
        wire.extras.media += [name for name in part if name.endswith(("Data", "data"))]
        return part
    if (thought := part.get("thought")) not in (None, True, False):
        raise UnreadableAnswer("the provider's answer does not say what is text and what thought")
    if thought:
        return {**part, "text": plain_text(part["text"]), "thought": True}
    return {**part, "text": _text(wire, part)}


def _text(wire: Wire, part: dict[str, Any]) -> str:
    """The text of a part that has one; raises UnreadableAnswer where it is none."""
    wire.add(message := read_message({"content": part.get("text")}))
    if not message.text and part.get("text") != "":
        raise UnreadableAnswer("the provider's answer has a part of text without its text")
    return message.text


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _is_older(choice: dict[str, Any]) -> bool:
    """Whether it is one of OpenAI's older completions, which have a text and no message."""
    return choice.keys() & {"message", "delta", "text"} == {"text"}


def _logprobs(tokens: Any) -> dict[str, Any] | None:
    if tokens is None:
        return None
    return {
        "content": [
            {
                "token": token.token,
                "logprob": token.logprob,
                "bytes": None,
                "top_logprobs": [
                    {"token": top.token, "logprob": top.logprob, "bytes": None} for top in token.top
                ],
            }
            for token in tokens
        ]
    }


def _tool_calls(choice: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The calls that are well-formed."""
    message = _object(choice.get("message") or choice.get("delta"))
    calls = message.get("tool_calls")
    for place, call in enumerate(calls if isinstance(calls, list) else ()):
        function = _object(_object(call).get("function"))
        if isinstance(arguments := function.get("arguments"), str):
            name = label(function.get("name")) or None
            yield {
                "index": place if (index := count(call.get("index"))) is None else index,
                "id": label(call.get("id")) or None,
                "type": "function",
                "function": {"name": name, "arguments": arguments},
            }


def anthropic_events(message: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A whole message of Anthropic's as the events of a stream."""
    yield {"type": "message_start", "message": {**message, "content": [], "stop_reason": None}}
    for index, block in enumerate(message["content"]):
        kind = block["type"]
        empty = {**block, kind: ""} if kind in ("text", "thinking") else block
        yield {"type": "content_block_start", "index": index, "content_block": empty}
        if kind in ("text", "thinking"):
            delta = {"type": f"{kind}_delta", kind: block[kind]}
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    ending = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    usage = message["usage"]
    yield {"type": "message_delta", "delta": ending, "usage": usage}
    yield {"type": "message_stop"}
