"""Writes the messages of a conversation in OpenAI's chat completions format.

https://platform.openai.com/docs/api-reference/chat/create. A service's own writer adds what its
providers need: how reasoning and opaque states are sent back, and what they cannot take.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from arena_llm.types import (
    Conversation,
    GenerationRequest,
    Image,
    Message,
    Part,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
)
from services.common.errors import Unsupported
from services.common.hosted.request import as_conversation
from services.common.hosted.state import read_state

#: The most cache hints that are sent. Anthropic answers 400 to more. The last ones are kept: each
#: covers all that comes before it.
_MAX_HINTS = 4

#: Providers refuse a called name that no tool may have. A model may have invented it.
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_-]")
_MAX_NAME = 64

#: Seconds of Anthropic's shorter cache. Longer times get the other one, of one hour.
_SHORT_CACHE = 300


class MessageWriter:
    """Writes the messages of one request.

    origin: of the states that the provider can read: its prefix, or "PREFIX*SUFFIX".
    sends_hints: the provider takes Anthropic's cache_control.
    """

    origin = ""
    sends_hints = False

    def __init__(self, request: GenerationRequest) -> None:
        self._input = request.input
        self._messages = as_conversation(request.input)
        #: The provider's own ids of tool calls that got another id here.
        self._provider_ids: dict[str, str] = {}
        self._hints_to_skip = 0

    def write(self) -> list[dict[str, Any]]:
        """Return the `messages` of the request.

        Raises StateMismatch for a state of another provider or model, and Unsupported, with the
        field, for what the provider cannot take.
        """
        if self.sends_hints:
            self._hints_to_skip = self._count_hints() - _MAX_HINTS
        written: list[dict[str, Any]] = []
        for index, message in enumerate(self._messages):
            place = f"conversation.messages[{index}]"
            self.check_message(index, message, place)
            match message.role:
                case "tool":
                    written.extend(self._write_results(message, place))
                case "assistant":
                    reply = self._write_assistant(message, place)
                    # Providers refuse a blank reply, or litellm writes words into it.
                    if reply["content"] or "tool_calls" in reply:
                        written.append(reply)
                case _:
                    content = self._write_content(message.parts, f"{place}.parts")
                    written.append({"role": message.role, "content": content})
        if isinstance(self._input, Conversation) and self._input.continue_last_message:
            if not written or written[-1]["role"] != "assistant":
                raise Unsupported(
                    "the last message has no text that could be continued",
                    field="conversation.continue_last_message",
                )
            self.continue_last(written[-1])
        return written

    def check_message(self, index: int, message: Message, place: str) -> None:
        """Raise Unsupported if the provider cannot take a message at this place."""

    def check_image(self, image: Image, place: str) -> None:
        """Raise Unsupported if the provider cannot take an image, or a field of it."""

    def check_result_image(self, place: str) -> None:
        """Raise Unsupported if the provider cannot take an image in a tool's result."""

    def write_reasoning(self, part: Reasoning, state: Mapping[str, Any], place: str) -> Any:
        """Return the fields that reasoning adds to its message. Lists in them are joined."""
        return {"reasoning": part.text} if part.text else {}

    def write_text_state(self, state: Mapping[str, Any], place: str) -> Mapping[str, Any]:
        """Return the fields that the state of a text adds to its message."""
        return {}

    def write_call_state(self, state: Mapping[str, Any], place: str) -> Mapping[str, Any]:
        """Return the fields that the state of a tool call adds to it."""
        return {}

    def continue_last(self, message: dict[str, Any]) -> None:
        """Mark the last message as one that the completion continues. Raises Unsupported."""
        raise Unsupported(
            "the model's provider cannot continue a message",
            field="conversation.continue_last_message",
        )

    def _count_hints(self) -> int:
        others = (message for message in self._messages if message.role != "assistant")
        parts = (part for message in others for part in message.parts)
        return sum(
            inner.cache is not None
            for part in parts
            for inner in (part.parts if isinstance(part, ToolResult) else (part,))
        )

    def _write_content(self, parts: Sequence[Part], place: str) -> Any:
        """Return texts and images as `content`: a string where that is enough."""
        if all(type(part) is Text and self._is_plain(part) for part in parts):
            if len(parts) == 1:
                return parts[0].text  # type: ignore[union-attr] # checked above
            return [{"type": "text", "text": p.text} for p in parts if isinstance(p, Text)]
        return [self._write_block(part, f"{place}[{n}]") for n, part in enumerate(parts)]

    def _is_plain(self, part: Part) -> bool:
        return part.state is None and not self._has_hint(part)

    def _write_block(self, part: Part, place: str) -> dict[str, Any]:
        read_state(part.state, self.origin, f"{place}.state")  # only for its check
        match part:
            case Text(text):
                block: dict[str, Any] = {"type": "text", "text": text}
            case Image():
                self.check_image(part, f"{place}.image")
                block = {"type": "image_url", "image_url": _write_image(part)}
            case _:
                raise AssertionError("the servicer refuses it")
        if self._has_hint(part):
            self._hints_to_skip -= 1
            if self._hints_to_skip < 0 and part.cache is not None:
                hint = {"type": "ephemeral"}
                if part.cache.ttl_seconds > _SHORT_CACHE:
                    hint["ttl"] = "1h"
                block["cache_control"] = hint
        return block

    def _has_hint(self, part: Part) -> bool:
        return self.sends_hints and part.cache is not None

    def _write_assistant(self, message: Message, place: str) -> dict[str, Any]:
        parts = message.parts
        if (
            len(parts) == 1
            and isinstance(part := parts[0], Text)
            and part.state is None
            and not part.text.isspace()
        ):
            return {"role": "assistant", "content": part.text}  # the usual case
        texts: list[str] = []
        calls: list[dict[str, Any]] = []
        written: dict[str, Any] = {"role": "assistant", "content": None}
        for number, part in enumerate(parts):
            field = f"{place}.parts[{number}]"
            state = read_state(part.state, self.origin, f"{field}.state")
            match part:
                case Text(text):
                    texts.append(text)
                    _merge(written, self.write_text_state(state, field))
                case Refusal(text):
                    texts.append(text)  # the model's own words
                case Reasoning():
                    _merge(written, self.write_reasoning(part, state, field))
                case ToolCall():
                    calls.append(self._write_call(part, state, field))
        text = "".join(texts)
        written["content"] = text if text.strip() else None
        if calls:
            written["tool_calls"] = calls
        return written

    def _write_call(self, call: ToolCall, state: Mapping[str, Any], place: str) -> dict[str, Any]:
        if isinstance(own := state.get("id"), str):
            self._provider_ids[call.id] = own
        return {
            "id": self._provider_ids.get(call.id, call.id),
            "type": "function",
            "function": {
                "name": _NOT_IN_NAMES.sub("_", call.name)[:_MAX_NAME],
                "arguments": _write_arguments(call.arguments),
            },
            **self.write_call_state(state, place),
        }

    def _write_results(self, message: Message, place: str) -> list[dict[str, Any]]:
        """Return a message for each result."""
        written = []
        for number, part in enumerate(message.parts):
            assert isinstance(part, ToolResult)  # noqa: S101 - the servicer refuses others
            read_state(part.state, self.origin, f"{place}.parts[{number}].state")
            field = f"{place}.parts[{number}].tool_result.parts"
            for inner_number, inner in enumerate(part.parts):
                if isinstance(inner, Image):
                    self.check_result_image(f"{field}[{inner_number}].image")
            content = self._write_content(part.parts, field) if part.parts else ""
            if part.is_error:  # the format has no field for it
                content = _mark_error(content)
            own = self._provider_ids.get(part.call_id, part.call_id)
            written.append({"role": "tool", "tool_call_id": own, "content": content})
        return written


def _write_arguments(text: str) -> str:
    """The arguments of a call as JSON text of an object.

    A model may have written something else, or max_tokens may have cut it. Providers refuse that,
    so it is wrapped, under the name that Anthropic proposes:
    https://docs.anthropic.com/en/docs/agents-and-tools/tool-use/fine-grained-tool-streaming
    """
    try:
        if not text or isinstance(json.loads(text, parse_constant=_refuse_constant), dict):
            return text or "{}"
    except (ValueError, RecursionError):
        pass
    return json.dumps({"INVALID_JSON": text})


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


def _write_image(image: Image) -> dict[str, str]:
    url = image.url
    if image.data is not None:
        url = f"data:{image.media_type};base64,{base64.b64encode(image.data).decode()}"
    return {"url": url or "", **({"detail": str(image.detail)} if image.detail else {})}


def _mark_error(content: Any) -> Any:
    """Say in the content that the tool failed."""
    if isinstance(content, str):
        return f"Error: {content}" if content else "Error"
    return [{"type": "text", "text": "Error:"}, *content]


def _merge(message: dict[str, Any], fields: Mapping[str, Any]) -> None:
    """Add fields to a message. Texts and lists are joined to those that it has."""
    for name, value in fields.items():
        old = message.get(name)
        if isinstance(old, str) and isinstance(value, str):
            message[name] = old + value
        elif isinstance(old, list) and isinstance(value, list):
            message[name] = [*old, *value]
        elif isinstance(old, dict) and isinstance(value, dict):
            _merge(old, value)
        else:
            message[name] = value
