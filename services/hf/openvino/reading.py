"""Rows of the cache, and prompts that are read in pieces."""

from __future__ import annotations

from collections.abc import Sequence

from services.hf.forward import Floats
from services.hf.openvino.blocks import BlockPool
from services.hf.openvino.compiled import Chunk, CompiledModel, count_blocks
from services.hf.openvino.operator import BLOCK


class PagedRow:
    """One row: its tokens and the blocks of their keys and values.

    known: tokens whose keys and values are in the cache. tokens: all, the unread ones at the end.
    """

    def __init__(self, pool: BlockPool, tokens: Sequence[int], shared: Sequence[int] = ()) -> None:
        """shared: blocks of the first tokens, which other rows or prefixes use too."""
        self._pool = pool
        self.tokens = list(tokens)
        self.blocks = list(shared)
        self.known = len(shared) * BLOCK
        pool.share(self.blocks)

    @property
    def unread(self) -> int:
        """How many tokens the model has still to read."""
        return len(self.tokens) - self.known

    def fork(self, model: CompiledModel, tokens: Sequence[int]) -> PagedRow:
        """A new row that continues this one, all of which is read, with further tokens."""
        full, rest = divmod(self.known, BLOCK)
        row = PagedRow(self._pool, self.tokens, self.blocks[:full])
        if rest:
            try:
                row.blocks += self._pool.take(1)
            except MemoryError:
                row.release()
                raise
            model.copy_block(self.blocks[full], row.blocks[full])
        row.known = self.known
        row.tokens += tokens
        return row

    def begin_block(self, model: CompiledModel, source: int, known: int) -> None:
        """Copy the first `known` tokens of the next block from another row's block."""
        self._pool.share([source])  # so that the new block is not the source
        try:
            self.blocks += self._pool.take(1)
        except MemoryError:
            return  # the tokens are read instead
        finally:
            self._pool.release([source])
        model.copy_block(source, self.blocks[-1])
        self.known += known

    def chunk(self, count: int, wanted: int) -> Chunk:
        """The next `count` unread tokens. Raises MemoryError."""
        until = self.known + count
        self.blocks += self._pool.take(max(0, count_blocks(until) - len(self.blocks)))
        return Chunk(self.tokens[self.known : until], self.known, self.blocks, wanted)

    def release(self, model: CompiledModel | None = None) -> None:
        """Free the row. model: zero its own blocks, because they may contain NaN."""
        if model is not None:
            self._pool.kept.forget_parts(self.blocks)
        freed = self._pool.release(self.blocks)
        self.blocks = []
        if model is not None:
            for block in freed:
                model.wipe_block(block)


class Reading:
    """Rows whose unread tokens the next passes read.

    every: the logits of all tokens are needed; else, those after each row. outputs: for each row,
    the logits of its pieces so far. failed: a pass that also decoded has failed.
    """

    def __init__(self, rows: Sequence[PagedRow], *, every: bool = False) -> None:
        self.rows = rows
        self.outputs: list[list[Floats]] = [[] for _ in rows]
        self.failed = False
        self.every = every
        self._taken: list[tuple[int, Chunk]] = []

    @property
    def unread(self) -> bool:
        """True if there are tokens to read."""
        return any(row.unread for row in self.rows)

    def take(self, limit: int) -> list[Chunk]:
        """The next piece, of about `limit` tokens. It counts as read after `give`."""
        self._taken = []
        for index, row in enumerate(self.rows):
            count = _piece(row.unread, limit)
            if count:
                wanted = count if self.every else int(count == row.unread)
                self._taken.append((index, row.chunk(count, wanted)))
                limit -= count
        return [chunk for _, chunk in self._taken]

    def give(self, logits: Floats) -> None:
        """Take the logits of the piece."""
        begin = 0
        for index, chunk in self._taken:
            self.rows[index].known += len(chunk.tokens)
            if chunk.wanted:
                # A copy, because the next pass overwrites them.
                self.outputs[index].append(logits[begin : begin + chunk.wanted].copy())
                begin += chunk.wanted


def _piece(unread: int, limit: int) -> int:
    """How many of a row's unread tokens to read.

    Never a single one, if more are unread: attention has another kernel for it, and the bits of a
    prompt would depend on its pieces.
    """
    if unread <= limit:
        return unread
    count = limit - (unread - limit == 1)
    return count if count >= 2 else 0
