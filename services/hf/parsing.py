"""Separates reasoning, text and tool calls in a model's reply as it grows."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Sequence
from typing import Literal

from arena_llm.types import Delta, ToolCallDelta

#: The names of tool formats. hermes: each call is JSON between <tool_call> and </tool_call>
#: (Qwen, Hermes, SmolLM). llama3_json: the whole reply is one call as JSON.
ToolFormat = Literal["hermes", "llama3_json"]

_THINK, _END_THINK = "<think>", "</think>"
_CALL, _END_CALL = "<tool_call>", "</tool_call>"

_decoder = json.JSONDecoder()


class ReplyParser:
    """Turns the text of one reply into deltas. Nothing is lost: what is no call stays text.

    prompt: the end of the rendered prompt. reasons: the model writes its reasoning between
    <think> and </think>; a template may have written <think> already. hides: leave the reasoning
    out. tools: the format of the tool calls; None if there are none.
    """

    def __init__(
        self,
        prompt: str = "",
        *,
        reasons: bool = False,
        hides: bool = False,
        tools: ToolFormat | None = None,
    ) -> None:
        self._tools = tools
        self._hides = hides
        #: The marks that it looks for. A tokenizer may have them as special tokens.
        self.tags = frozenset(
            tag.encode()
            for tag in (
                *((_THINK, _END_THINK) if reasons else ()),
                *((_CALL, _END_CALL) if tools == "hermes" else ()),
            )
        )
        self._state = "text"
        if reasons:
            self._state = "reasoning" if prompt.rstrip().endswith(_THINK) else "begin"
        self._held = ""
        #: True until text follows that is not white space: after the reasoning, or a call.
        self._skips_space = self._state == "reasoning"

    @property
    def reasons(self) -> bool:
        """True while the model writes its reasoning."""
        return self._state == "reasoning"

    def push(self, new: str, *, final: bool = False) -> list[Delta]:
        """The deltas for the next piece of the text. final: it is the last one."""
        self._held += new
        return [*self._advance(final)]

    def _advance(self, final: bool) -> Iterator[Delta]:
        while True:
            state = self._state
            match state:
                case "begin":
                    self._begin(final)
                case "reasoning":
                    yield from self._read_reasoning(final)
                case "text":
                    yield from self._read_text(final)
                case "call":
                    yield from self._read_call(final)
            if self._state == state:
                return

    def _begin(self, final: bool) -> None:
        """Decide whether the reply begins with reasoning."""
        begin = self._held.lstrip()
        if begin.startswith(_THINK):
            self._held = begin.removeprefix(_THINK)
            self._state, self._skips_space = "reasoning", True
        elif final or not _THINK.startswith(begin):
            self._state = "text"

    def _read_reasoning(self, final: bool) -> Iterator[Delta]:
        text, ended = self._take_until(_END_THINK, final)
        if text and not self._hides:
            yield Delta(reasoning=text)
        if ended:
            self._state, self._skips_space = "text", True

    def _read_text(self, final: bool) -> Iterator[Delta]:
        if self._tools == "llama3_json":
            yield from self._read_json(final)
            return
        tag = _CALL if self._tools == "hermes" else ""
        text, called = self._take_until(tag, final) if tag else self._take_all()
        if text:
            yield Delta(text=text)
        if called:
            self._state = "call"

    def _read_json(self, final: bool) -> Iterator[Delta]:
        """A reply that begins with a brace may be a call, which shows at its end."""
        begin = self._held.lstrip()
        if not final and (not begin or begin.startswith("{")):
            return
        text, self._held = self._held, ""
        if final and (calls := read_calls(text)):
            yield from calls
        elif text := self._skip_space(text):
            yield Delta(text=text)
        if not final:
            self._tools = None

    def _read_call(self, final: bool) -> Iterator[Delta]:
        end = self._held.find(_END_CALL)
        if end < 0 and not final:
            return
        written = self._held if end < 0 else self._held[:end]
        self._held = "" if end < 0 else self._held[end + len(_END_CALL) :]
        # Some models leave the last end tag out.
        if calls := read_calls(written):
            yield from calls
            self._skips_space = True
        else:
            yield Delta(text=f"{_CALL}{written}{_END_CALL if end >= 0 else ''}")
        self._state = "text"

    def _take_all(self) -> tuple[str, bool]:
        text, self._held = self._held, ""
        return self._skip_space(text), False

    def _take_until(self, tag: str, final: bool) -> tuple[str, bool]:
        """The text before a tag, and whether the tag follows. What may begin a tag is held back,
        and so is white space before it."""
        at = self._held.find(tag)
        if at >= 0:
            text = self._held[:at].rstrip()
            self._held = self._held[at + len(tag) :]
            return self._skip_space(text), True
        if final:
            return self._take_all()
        keep = next(
            (
                n
                for n in range(min(len(tag) - 1, len(self._held)), 0, -1)
                if tag.startswith(self._held[-n:])
            ),
            0,
        )
        rest = self._held[: len(self._held) - keep]
        text = rest.rstrip()
        self._held = self._held[len(text) :]
        return self._skip_space(text), False

    def _skip_space(self, text: str) -> str:
        if self._skips_space and (text := text.lstrip()):
            self._skips_space = False
        return text


def read_calls(written: str) -> list[Delta]:
    """The tool calls of a JSON text, an object or a list of objects; none if it is anything else.

    The arguments are those that the model wrote, character by character.
    """
    try:
        objects = [*_split_list(written.strip())]
        calls = [_read_call(members) for members in map(_split_object, objects)]
    except (ValueError, RecursionError):
        return []
    return [Delta(tool_call=call) for call in calls]


def _read_call(members: dict[str, str]) -> ToolCallDelta:
    name = json.loads(members.get("name", "null"))
    arguments = members.get("arguments", members.get("parameters", "{}"))
    if not isinstance(name, str) or not name:
        raise ValueError("a call without a name")
    if arguments.startswith('"'):  # JSON inside a string
        arguments = json.loads(arguments)
    return ToolCallDelta(f"call_{secrets.token_hex(8)}", name, arguments)


def _split_list(text: str) -> Sequence[str]:
    """The texts of a list's items; of a text that is no list, the text itself."""
    if not text.startswith("["):
        return [text]
    items, place = [], 1
    while text[(place := _skip(text, place)) : place + 1] != "]":
        _, end = _decoder.raw_decode(text, place)
        items.append(text[place:end])
        place = _skip(text, end)
        if text[place : place + 1] == ",":
            place += 1
    if not items or text[place + 1 :].strip():
        raise ValueError("not a list of calls")
    return items


def _split_object(text: str) -> dict[str, str]:
    """The members of a JSON object, each value as its text."""
    members: dict[str, str] = {}
    if not isinstance(json.loads(text), dict):
        raise ValueError("not an object")
    place = _skip(text, 1)
    while text[place] != "}":
        key, end = _decoder.raw_decode(text, place)
        begin = _skip(text, _skip(text, end) + 1)  # after the colon
        _, end = _decoder.raw_decode(text, begin)
        members[key] = text[begin:end]
        place = _skip(text, end)
        if text[place] == ",":
            place = _skip(text, place + 1)
    return members


def _skip(text: str, place: int) -> int:
    """The place of the next character that is not white space."""
    while place < len(text) and text[place].isspace():
        place += 1
    return place
