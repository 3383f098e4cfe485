"""Encodes texts that a model has to write: choices, continuations and forced text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

from services.common.local.encoding import PromptEncoder
from services.common.local.vocabulary import Vocabulary


class UnwritableError(ValueError):
    """No tokens of the vocabulary write this text."""


class CompletionEncoder:
    """Encodes texts so that the decoder writes exactly them.

    The tokenizer's own way is preferred. But some tokenizers put a space before each text, some
    normalize it, and all read the name of a control token as that token.

    spaced: True if the first space of a completion is not part of its text.
    """

    def __init__(
        self, tokenizer: Any, prompts: PromptEncoder, vocabulary: Vocabulary, *, spaced: bool
    ) -> None:
        self._tokenizer = tokenizer
        self._prompts = prompts
        self._vocabulary = vocabulary
        self._spaced = spaced

    def encode(self, text: str) -> list[int]:
        """The tokens of a text at the beginning of a completion.

        Raises UnwritableError if the vocabulary cannot write exactly this text.
        """
        tokens = self._encode_plainly(text)
        if self._vocabulary.completion_bytes(tokens, spaced=self._spaced) == text.encode():
            return tokens
        lead, trail = " " * self._spaced, " " * self._vocabulary.trails
        piece = self.encode_piece(f"{lead}{text}{trail}")
        if piece is None:
            raise UnwritableError
        return piece

    def encode_piece(self, text: str, limit: int | None = None) -> list[int] | None:
        """Tokens that write exactly this text after other tokens; None if none do.

        limit: use only token ids below it.
        """
        limit = len(self._vocabulary.bytes) if limit is None else limit
        for tokens in self._attempts(text):
            if all(token < limit for token in tokens) and self._write(tokens) == text.encode():
                return tokens
        tokens, rest = self.encode_greedily(text.encode(), limit)
        return None if rest else tokens

    def encode_greedily(self, text: bytes, limit: int) -> tuple[list[int], bytes]:
        """Take the longest fitting token repeatedly. Returns the tokens and what is left."""
        tokens = []
        while text:
            lengths = range(min(len(text), self._vocabulary.longest), 0, -1)
            fitting = next((n for n in lengths if self._token_of.get(text[:n], limit) < limit), 0)
            if not fitting:
                break
            tokens.append(self._token_of[text[:fitting]])
            text = text[fitting:]
        return tokens, text

    def _attempts(self, text: str) -> Iterator[list[int]]:
        yield self._encode_plainly(text)
        if text.startswith(" "):
            yield self._encode_plainly(text[1:])
        if self._prompts.adds_prefix or self._prompts.has_control(text):
            yield list(self._prompts.continuing.encode(text, add_special_tokens=False).ids)

    def _encode_plainly(self, text: str) -> list[int]:
        tokens: list[int] = self._tokenizer(text, add_special_tokens=False).input_ids
        return tokens

    def _write(self, tokens: Sequence[int]) -> bytes:
        return b"".join(map(self._vocabulary.token_bytes, tokens))

    @cached_property
    def _token_of(self) -> dict[bytes, int]:
        return {data: i for i, data in reversed([*enumerate(self._vocabulary.bytes)]) if data}
