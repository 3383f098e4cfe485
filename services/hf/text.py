"""From tokens to text. Tokens become bytes first, so that no character is ever split."""

from __future__ import annotations

import codecs
import json
import re
from typing import Any

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>\Z")


def _byte_level_alphabet() -> dict[str, int]:
    """The printable characters with which byte-level BPE (GPT-2) writes the 256 bytes."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    alphabet = {chr(byte): byte for byte in plain}
    alphabet.update({chr(256 + index): byte for index, byte in enumerate(others)})
    return alphabet


class Vocabulary:
    """The bytes of every token; empty for special tokens.

    spaced: True if words carry their space as U+2581 (SentencePiece). The first space of a
    completion is then not part of its text.
    """

    def __init__(self, tokenizer: Any) -> None:
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise ValueError("the model has no fast tokenizer (tokenizer.json)")
        decoder = json.dumps(json.loads(backend.to_str()).get("decoder"))
        self.spaced = "ByteLevel" not in decoder
        special = set(tokenizer.all_special_ids)
        special.update(i for i, t in tokenizer.added_tokens_decoder.items() if t.special)
        alphabet = _byte_level_alphabet()
        vocabulary: dict[str, int] = tokenizer.get_vocab()
        self.bytes = [b""] * (max(vocabulary.values()) + 1)
        added = {token.content for token in tokenizer.added_tokens_decoder.values()}
        for token, index in vocabulary.items():
            if index in special:
                continue
            if token in added:
                self.bytes[index] = token.encode()
            elif self.spaced:
                byte = _BYTE_TOKEN.match(token)
                text = token.replace("\u2581", " ")
                self.bytes[index] = bytes([int(byte[1], 16)]) if byte else text.encode()
            else:
                self.bytes[index] = bytes(alphabet[char] for char in token if char in alphabet)
        self.special_ids = sorted(special)
        self.longest = max(map(len, self.bytes))

    def token_bytes(self, token: int) -> bytes:
        """The token's bytes; empty for special tokens and for padding of the output layer."""
        return self.bytes[token] if token < len(self.bytes) else b""

    def token_text(self, token: int) -> str:
        """The token's own text, with U+FFFD for parts of characters."""
        return self.token_bytes(token).decode(errors="replace")


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
        self.stopped = False

    @property
    def text(self) -> str:
        """The released text."""
        return "".join(self._released)

    def push(self, token: bytes) -> str:
        """Add one token's bytes. Returns the text that can be released now.

        Sets `stopped` at a stop string, and releases only the text before it.
        """
        return self._advance(self._decoder.decode(token), final=False)

    def finish(self) -> str:
        """Release the text that was held back; an incomplete character becomes U+FFFD."""
        return self._advance(self._decoder.decode(b"", final=True), final=True)

    def _advance(self, new: str, *, final: bool) -> str:
        if self.stopped:
            return ""
        if self._strip_space and new:
            new, self._strip_space = new.removeprefix(" "), False
        self._held += new
        # The stop string that ends first counts, so that the token boundaries do not matter.
        stops = [(at + len(stop), at) for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if stops:
            self.stopped = True
            return self._release(min(stops)[1])
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
