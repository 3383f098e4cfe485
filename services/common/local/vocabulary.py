"""The bytes of a model's tokens: what the tokenizer's own decoder writes for them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>\Z")
#: Decoded beside each token, to see what that token adds inside a text. No decoder changes it.
_ANCHOR = "x"


def _byte_level_alphabet() -> dict[str, int]:
    """The printable characters with which byte-level BPE (GPT-2) writes the 256 bytes."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    alphabet = {chr(byte): byte for byte in plain}
    alphabet.update({chr(256 + index): byte for index, byte in enumerate(others)})
    return alphabet


class Vocabulary:
    """The bytes that each token adds to a text; empty for special tokens.

    spaced: True if the decoder drops the space before the first word of a text, so that it is not
    part of a completion (many SentencePiece tokenizers, WordPiece). trails: True if it drops the
    space after the last word (BPE with a suffix such as </w>). Raises ValueError for a tokenizer
    that is not fast, and for a decoder that does not write one token after the other.
    """

    def __init__(self, tokenizer: Any) -> None:
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise ValueError("the model has no fast tokenizer (tokenizer.json)")
        decoder = backend.decoder
        # Not of the whole tokenizer, whose description has megabytes.
        kinds = set() if decoder is None else {*_kinds(json.loads(decoder.__getstate__()))}
        if "CTC" in kinds:
            raise ValueError("its tokenizer's decoder (CTC) is made for speech, not for text")
        decode = _join if decoder is None else decoder.decode
        self.trails = "BPEDecoder" in kinds
        write = _byte_level() if "ByteLevel" in kinds else _writer(decode, self.trails)
        special = set(tokenizer.all_special_ids)
        special.update(i for i, t in tokenizer.added_tokens_decoder.items() if t.special)
        vocabulary: dict[str, int] = tokenizer.get_vocab()
        self.bytes = [b""] * (max(vocabulary.values()) + 1)
        bytewise: list[int] = []
        self._special: dict[int, bytes] = {}
        for token, index in vocabulary.items():
            if index in special:
                self._special[index] = token.encode()
            elif "ByteFallback" in kinds and (byte := _BYTE_TOKEN.match(token)):
                self.bytes[index] = bytes([int(byte[1], 16)])
                bytewise.append(index)
            else:
                self.bytes[index] = write(token)
        self.spaced = "ByteLevel" not in kinds and self._drops_first_space(decode, vocabulary)
        self.special_ids = sorted(special)
        #: Tokens that are no part of the tokenizer's model; a text can be written without them.
        self.added_ids = frozenset(tokenizer.added_tokens_decoder)
        #: Tokens that are a single byte of a character (byte fallback).
        self.byte_ids = frozenset(bytewise)
        #: The special tokens' names.
        self.specials = [name.decode() for name in self._special.values()]
        self.longest = max(map(len, self.bytes))

    def _drops_first_space(
        self, decode: Callable[[list[str]], str], vocabulary: dict[str, int]
    ) -> bool:
        spaced = (token for token, index in vocabulary.items() if self.bytes[index][:1] == b" ")
        token = next(spaced, None)
        return token is not None and decode([token]).encode() == self.bytes[vocabulary[token]][1:]

    def token_bytes(self, token: int) -> bytes:
        """The token's bytes; empty for special tokens and for padding of the output layer."""
        return self.bytes[token] if token < len(self.bytes) else b""

    def find_special(self, texts: Iterable[str]) -> dict[int, str]:
        """The special tokens that are one of these texts, with it."""
        wanted = {text.encode(): text for text in texts}
        return {
            token: wanted[written] for token, written in self._special.items() if written in wanted
        }

    def special_bytes(self, token: int) -> bytes:
        """The bytes of a special token; empty for others."""
        return self._special.get(token, b"")

    def written_bytes(self, token: int) -> bytes:
        """The token's bytes, also of a special token."""
        return self.token_bytes(token) or self.special_bytes(token)

    def completion_bytes(self, tokens: Sequence[int], *, spaced: bool) -> bytes:
        """The bytes of a whole completion. spaced: without the space before its first word."""
        written = b"".join(map(self.token_bytes, tokens))
        if spaced:
            written = written.removeprefix(b" ")
        return written.removesuffix(b" ") if self.trails else written


def _kinds(decoder: dict[str, Any]) -> Iterator[str]:
    """The types of a decoder and of those that it consists of."""
    yield decoder["type"]
    for part in decoder.get("decoders", ()):
        yield from _kinds(part)


def _byte_level() -> Callable[[str], bytes]:
    """Writes a token of byte-level BPE, of which one may be a part of a character."""
    alphabet = _byte_level_alphabet()

    def write(token: str) -> bytes:
        if all(char in alphabet for char in token):
            return bytes(alphabet[char] for char in token)
        return token.encode()

    return write


def _writer(decode: Callable[[list[str]], str], trails: bool) -> Callable[[str], bytes]:
    """Writes a token as the decoder does in the middle of a text."""

    def write(token: str) -> bytes:
        if trails:  # only a token that others follow gets the space of its suffix
            return decode([_ANCHOR, token, _ANCHOR])[len(_ANCHOR) : -len(_ANCHOR)].encode()
        return decode([_ANCHOR, token])[len(_ANCHOR) :].encode()

    return write


def _join(tokens: list[str]) -> str:
    """A tokenizer without a decoder writes its tokens as words."""
    return " ".join(tokens)
