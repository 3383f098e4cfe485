"""Builds a message from the pieces in which it was generated."""

from __future__ import annotations

from arena_llm.types import (
    Delta,
    Message,
    Part,
    Reasoning,
    ReasoningForm,
    Text,
    ToolCall,
    ToolCallDelta,
)


class MessageBuilder:
    """The message of one completion as it grows.

    A new part begins where the kind of piece changes, and with the id of a tool call.
    """

    def __init__(self) -> None:
        self._parts: list[tuple[str, list[str]]] = []
        #: The first piece of each tool call.
        self._calls: list[ToolCallDelta] = []

    def add(self, delta: Delta) -> None:
        """Add the pieces of a delta: reasoning before text, then a tool call."""
        for kind, text in (("reasoning", delta.reasoning), ("text", delta.text)):
            if text:
                self._add(kind, text)
        if (call := delta.tool_call) is not None:
            if call.id:
                self._calls.append(call)
                self._parts.append(("tool_call", []))
            self._add("tool_call", call.arguments)

    def _add(self, kind: str, text: str) -> None:
        if not self._parts or self._parts[-1][0] != kind:
            self._parts.append((kind, []))
        self._parts[-1][1].append(text)

    @property
    def has_text(self) -> bool:
        """True if the answer has begun."""
        return any(kind != "reasoning" for kind, _ in self._parts)

    def build(self) -> Message:
        """The message so far."""
        calls = iter(self._calls)
        parts: list[Part] = []
        for kind, pieces in self._parts:
            whole = "".join(pieces)
            match kind:
                case "text":
                    parts.append(Text(whole))
                case "reasoning":
                    parts.append(Reasoning(whole, ReasoningForm.RAW))
                case _:
                    call = next(calls)
                    parts.append(ToolCall(call.id, call.name, whole))
        return Message("assistant", tuple(parts))
