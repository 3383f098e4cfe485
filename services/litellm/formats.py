"""Gives the fields of three answer formats the types that litellm relies on.

OpenAI's format has the most variants, so only the fields that litellm needs are kept of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from services.common.errors import UnreadableAnswer
from services.common.hosted.parts import CallPiece
from services.common.hosted.response import (
    ProviderChoice,
    ProviderMessage,
    find_failure,
    find_stop,
    parse_answer,
    parse_message,
    plain_text,
    select_choice,
)
from services.common.hosted.tokens import format_rows
from services.common.hosted.values import count, label
from services.litellm.raw_answer import RawAnswer

# --- https://platform.openai.com/docs/api-reference/chat ---------------------------


def clean_openai(value: dict[str, Any], raw: RawAnswer, streamed: bool) -> dict[str, Any]:
    """A whole answer or a chunk in OpenAI's format."""
    answer = raw.chunks.parse(value) if streamed else parse_answer(value)
    if (failure := find_failure(answer)) is not None:
        raise raw.to_error(failure)
    raw.id = raw.id or answer.id
    raw.fingerprint = raw.fingerprint or answer.fingerprint
    clean: dict[str, Any] = {
        "id": answer.id,
        "object": "chat.completion.chunk" if streamed else "chat.completion",
        "created": count(value.get("created")) or 0,
        "model": answer.model,
        "choices": [] if answer.choice is None else [_clean_choice(raw, answer.choice, streamed)],
    }
    if answer.usage is not None:
        clean["usage"] = raw.clean_usage(answer.usage)
    clean = {name: field for name, field in clean.items() if field != ""}
    # litellm needs it for the price, and requires it in Groq's answers.
    clean["service_tier"] = tier if isinstance(tier := value.get("service_tier"), str) else None
    return clean


def _clean_choice(raw: RawAnswer, choice: ProviderChoice, streamed: bool) -> dict[str, Any]:
    clean: dict[str, Any] = {
        "index": 0,
        "finish_reason": raw.keep_finish(choice.finish),
        "logprobs": None if choice.logprobs is None else format_rows(choice.logprobs),
    }
    raw.stop = find_stop(choice) or raw.stop
    message = choice.message or ProviderMessage()
    raw.keep_extras(message)
    if choice.message is None and not streamed:
        raise UnreadableAnswer("the provider answered with a choice that has no message")
    content: dict[str, Any] = {"role": "assistant", "content": message.text}
    if message.reasoning or not streamed:
        # litellm looks for reasoning in the text of a whole answer without this field.
        content["reasoning_content"] = message.reasoning or None
    if message.calls:
        content["tool_calls"] = [*_format_calls(message.calls, choice.whole)]
    clean["delta" if streamed else "message"] = content
    if _is_legacy(choice.source):
        clean["text"] = message.text
    return clean


# --- https://docs.anthropic.com/en/api/messages ------------------------------------


def clean_anthropic(value: dict[str, Any], raw: RawAnswer) -> dict[str, Any]:
    """A message or an event of a stream in Anthropic's format."""
    clean = dict(value)
    if "index" in clean:
        clean["index"] = count(clean["index"]) or 0
    match value.get("type"):
        case "message_start":
            clean["message"] = _clean_anthropic_message(raw, _as_object(value.get("message")))
        case "content_block_start":
            clean["content_block"] = _clean_block(raw, value.get("content_block"), "text")
        case "content_block_delta":
            clean["delta"] = _clean_block(raw, value.get("delta"), "text_delta")
        case "message_delta":
            clean["usage"] = raw.clean_usage(value.get("usage"))
            delta = _as_object(value.get("delta"))
            clean["delta"] = {**delta, "stop_reason": raw.keep_finish(delta.get("stop_reason"))}
            raw.stop = delta.get("stop_sequence") or raw.stop
        case "content_block_stop" | "message_stop":
            pass
        case _:
            clean = _clean_anthropic_message(raw, value)
    return clean


def _clean_anthropic_message(raw: RawAnswer, message: dict[str, Any]) -> dict[str, Any]:
    content = message.get("content")
    blocks = content if isinstance(content, list) else [content] if content else []
    raw.answered = True
    raw.id = raw.id or label(message.get("id"))
    raw.stop = message.get("stop_sequence") or raw.stop
    return {
        **message,
        "type": "message",
        "role": "assistant",
        "id": label(message.get("id")),
        "model": label(message.get("model")),
        "content": [_clean_block(raw, block, "text") for block in blocks],
        "stop_reason": raw.keep_finish(message.get("stop_reason")),
        "usage": raw.clean_usage(message.get("usage")),
    }


def _clean_block(raw: RawAnswer, value: Any, default: str) -> dict[str, Any]:
    """A block of content, or the next piece of one. default: the type of a block without type."""
    raw.answered = True
    block = {"text": value} if not isinstance(value, dict) else value
    kind = label(block.get("type")) or default
    if kind in ("text", "text_delta"):
        return {"type": kind, "text": _read_text(raw, block)}
    if kind in ("thinking", "thinking_delta"):
        signature = {"signature": label(block.get("signature"))} if kind == "thinking" else {}
        return {"type": kind, "thinking": plain_text(block.get("thinking")), **signature}
    return block


# --- https://ai.google.dev/api/generate-content -------------------------------------


def clean_gemini(value: dict[str, Any], raw: RawAnswer, streamed: bool) -> dict[str, Any]:
    """A whole answer or a chunk in Gemini's format."""
    candidates = value.get("candidates") or []
    if isinstance(candidates, dict):
        candidates = [candidates]
    if not isinstance(candidates, list) or not all(isinstance(c, dict) for c in candidates):
        raise UnreadableAnswer("the provider's answer has candidates that are not objects")
    candidate = select_choice(candidates, raw.candidate if streamed else None)
    if candidate is not None and raw.candidate is None:
        raw.candidate = count(candidate.get("index")) or 0
    raw.id = raw.id or label(value.get("responseId"))
    if candidate is None and (reason := _as_object(value.get("promptFeedback")).get("blockReason")):
        raw.answered = True
        raw.keep_finish(reason)
    clean = {
        **value,
        "candidates": [] if candidate is None else [_clean_candidate(raw, candidate)],
        "responseId": label(value.get("responseId")),
        "modelVersion": label(value.get("modelVersion")),
    }
    if "usageMetadata" in value or not streamed:  # litellm requires it in a whole answer
        clean["usageMetadata"] = raw.clean_usage(value.get("usageMetadata"))
    return {name: field for name, field in clean.items() if field != ""}


def _clean_candidate(raw: RawAnswer, candidate: dict[str, Any]) -> dict[str, Any]:
    raw.answered = True
    content = candidate.get("content")
    parts = content.get("parts") if isinstance(content, dict) else content
    if not isinstance(parts, list):
        parts = [] if parts is None else [parts]
    clean = {
        "index": count(candidate.get("index")) or 0,
        "content": {
            "role": "model",
            "parts": [_clean_part(raw, part) for part in parts],
        },
    }
    if finish := raw.keep_finish(candidate.get("finishReason")):
        clean["finishReason"] = finish
    if isinstance(logprobs := candidate.get("logprobsResult"), dict):
        clean["logprobsResult"] = logprobs
    return clean


def _clean_part(raw: RawAnswer, value: Any) -> dict[str, Any]:
    part = value if isinstance(value, dict) else {"text": value}
    if part.get("functionCall"):
        return part
    if "text" not in part:
        raw.extras.media += [name for name in part if name.endswith(("Data", "data"))]
        return part
    if (thought := part.get("thought")) not in (None, True, False):
        raise UnreadableAnswer("the provider's answer does not say which part is a thought")
    if thought:
        return {**part, "text": plain_text(part["text"]), "thought": True}
    return {**part, "text": _read_text(raw, part)}


def _read_text(raw: RawAnswer, part: dict[str, Any]) -> str:
    """The text of a part. Raises UnreadableAnswer if it cannot be read."""
    raw.keep_extras(message := parse_message({"content": part.get("text")}))
    if not message.text and part.get("text") != "":
        raise UnreadableAnswer("the provider's answer has a text part without text")
    return message.text


def _as_object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _is_legacy(choice: dict[str, Any]) -> bool:
    """Whether it is a choice of OpenAI's older completions, which have a text and no message."""
    return choice.keys() & {"message", "delta", "text"} == {"text"}


def _format_calls(calls: Sequence[CallPiece], whole: bool) -> Iterator[dict[str, Any]]:
    for place, call in enumerate(calls):
        yield {
            "index": place if call.index is None and whole else call.index or 0,
            "id": call.id or None,
            "type": "function",
            "function": {"name": call.name or None, "arguments": call.arguments},
        }


def split_anthropic_message(message: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a whole message in Anthropic's format as the events of a stream."""
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
