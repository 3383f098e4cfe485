"""From tokens to text. Tokens become bytes first, so that no character is ever split."""

from __future__ import annotations

import codecs


class TextStream:
    """One completion's text as it grows.

    Holds back text that may turn out to begin a stop string, and bytes of an incomplete
    character.
    """

    def __init__(self, stops: tuple[str, ...] = (), strip_space: bool = False) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._stops = stops
        self._strip_space = strip_space
        self._held = ""
        self._released: list[str] = []
        #: The stop string that has ended the text.
        self.stop: str | None = None

    @property
    def text(self) -> str:
        """The released text."""
        return "".join(self._released)

    def push(self, token: bytes, *, may_stop: bool = True) -> str:
        """Add one token's bytes. Returns the text that can be released now.

        Sets `stop` at a stop string, and releases only the text before it; may_stop: False
        ignores a stop string that ends with this token.
        """
        return self._advance(self._decoder.decode(token), final=False, may_stop=may_stop)

    def finish(self) -> str:
        """Release the text that was held back; an incomplete character becomes U+FFFD."""
        return self._advance(self._decoder.decode(b"", final=True), final=True)

    def _advance(self, new: str, *, final: bool, may_stop: bool = True) -> str:
        if self.stop is not None:
            return ""
        if self._strip_space and new:
            new, self._strip_space = new.removeprefix(" "), False
        self._held += new
        # The stop string that ends first counts, so that the token boundaries do not matter.
        stops = [
            (at + len(stop), at, stop) for stop in self._stops if (at := self._held.find(stop)) >= 0
        ]
        if stops and may_stop:
            _, begin, self.stop = min(stops)
            return self._release(begin)
        return self._release(len(self._held) - (0 if final else self._possible_stop()))

    def _possible_stop(self) -> int:
        """The length of the longest suffix of the held text that begins a stop string."""
        longest = max(map(len, self._stops), default=0)
        for length in range(min(longest - 1, len(self._held)), 0, -1):
            if any(stop.startswith(self._held[-length:]) for stop in self._stops):
                return length
        return 0

    def _release(self, length: int) -> str:
        text, self._held = self._held[:length], self._held[length:]
        if text:
            self._released.append(text)
        return text
