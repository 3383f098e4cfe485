"""The stop strings of a request."""

from __future__ import annotations


class StopStrings:
    """Ends a text before the first of its stop strings.

    Holds back text that may turn out to begin one.
    """

    def __init__(self, stops: tuple[str, ...] = ()) -> None:
        self._stops = stops
        self._held = ""
        #: The stop string that has ended the text.
        self.match: str | None = None

    def push(self, new: str, *, may_stop: bool = True) -> str:
        """Add text. Returns the text that can be released now.

        Sets `match` at a stop string, and releases only the text before it; may_stop: False
        ignores a stop string that ends with this text.
        """
        return self._advance(new, final=False, may_stop=may_stop)

    def finish(self, new: str = "") -> str:
        """Add the last text, and release what was held back."""
        return self._advance(new, final=True, may_stop=True)

    def _advance(self, new: str, *, final: bool, may_stop: bool) -> str:
        if self.match is not None:
            return ""
        if not self._stops:
            return new
        self._held += new
        # The stop string that ends first counts, so that the token boundaries do not matter.
        stops = [
            (at + len(stop), at, stop) for stop in self._stops if (at := self._held.find(stop)) >= 0
        ]
        if stops and may_stop:
            _, begin, self.match = min(stops)
            return self._release(begin)
        return self._release(len(self._held) - (0 if final else self._possible_stop()))

    def _possible_stop(self) -> int:
        """The length of the longest suffix of the held text that begins a stop string."""
        longest = max(map(len, self._stops))
        for length in range(min(longest - 1, len(self._held)), 0, -1):
            if any(stop.startswith(self._held[-length:]) for stop in self._stops):
                return length
        return 0

    def _release(self, length: int) -> str:
        text, self._held = self._held[:length], self._held[length:]
        return text
