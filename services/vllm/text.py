"""From tokens to text, and where the text ends."""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Mapping
from dataclasses import replace

from arena_llm.types import Delta, StopMatch
from services.common.local.stops import StopStrings
from services.common.local.vocabulary import Vocabulary


class TokenDecoder:
    """The text of one completion's tokens.

    vLLM's own detokenizer begins with the prompt, so a prompt that ends in a part of a character
    changes the text, and it drops bytes that are no character. shows_special: special tokens have
    a text, which some parsers read.
    """

    def __init__(self, vocabulary: Vocabulary, *, shows_special: bool) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._to_bytes = vocabulary.written_bytes if shows_special else vocabulary.token_bytes

    def push(self, token: int) -> str:
        """The characters that this token completes."""
        return self._decoder.decode(self._to_bytes(token))

    def finish(self) -> str:
        """What is left at the end: U+FFFD for an incomplete character."""
        return self._decoder.decode(b"", final=True)


class AnswerEnd:
    """Ends an answer at the first of the request's stop strings or tokens, not its reasoning.

    stops: the stop strings. tokens: tokens that end it, with what the reply says of them: a stop
    string can be a special token. min_tokens: the completion does not end before this many.
    """

    def __init__(
        self, stops: tuple[str, ...], tokens: Mapping[int, StopMatch], min_tokens: int = 0
    ) -> None:
        self._stops = StopStrings(stops)
        self._tokens = tokens
        self._min_tokens = min_tokens
        self._token_match: StopMatch | None = None

    @property
    def match(self) -> StopMatch | None:
        """What has ended the answer."""
        text = self._stops.match
        return self._token_match if text is None else StopMatch(text=text)

    def is_stop(self, token: int, count: int) -> bool:
        """Record a token of the answer, the `count`-th one. True if the answer ends before it."""
        if count >= self._min_tokens:
            self._token_match = self._tokens.get(token)
        return self._token_match is not None

    def cut(self, deltas: list[Delta], count: int) -> Iterator[Delta]:
        """Yield the deltas of the `count`-th token, without what may begin a stop string."""
        may_stop = count >= self._min_tokens
        for delta in deltas:
            if not delta.text:
                yield from self.finish()
                yield delta
            elif text := self._stops.push(delta.text, may_stop=may_stop):
                yield replace(delta, text=text)
            if self._stops.match is not None:
                return

    def finish(self) -> Iterator[Delta]:
        """Yield the text that was held back."""
        if text := self._stops.finish():
            yield Delta(text=text)
