"""The bytes of a model's tokens."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
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
    completion is then not part of its text. Raises ValueError for a tokenizer that is not fast.
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
        self._special: dict[int, bytes] = {}
        added = {token.content for token in tokenizer.added_tokens_decoder.values()}
        for token, index in vocabulary.items():
            if index in special:
                self._special[index] = token.encode()
            elif token in added:
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

    def find_special(self, texts: Iterable[str]) -> dict[int, str]:
        """The special tokens that are one of these texts, with it."""
        wanted = {text.encode(): text for text in texts}
        return {
            token: wanted[written] for token, written in self._special.items() if written in wanted
        }

    def written_bytes(self, token: int) -> bytes:
        """The token's bytes, also of a special token."""
        return self.token_bytes(token) or self._special.get(token, b"")
