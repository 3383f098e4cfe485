"""Reasoning that a model writes into its content, between <think> and </think>.

Many providers of open models leave it there. It comes before the text: a text that mentions <think>
later stays a text.
"""

from __future__ import annotations

_BEGIN, _END = "<think>", "</think>"


class ThoughtSplitter:
    """Splits the pieces of a content into reasoning and text.

    found: the content begins with <think>. skipped: bytes of the content before the text.
    White space around the reasoning is dropped. Without </think>, all of it is reasoning.
    """

    __slots__ = ("_fed", "_held", "_state", "_thinks", "found", "skipped")

    def __init__(self) -> None:
        self.found = False
        self.skipped = 0
        self._fed = 0
        self._held = ""
        self._state = "begin"
        self._thinks = False  # the reasoning has begun with something else than white space

    def feed(self, piece: str) -> tuple[str, str]:
        """Take the next piece of the content. Return what it adds to the reasoning and the text."""
        if self._state == "text":
            return "", piece
        self._held += piece
        self._fed += len(piece.encode(errors="replace"))
        reasoning = ""
        while True:
            if self._state == "begin":
                if not self._begin():
                    return reasoning, self._take_text()
            elif (end := self._held.find(_END)) < 0:
                if not self._thinks:
                    self._held = self._held.lstrip()
                    self._thinks = bool(self._held)
                kept = len(self._held[: self._find_kept()].rstrip())
                added, self._held = self._held[:kept], self._held[kept:]
                return reasoning + added, ""
            else:
                thought = self._held[:end].rstrip()
                reasoning += thought if self._thinks else thought.lstrip()
                self._held = self._held[end + len(_END) :].lstrip()
                self._state = "begin"

    def flush(self) -> tuple[str, str]:
        """Return what still waits when the content ends."""
        held, self._held = self._held, ""
        if self._state == "thought":
            return held.rstrip(), ""
        return "", held

    def _begin(self) -> bool:
        """Whether reasoning begins. If something else does, the text begins."""
        begin = self._held.lstrip()
        if begin.startswith(_BEGIN):
            self._held = begin.removeprefix(_BEGIN)
            self._state, self._thinks = "thought", False
            self.found = True
            return True
        if self.found:
            self._held = begin
        if not _BEGIN.startswith(begin):
            self._state = "text"
            if self.found:
                self.skipped = self._fed - len(begin.encode(errors="replace"))
        return False

    def _take_text(self) -> str:
        if self._state != "text":
            return ""
        text, self._held = self._held, ""
        return text

    def _find_kept(self) -> int:
        """Where a possible beginning of an end tag starts, which waits for the next piece."""
        for length in range(len(_END) - 1, 0, -1):
            if self._held.endswith(_END[:length]):
                return len(self._held) - length
        return len(self._held)
