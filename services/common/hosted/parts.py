"""Puts the parts of a message together from the pieces of an answer.

A part begins where the kind of piece changes. The pieces of parallel tool calls may alternate,
and providers number them in many ways: not at all, all with 0, from 1, or with the id or the
name in every piece. A caller gets the pieces of each part together and in order, and id and name
of a call only with its first piece.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from arena_llm.types import (
    Delta,
    Part,
    Reasoning,
    ReasoningForm,
    Refusal,
    Text,
    ToolCall,
    ToolCallDelta,
)
from services.common.content import MAX_ID
from services.common.errors import UnreadableAnswer, repair_text
from services.common.hosted.state import make_state
from services.common.hosted.values import is_complete_json

_CALL = "tool_call"


@dataclass(frozen=True, slots=True)
class CallPiece:
    """A tool call, or the next piece of a streamed one.

    index: its place among the calls; None if the provider does not say. arguments: JSON text.
    state: what the provider needs to see again together with the call.
    """

    index: int | None = None
    id: str = ""
    name: str = ""
    arguments: str = ""
    state: Mapping[str, Any] | None = None


class SurrogateJoiner:
    """Joins a character that a provider splits over two pieces of a text.

    JSON may escape an emoji as two surrogates, and some servers send each with its own token.
    The first one waits for the next piece. A surrogate without its other half becomes U+FFFD.
    """

    def __init__(self) -> None:
        self._half = ""

    def join(self, text: str) -> str:
        """Return the next piece of text, without a half character at its end."""
        if not text or (not self._half and text.isascii()):
            return text
        text = self._half + text
        self._half = text[-1] if "\ud800" <= text[-1] <= "\udbff" else ""
        return repair_text(text[:-1] if self._half else text)

    def flush(self) -> str:
        """Return the half that still waits when the text ends."""
        half, self._half = self._half, ""
        return repair_text(half)


@dataclass(slots=True)
class _Slot:
    """A part that grows. waiting: pieces that have not been handed out.

    index, id, name: of a tool call. made_id: `id` was made here. begun: its first delta has been
    handed out. state: of this part alone.
    """

    kind: str
    pieces: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    joiner: SurrogateJoiner = field(default_factory=SurrogateJoiner)
    index: int | None = None
    id: str = ""
    provider_id: str = ""
    name: str = ""
    begun: bool = False
    state: dict[str, Any] = field(default_factory=dict)

    def add(self, text: str) -> None:
        if text := self.joiner.join(text):
            self.pieces.append(text)
            self.waiting.append(text)

    def close(self) -> None:
        if text := self.joiner.flush():
            self.pieces.append(text)
            self.waiting.append(text)

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def is_whole(self) -> bool:
        """Whether the arguments of a call are complete JSON."""
        return is_complete_json(self.text.encode(errors="replace"))


class PartsBuilder:
    """Builds the parts of one message. taken: ids of tool calls earlier in the conversation."""

    def __init__(self, taken: Collection[str] = ()) -> None:
        self._slots: list[_Slot] = []
        self._head = 0  # the first slot that may still get pieces to hand out
        self._ids = set(taken)
        self._details: dict[str, Any] = {}

    def add_text(self, kind: str, text: str) -> None:
        """Add a piece of a text. kind: "text", "reasoning" or "refusal"."""
        if not text:
            return
        if not self._slots or self._slots[-1].kind != kind:
            self._open(_Slot(kind))
        self._slots[-1].add(text)

    def add_call(self, piece: CallPiece, whole: bool = False) -> None:
        """Add a piece of a tool call. whole: it is all of the call."""
        slot = None if whole else self._find_call(piece)
        if slot is None:
            slot = self._open(_Slot(_CALL, index=piece.index))
        slot.provider_id = slot.provider_id or piece.id
        slot.name = slot.name or piece.name
        slot.state.update(piece.state or {})
        slot.add(piece.arguments)

    def add_text_state(self, state: Mapping[str, Any]) -> bool:
        """Keep what the provider needs to see again together with the last text.

        Returns False if there is no text.
        """
        for slot in reversed(self._slots):
            if slot.kind == "text":
                slot.state.update(state)
                return True
        return False

    def take(self) -> list[Delta]:
        """Return the deltas that can be sent now.

        A later part waits for the end of the tool calls before it.
        """
        deltas: list[Delta] = []
        while self._head < len(self._slots):
            slot = self._slots[self._head]
            if slot.waiting or (slot.kind == _CALL and not slot.begun):
                if slot.kind == _CALL and not slot.begun and not slot.name:
                    break  # the first delta has the name
                deltas.append(self._hand_out(slot))
            if slot.kind == _CALL or self._head == len(self._slots) - 1:
                break
            self._head += 1
        return deltas

    def finish(self) -> list[Delta]:
        """Return the deltas of what still waits at the end of the answer.

        Raises UnreadableAnswer for a tool call without a name.
        """
        deltas: list[Delta] = []
        for slot in self._slots[self._head :]:
            slot.close()
            if slot.kind == _CALL and not slot.name:
                raise UnreadableAnswer("the provider's answer has a tool call without a name")
            if slot.waiting or (slot.kind == _CALL and not slot.begun):
                deltas.append(self._hand_out(slot))
        self._head = len(self._slots)
        return deltas

    def parts(
        self, origin: str, reasoning_state: Mapping[str, Any], form: ReasoningForm | None = None
    ) -> tuple[Part, ...]:
        """Return the parts, after `finish`.

        origin: of the states. reasoning_state: the state of all reasoning, which the first
        reasoning part gets, or one without text at the end. form: of the reasoning.
        """
        parts: list[Part] = []
        for slot in self._slots:
            match slot.kind:
                case "text":
                    parts.append(Text(slot.text, state=make_state(slot.state, origin)))
                case "refusal":
                    parts.append(Refusal(slot.text))
                case "reasoning":
                    state = make_state(reasoning_state, origin)
                    parts.append(Reasoning(slot.text, form, state=state))
                    reasoning_state = {}
                case _:
                    state = make_state(slot.state, origin)
                    parts.append(ToolCall(slot.id, slot.name, slot.text, state=state))
        if reasoning_state:
            parts.append(Reasoning("", form, state=make_state(reasoning_state, origin)))
        return tuple(parts)

    def _open(self, slot: _Slot) -> _Slot:
        if self._slots and self._slots[-1].kind != _CALL:
            self._slots[-1].close()
        self._slots.append(slot)
        return slot

    def _find_call(self, piece: CallPiece) -> _Slot | None:
        """Find the call that a piece continues; None if it begins a call."""
        calls = [slot for slot in self._slots if slot.kind == _CALL]
        if not calls:
            return None
        same_index = [slot for slot in calls if slot.index == piece.index]
        if piece.id:
            same_id = [slot for slot in calls if slot.provider_id == piece.id]
            if not same_id:
                # An id that comes later than the first piece of its call.
                slot = same_index[-1] if same_index else None
                late = slot is not None and not slot.provider_id and not piece.name
                return slot if late else None
            slot = same_id[-1]
        elif piece.name and piece.index is not None and not same_index:
            return None
        else:
            slot = (same_index or calls)[-1]
        if not piece.name or not slot.name:
            return slot
        # The name comes again: in every piece, or because another call of the tool begins.
        repeats = (piece.id and not piece.arguments) or not slot.is_whole
        return slot if slot.name == piece.name and repeats else None

    def _hand_out(self, slot: _Slot) -> Delta:
        text = "".join(slot.waiting)
        slot.waiting.clear()
        if slot.kind == _CALL:
            if slot.begun:
                return Delta(tool_call=ToolCallDelta(arguments=text))
            slot.begun = True
            self._name_call(slot)
            return Delta(tool_call=ToolCallDelta(slot.id, slot.name, text))
        if slot.kind == "text":  # the usual case
            return Delta(text)
        pieces: dict[str, Any] = {slot.kind: text}
        return Delta(**pieces)

    def _name_call(self, slot: _Slot) -> None:
        """Give a call an id that is unique in the conversation and can be sent."""
        slot.id = repair_text(slot.provider_id)
        slot.name = repair_text(slot.name)
        if (
            not slot.id
            or slot.id in self._ids
            or len(slot.id) > MAX_ID
            or not slot.id.isprintable()
        ):
            slot.id = f"call_{secrets.token_hex(12)}"
            if slot.provider_id and slot.provider_id not in self._ids:
                slot.state["id"] = slot.provider_id
        self._ids.add(slot.id)
