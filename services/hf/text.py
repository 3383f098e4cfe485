"""From tokens to text. Tokens become bytes first, so that no character is ever split."""

from __future__ import annotations

import codecs

from services.common.local.stops import StopStrings


class TextStream:
    """One completion's text as it grows.

    Holds back text that may turn out to begin a stop string, and bytes of an incomplete
    character.
    """

    def __init__(self, stops: tuple[str, ...] = (), strip_space: bool = False) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._stops = StopStrings(stops)
        self._strip_space = strip_space
        self._released: list[str] = []

    @property
    def stop(self) -> str | None:
        """The stop string that has ended the text."""
        return self._stops.match

    @property
    def text(self) -> str:
        """The released text."""
        return "".join(self._released)

    def push(self, token: bytes, *, may_stop: bool = True) -> str:
        """Add one token's bytes. Returns the text that can be released now.

        may_stop: False ignores a stop string that ends with this token.
        """
        new = self._strip(self._decoder.decode(token))
        return self._release(self._stops.push(new, may_stop=may_stop))

    def finish(self) -> str:
        """Release the text that was held back; an incomplete character becomes U+FFFD."""
        return self._release(self._stops.finish(self._strip(self._decoder.decode(b"", final=True))))

    def _strip(self, new: str) -> str:
        if self._strip_space and new:
            new, self._strip_space = new.removeprefix(" "), False
        return new

    def _release(self, text: str) -> str:
        if text:
            self._released.append(text)
        return text
