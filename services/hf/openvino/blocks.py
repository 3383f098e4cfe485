"""The blocks of a model's cache: who uses them, and which hold the beginnings of recent prompts."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Sequence
from itertools import takewhile

from services.hf.openvino.compiled import DUMMY_BLOCK
from services.hf.openvino.operator import BLOCK


class BlockPool:
    """Counts the users of each block. Not thread-safe: one engine owns it.

    A block without users is free, unless the prefix cache keeps it.
    """

    def __init__(self, count: int) -> None:
        self._users = [0] * count
        # The block that was freed last is taken first: its memory is in use already.
        self._free = [block for block in range(count - 1, -1, -1) if block != DUMMY_BLOCK]
        #: Blocks whose memory is in use, also if they are free.
        self._written: set[int] = set()
        self.kept = BlockPrefixes(self)

    @property
    def written(self) -> int:
        """How many blocks have memory."""
        return len(self._written)

    def take_unwritten(self) -> list[int]:
        """The free blocks that have memory, which the caller returns to the system."""
        returned = [block for block in self._free if block in self._written]
        self._written.difference_update(returned)
        return returned

    @property
    def available(self) -> int:
        """How many blocks can be taken."""
        return len(self._free) + sum(not self._users[block] for block in self.kept.blocks)

    def take(self, count: int) -> list[int]:
        """Use new blocks; the least recently used prefixes make room. Raises MemoryError."""
        while len(self._free) < count:
            if not self.kept.drop_oldest():
                raise MemoryError("the cache has no free block")
        taken = [self._free.pop() for _ in range(count)]
        for block in taken:
            self._users[block] = 1
        self._written.update(taken)
        return taken

    def share(self, blocks: Sequence[int]) -> None:
        """Add a user."""
        for block in blocks:
            self._users[block] += 1

    def release(self, blocks: Sequence[int]) -> list[int]:
        """Remove a user. Returns the blocks that are free now."""
        freed = []
        for block in blocks:
            self._users[block] -= 1
            if not self._users[block] and block not in self.kept.blocks:
                freed.append(block)
        self._free.extend(reversed(freed))
        return freed

    def is_used(self, block: int) -> bool:
        """True if a row uses the block."""
        return self._users[block] > 0

    def free(self, block: int) -> None:
        """Free a block that the prefix cache has kept."""
        self._free.append(block)


class BlockPrefixes:
    """The blocks of recent rows, found by their tokens and the block before them.

    max_blocks: how many are kept. In a decoder-only model, the keys and values of a token depend
    only on the tokens before it, so a hit changes no result.
    """

    #: A known beginning of a block is copied; it is not worth it to wait for one.
    unit = BLOCK

    def __init__(self, pool: BlockPool, max_blocks: int = 0) -> None:
        self._pool = pool
        self.max_blocks = max_blocks
        #: (block before, tokens) -> block; the least recently used first. A block is always
        #: older than the block before it, so the first unused entry ends a prefix.
        self._kept: OrderedDict[tuple[int, tuple[int, ...]], int] = OrderedDict()
        self.blocks: set[int] = set()
        #: Blocks that are not full: the key and the tokens of each. One after each block before.
        self._tails: dict[int, tuple[tuple[int, tuple[int, ...]], tuple[int, ...]]] = {}

    def count(self, tokens: Sequence[int]) -> int:
        """How many of the first tokens are cached, without the last token."""
        blocks = self.match(tokens, (len(tokens) - 1) // BLOCK)
        return BLOCK * len(blocks) + self.match_tail(tokens, blocks, len(tokens) - 1)[1]

    def match_tail(
        self, tokens: Sequence[int], blocks: Sequence[int], most: int
    ) -> tuple[int, int]:
        """A block that begins like the tokens after `blocks`, and how many tokens are the same.

        most: of all tokens, that may be known. The block has to be copied, because its row may
        still write the rest of it.
        """
        tail = self._kept.get((blocks[-1] if blocks else DUMMY_BLOCK, ()))
        if tail is None:
            return DUMMY_BLOCK, 0
        begin = len(blocks) * BLOCK
        pairs = zip(self._tails[tail][1], tokens[begin:most], strict=False)
        return tail, sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))

    def match(self, tokens: Sequence[int], most: int) -> list[int]:
        """The blocks of the longest cached prefix, at most this many."""
        blocks: list[int] = []
        before = DUMMY_BLOCK
        for index in range(most):
            block = self._kept.get((before, _tokens(tokens, index)))
            if block is None:
                break
            blocks.append(block)
            before = block
        return blocks

    def store(self, tokens: Sequence[int], blocks: Sequence[int]) -> None:
        """Keep the blocks of these tokens, which a row has read."""
        before = DUMMY_BLOCK
        path: dict[tuple[int, tuple[int, ...]], None] = {}
        for index in range(len(tokens) // BLOCK):
            key = before, _tokens(tokens, index)
            block = self._kept.get(key)
            if block is None:
                if blocks[index] in self._tails:  # it is full now
                    self._drop(self._tails[blocks[index]][0])
                if len(self._kept) >= self.max_blocks and not self.drop_oldest(path):
                    break
                block = self._kept[key] = blocks[index]
                self.blocks.add(block)
            path[key] = None
            before = block
        else:
            self._store_tail(before, tokens, blocks, path)
        for key in reversed([*path]):  # the end of the prefix before its beginning
            self._kept.move_to_end(key)

    def _store_tail(
        self,
        before: int,
        tokens: Sequence[int],
        blocks: Sequence[int],
        path: dict[tuple[int, tuple[int, ...]], None],
    ) -> None:
        """Keep the last block if it is not full, in place of another one after the same block."""
        full = len(tokens) // BLOCK
        rest = tuple(tokens[full * BLOCK :])
        if not rest:
            return
        key: tuple[int, tuple[int, ...]] = before, ()
        old = self._kept.get(key)
        if old is not None and old != blocks[full]:
            self._drop(key)
        elif old is None and len(self._kept) >= self.max_blocks and not self.drop_oldest(path):
            return
        self._kept[key] = blocks[full]
        self.blocks.add(blocks[full])
        self._tails[blocks[full]] = key, rest
        path[key] = None

    def forget_tails(self, blocks: Sequence[int]) -> None:
        """Drop blocks to which a row may have written NaN after it had stored them."""
        for block in blocks:
            if block in self._tails:
                self._drop(self._tails[block][0])

    def _drop(self, key: tuple[int, tuple[int, ...]]) -> None:
        block = self._kept.pop(key)
        self.blocks.remove(block)
        self._tails.pop(block, None)
        if not self._pool.is_used(block):
            self._pool.free(block)

    def drop_oldest(self, spared: Collection[tuple[int, tuple[int, ...]]] = ()) -> bool:
        """Free the least recently used block that no row uses. Returns False if there is none."""
        for key, block in self._kept.items():
            if key not in spared and not self._pool.is_used(block):
                self._drop(key)
                return True
        return False


def _tokens(tokens: Sequence[int], index: int) -> tuple[int, ...]:
    return tuple(tokens[index * BLOCK : (index + 1) * BLOCK])
