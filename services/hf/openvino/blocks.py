"""The blocks of a model's cache: who uses them, and which hold the beginnings of recent prompts."""

from __future__ import annotations

from bisect import bisect_left, insort
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


#: A kept block: the block before it, and its tokens, fewer than BLOCK at the end of a row.
_Key = tuple[int, tuple[int, ...]]


class BlockPrefixes:
    """The blocks of recent rows, found by their tokens and the block before them.

    max_blocks: how many are kept. In a decoder-only model, the keys and values of a token depend
    only on the tokens before it, so a hit changes no result.
    """

    #: Prompts wait for whole blocks only: the beginning of a block is copied, but not worth a wait.
    unit = BLOCK

    def __init__(self, pool: BlockPool, max_blocks: int = 0) -> None:
        self._pool = pool
        self.max_blocks = max_blocks
        #: The least recently used first. A block is always older than the block before it, so the
        #: first unused entry ends a prefix.
        self._kept: OrderedDict[_Key, int] = OrderedDict()
        #: The key of each kept block.
        self.blocks: dict[int, _Key] = {}
        #: Block -> the tokens of each kept block after it, in order. Those with the longest common
        #: beginning are neighbours.
        self._after: dict[int, list[tuple[int, ...]]] = {}

    def count(self, tokens: Sequence[int]) -> int:
        """How many of the first tokens are cached, without the last token."""
        blocks = self.match(tokens, (len(tokens) - 1) // BLOCK)
        return BLOCK * len(blocks) + self.match_part(tokens, blocks, len(tokens) - 1)[1]

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

    def match_part(
        self, tokens: Sequence[int], blocks: Sequence[int], most: int
    ) -> tuple[int, int]:
        """A block that begins like the tokens after `blocks`, and how many tokens are the same.

        most: how many of all tokens may be known. The block has to be copied, because its other
        tokens belong to other rows.
        """
        before = blocks[-1] if blocks else DUMMY_BLOCK
        wanted = _tokens(tokens[:most], len(blocks))
        others = self._after.get(before, [])
        place = bisect_left(others, wanted)
        found, known = DUMMY_BLOCK, 0
        for part in others[max(0, place - 1) : place + 1]:
            same = _count_common(part, wanted)
            if same > known:
                found, known = self._kept[before, part], same
        return found, known

    def store(self, tokens: Sequence[int], blocks: Sequence[int]) -> None:
        """Keep the blocks of these tokens, which a row has read."""
        before = DUMMY_BLOCK
        path: dict[_Key, None] = {}
        for index, mine in enumerate(blocks[: -(-len(tokens) // BLOCK)]):
            key = before, self._complete(before, _tokens(tokens, index))
            block = self._kept.get(key)
            if block is None:
                if mine in self.blocks:  # the row has read more since
                    self._drop(self.blocks[mine])
                if len(self._kept) >= self.max_blocks and not self.drop_oldest(path):
                    break
                block = self._kept[key] = mine
                self.blocks[mine] = key
                insort(self._after.setdefault(before, []), key[1])
            path[key] = None
            before = block
        for key in reversed([*path]):  # the end of the prefix before its beginning
            self._kept.move_to_end(key)

    def _complete(self, before: int, part: tuple[int, ...]) -> tuple[int, ...]:
        """The tokens of a kept block that begins with `part`; if there is none, `part` itself."""
        others = self._after.get(before, [])
        place = bisect_left(others, part)
        if place < len(others) and others[place][: len(part)] == part:
            return others[place]
        return part

    def forget_parts(self, blocks: Sequence[int]) -> None:
        """Drop blocks to which a row may have written NaN after it had stored them."""
        for block in blocks:
            if block in self.blocks and len(self.blocks[block][1]) < BLOCK:
                self._drop(self.blocks[block])

    def _drop(self, key: _Key) -> None:
        keys = [key]
        while keys:
            before, tokens = key = keys.pop()
            block = self._kept.pop(key)
            del self.blocks[block]
            self._after[before].remove(tokens)
            if not self._after[before]:
                del self._after[before]
            # A row that has read the same tokens at the same time may still use blocks after it.
            keys += ((block, after) for after in self._after.get(block, []))
            if not self._pool.is_used(block):
                self._pool.free(block)

    def drop_oldest(self, spared: Collection[_Key] = ()) -> bool:
        """Free the least recently used block that no row uses. Returns False if there is none."""
        for key, block in self._kept.items():
            if key not in spared and not self._pool.is_used(block):
                self._drop(key)
                return True
        return False


def _tokens(tokens: Sequence[int], index: int) -> tuple[int, ...]:
    return tuple(tokens[index * BLOCK : (index + 1) * BLOCK])


def _count_common(first: Sequence[int], second: Sequence[int]) -> int:
    pairs = zip(first, second, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
