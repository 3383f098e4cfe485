"""From tokens to text. Tokens become bytes first, so that no character is ever split."""

from __future__ import annotations

import codecs
from collections.abc import Iterable

from services.common.local.stops import StopStrings

#: Stands for a special token of a stop string. No text has half a surrogate pair.
_FIRST_MARK = 0xD800


class TextStream:
    """One completion's text as it grows.

    Holds back text that may turn out to begin a stop string, and bytes of an incomplete
    character. strip_space, strip_end: the tokenizer's decoder drops a space at the beginning or
    at the end of a text. specials: the tokenizer's special tokens; a stop string may have them.
    """

    def __init__(
        self,
        stops: tuple[str, ...] = (),
        strip_space: bool = False,
        strip_end: bool = False,
        specials: Iterable[str] = (),
    ) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        stopping = [t for t in specials if any(t in stop for stop in stops)] if stops else []
        self._marks = {token: chr(_FIRST_MARK + index) for index, token in enumerate(stopping)}
        # A model may also write the name of a special token character by character.
        self._originals = {stop: stop for stop in stops} | {
            self._mark(stop): stop for stop in stops
        }
        self._stops = StopStrings(tuple(self._originals))
        #: Single bytes of byte fallback, which are decoded when their run ends.
        self._run = b""
        self._strip_space = strip_space
        self._strip_end = strip_end
        #: The space at the end of the text, if the decoder may drop it.
        self._space = ""
        self._released: list[str] = []

    @property
    def stop(self) -> str | None:
        """The stop string that has ended the text."""
        match = self._stops.match
        return None if match is None else self._originals[match]

    @property
    def text(self) -> str:
        """The released text."""
        return "".join(self._released)

    def push(self, token: bytes, *, single: bool = False, may_stop: bool = True) -> str:
        """Add one token's bytes. Returns the text that can be released now.

        single: the token is one byte of byte fallback. may_stop: False ignores a stop string that
        ends with this token.
        """
        if single:
            self._run += token
            return ""
        new = self._strip(self._end_run() + self._decoder.decode(token))
        return self._release(self._stops.push(new, may_stop=may_stop))

    def push_special(self, token: str, *, may_stop: bool = True) -> str:
        """Add a special token, which is not part of the text but may end it."""
        mark = self._marks.get(token, "")
        if not mark:
            return ""
        new = self._strip(self._end_run()) + mark
        return self._release(self._stops.push(new, may_stop=may_stop))

    def finish(self) -> str:
        """Release the text that was held back; an incomplete character becomes U+FFFD."""
        end = self._end_run() + self._decoder.decode(b"", final=True)
        last = self._stops.finish(self._strip(end))
        return self._release(last, final=self.stop is None)

    def _end_run(self) -> str:
        """The text of the single bytes until now.

        As the decoder of byte fallback writes it: if they are no characters, each is a U+FFFD.
        """
        run, self._run = self._run, b""
        try:
            return run.decode()
        except UnicodeDecodeError:
            return "\ufffd" * len(run)

    def _strip(self, new: str) -> str:
        if self._strip_space and new:
            new, self._strip_space = new.removeprefix(" "), False
        return new

    def _release(self, text: str, *, final: bool = False) -> str:
        for mark in self._marks.values():
            text = text.replace(mark, "")
        if self._strip_end:
            text, self._space = self._space + text, ""
            if text.endswith(" ") and self.stop is None:
                text, self._space = text[:-1], "" if final else " "
        if text:
            self._released.append(text)
        return text

    def _mark(self, stop: str) -> str:
        """A stop string in which marks stand for special tokens, the longest first."""
        for token in sorted(self._marks, key=len, reverse=True):
            stop = stop.replace(token, self._marks[token])
        return stop
