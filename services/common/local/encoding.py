"""Encodes prompts, in which the text of a message only reads as text."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Collection
from functools import cached_property
from typing import Any

from tokenizers import Tokenizer

#: An added token that looks like markup, such as <start_of_turn> or [INST].
_TAG = re.compile(r"[<\[]\S*[>\]]")


class ControlTokenError(ValueError):
    """The tokenizer can read this text only with control tokens in it."""


class PromptEncoder:
    """Encodes prompts with one tokenizer.

    A control token is a special token of the tokenizer, or an added token that the chat template
    writes around messages. In a text of a message, such as an opponent's words, it must not take
    effect: `protect` marks it, and `encode` reads it as the characters that it consists of.

    markup: what the chat template writes around messages.
    """

    def __init__(self, tokenizer: Any, markup: str = "") -> None:
        self._tokenizer = tokenizer
        added = getattr(tokenizer, "added_tokens_decoder", {}).values()
        special = {*tokenizer.all_special_tokens, *(t.content for t in added if t.special)}
        tags = {t.content for t in added if _TAG.fullmatch(t.content) and t.content in markup}
        # A single character, such as a "!" for padding, is text in any prompt.
        self._controls = sorted(name for name in special | tags if len(name) > 1)
        self._number = {name: number for number, name in enumerate(self._controls)}
        self._special = _any_of(special.intersection(self._controls))
        self._control = _any_of(self._controls)
        # No text of a caller can contain a mark: it is unknown, and `protect` removes it.
        self._mark = f"arena{secrets.token_hex(8)}"

    def protect(self, text: str, *, reply: bool = False) -> str:
        """The text with each control token replaced by a mark, which `encode` reads as text.

        reply: the text is the model's own, in which the template may look for its markup.
        """
        text = text.replace(self._mark, "\ufffd")
        pattern = self._special if reply else self._control
        return pattern.sub(lambda match: f"{self._mark}t{self._number[match[0]]}t", text)

    def restore(self, text: str) -> str:
        """The text without marks."""
        if self._mark not in text:
            return text
        return re.sub(rf"{self._mark}t(\d+)t", lambda match: self._controls[int(match[1])], text)

    def encode(self, text: str, *, add_special_tokens: bool | None = None) -> list[int]:
        """The tokens of a prompt. add_special_tokens: None for the tokenizer's default.

        Raises ControlTokenError for a text with marks if the tokenizer is not a fast one.
        """
        if self._mark not in text:
            options = (
                {} if add_special_tokens is None else {"add_special_tokens": add_special_tokens}
            )
            tokens: list[int] = self._tokenizer(text, **options).input_ids
            return tokens
        # Unmarked text is the template's own: its control tokens get their other names.
        text = self.restore(self._control.sub(lambda match: self._rename(match[0]), text))
        added = add_special_tokens is not False
        return list(self._textual.encode(text, add_special_tokens=added).ids)

    def has_control(self, text: str) -> bool:
        """True if a control token is in the text."""
        return self._control.search(text) is not None

    # Both variants are made when a text needs them, because each takes the memory of a tokenizer.

    @cached_property
    def _textual(self) -> Tokenizer:
        """The tokenizer with other names for its control tokens: their real names are text."""
        return Tokenizer.from_str(json.dumps(self._describe_renamed()))

    @cached_property
    def continuing(self) -> Tokenizer:
        """A tokenizer that reads control tokens as text and puts no space before a text."""
        described = self._describe_renamed()
        for key in ("normalizer", "pre_tokenizer"):
            described[key] = _without_prefix(described[key])
        return Tokenizer.from_str(json.dumps(described))

    @cached_property
    def adds_prefix(self) -> bool:
        """True if the tokenizer puts a space before a text."""
        backend = getattr(self._tokenizer, "backend_tokenizer", None)
        if backend is None:
            return False
        parts = (backend.normalizer, backend.pre_tokenizer)
        described = [json.loads(part.__getstate__()) for part in parts if part is not None]
        return any(_without_prefix(part) != part for part in described)

    def _rename(self, control: str) -> str:
        return f"{self._mark}c{self._number[control]}c"

    def _describe_renamed(self) -> dict[str, Any]:
        backend = getattr(self._tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise ControlTokenError
        described: dict[str, Any] = json.loads(backend.to_str())
        described["truncation"] = described["padding"] = None
        names = {control: self._rename(control) for control in self._controls}
        for token in described["added_tokens"]:
            token["content"] = names.get(token["content"], token["content"])
        model = described["model"]
        if isinstance(model["vocab"], dict):
            model["vocab"] = {names.get(t, t): index for t, index in model["vocab"].items()}
        else:
            model["vocab"] = [[names.get(t, t), score] for t, score in model["vocab"]]
        if (unknown := model.get("unk_token")) is not None:
            model["unk_token"] = names.get(unknown, unknown)
        return described


def _any_of(texts: Collection[str]) -> re.Pattern[str]:
    """Matches the longest of these texts; nothing if there are none.

    As a tree of their characters: a tokenizer may have thousands of special tokens, and a list of
    alternatives would be tried one by one.
    """
    tree: dict[str, Any] = {}
    for text in filter(None, texts):
        node = tree
        for char in text:
            node = node.setdefault(char, {})
        node[""] = {}

    def render(node: dict[str, Any]) -> str:
        branches = [re.escape(char) + render(after) for char, after in node.items() if char]
        if not branches:
            return ""
        return f"(?:{'|'.join(branches)}){'?' if '' in node else ''}"

    return re.compile(render(tree) or "(?!)")


def _without_prefix(part: dict[str, Any] | None) -> dict[str, Any] | None:
    """A normalizer or pre-tokenizer that puts no space before a text."""
    if part is None or part["type"] == "Prepend":
        return None
    match part["type"]:
        case "Metaspace":
            return {**part, "prepend_scheme": "never"}
        case "ByteLevel":
            return {**part, "add_prefix_space": False}
        case "Sequence":
            key = "normalizers" if "normalizers" in part else "pretokenizers"
            parts = map(_without_prefix, part[key])
            return {**part, key: [kept for kept in parts if kept is not None]}
    return part
