"""The prefix cache: keys and values of recent prompts, reused by prompts with the same prefix.

It is a trie of tokens. Each token has a place in one pool of memory and is found by the place
of the token before it, so prompts share their common prefix token by token (RadixAttention,
https://arxiv.org/abs/2312.07104, without compressed edges). The least recently used tokens
are overwritten first, from the ends of prompts towards their beginnings.

In a decoder-only model, the result for a token depends only on the tokens before it, also
with sliding windows and relative positions, so a hit changes no result. An encoder reads a
prompt in both directions: such models have no prefix cache.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence

import torch

from services.hf.cache import WindowCache

#: The place before the first token. Its keys and values are zeros; padding uses it.
_ROOT = 0


class PrefixCache:
    """Keys and values of tokens, by the tokens before them.

    max_bytes: size of all keys and values, allocated by the first prompt. Not thread-safe:
    one engine owns it.
    """

    #: Storing and reading fewer tokens costs more than it saves.
    unit = 16

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        #: (place of the token before, token) -> place; the least recently used first.
        #: A token is always older than the token before it, so the first entry ends a prompt.
        self._places: OrderedDict[tuple[int, int], int] = OrderedDict()
        self._free: list[int] = []
        #: [heads, places, head size] of keys and of values, of each layer.
        self._pool: list[tuple[torch.Tensor, torch.Tensor]] = []

    def __len__(self) -> int:
        """The number of cached tokens."""
        return len(self._places)

    @property
    def allocated_bytes(self) -> int:
        """Bytes of allocated memory."""
        return sum(part.nbytes for layer in self._pool for part in layer)

    def count(self, tokens: Sequence[int]) -> int:
        """How many of the first tokens are cached."""
        return len(self.match(tokens))

    def match(self, tokens: Sequence[int]) -> list[int]:
        """The places of the longest cached prefix."""
        places: list[int] = []
        place: int | None = _ROOT
        for token in tokens:
            place = self._places.get((place, token))  # type: ignore[arg-type]  # not None here
            if place is None:
                break
            places.append(place)
        return places

    def read(self, rows: Sequence[list[int]]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield each layer's keys and values, [rows, heads, columns, head size], padded left."""
        width = max(map(len, rows))
        padded = [[_ROOT] * (width - len(places)) + places for places in rows]
        index = torch.tensor(padded, device=self._pool[0][0].device).flatten()
        for parts in self._pool:
            keys, values = (
                part.index_select(1, index)
                .view(part.shape[0], len(rows), width, part.shape[2])
                .transpose(0, 1)
                for part in parts
            )
            yield keys, values

    def store(self, tokens: Sequence[int], cache: WindowCache, row: int) -> None:
        """Store the keys and values of these tokens, which a row of `cache` has just read."""
        if not self._pool:
            self._allocate(cache)
        # Only as many tokens as the pool has places for.
        tokens = tokens[: len(self._places) + len(self._free)]
        places = self.match(tokens)
        cached = len(places)
        self._touch(tokens, places)
        while len(self._free) < len(tokens) - cached:
            _, place = self._places.popitem(last=False)
            self._free.append(place)
        taken = self._free[: len(tokens) - cached]
        if taken:
            self._write(taken, cache, row, cached)
            del self._free[: len(taken)]
            self._touch(tokens, places + taken)

    def _touch(self, tokens: Sequence[int], places: list[int]) -> None:
        """Mark a path as the most recently used, its end before its beginning."""
        befores = [_ROOT, *places]
        for depth in reversed(range(len(places))):
            key = befores[depth], tokens[depth]
            self._places[key] = places[depth]
            self._places.move_to_end(key)

    def _write(self, places: list[int], cache: WindowCache, row: int, begin: int) -> None:
        window = cache.window
        first = window.width - window.lengths[row] + begin
        index = torch.tensor(places, device=self._pool[0][0].device)
        for parts, layer in zip(self._pool, cache.layers, strict=True):
            for part, states in zip(parts, layer.live(), strict=True):
                part.index_copy_(1, index, states[row, :, first : first + len(places)])

    def _allocate(self, cache: WindowCache) -> None:
        states = [layer.live() for layer in cache.layers]
        token_bytes = sum(part[0, :, 0].nbytes for parts in states for part in parts)
        count = self._max_bytes // token_bytes
        if count < 2:
            return
        pool = []
        for parts in states:
            keys, values = (part.new_empty((part.shape[1], count, part.shape[3])) for part in parts)
            keys[:, _ROOT] = values[:, _ROOT] = 0
            pool.append((keys, values))
        # Assigned together: if memory runs out above, no layer is allocated.
        self._pool, self._free = pool, list(range(1, count))
