"""The pool counts users, and prefixes are dropped from their ends."""

from __future__ import annotations

import pytest

from services.hf.openvino.blocks import BlockPool
from services.hf.openvino.operator import BLOCK
from services.hf.openvino.reading import PagedRow, _piece


def text(*parts: int) -> list[int]:
    """A block of equal tokens for each part."""
    return [part for part in parts for _ in range(BLOCK)]


def keep(pool: BlockPool, tokens: list[int]) -> None:
    """Read tokens and leave, as a row does."""
    shared = pool.kept.match(tokens, len(tokens) // BLOCK)
    pool.share(shared)
    blocks = shared + pool.take(len(tokens) // BLOCK - len(shared))
    pool.kept.store(tokens, blocks)
    pool.release(blocks)


@pytest.fixture
def pool() -> BlockPool:
    pool = BlockPool(9)  # one is for the dummy row
    pool.kept.max_blocks = 8
    return pool


def test_a_shared_block_is_free_after_its_last_user(pool: BlockPool) -> None:
    blocks = pool.take(3)
    pool.share(blocks[:2])
    assert pool.release(blocks) == blocks[2:]
    assert pool.available == 6
    assert pool.release(blocks[:2]) == blocks[:2]
    assert pool.available == 8


def test_there_are_no_more_blocks_than_there_are(pool: BlockPool) -> None:
    pool.take(8)
    with pytest.raises(MemoryError):
        pool.take(1)


def test_the_beginning_of_a_block_is_found(pool: BlockPool) -> None:
    first = [*text(1), 2, 3, 4]
    blocks = pool.take(2)
    pool.kept.store(first, blocks)
    assert pool.kept.match_part([*text(1), 2, 3, 9, 9], blocks[:1], 99) == (blocks[1], 2)
    assert pool.kept.match_part([*text(1), 2, 3, 4], blocks[:1], BLOCK + 1) == (blocks[1], 1)
    assert pool.kept.count([*text(1), 2, 3, 4]) == BLOCK + 2
    # The same row continues, then another row ends after the same block.
    pool.kept.store([*first, 5, 6], blocks)
    assert pool.kept.count([*first, 5, 6, 7]) == BLOCK + 5
    other = [blocks[0], *pool.take(1)]
    pool.share(other[:1])
    pool.kept.store([*text(1), 8], other)
    assert pool.kept.count([*first, 5, 6, 7]) == BLOCK + 5
    assert pool.kept.count([*text(1), 8, 9]) == BLOCK + 1
    pool.release(blocks)
    pool.release(other)
    assert pool.available == 8


def test_the_beginning_is_found_that_has_most_in_common(pool: BlockPool) -> None:
    kept = {}
    for tokens in ([1, 2, 3, 4, 5], [1, 2, 7, 7], [1, 9], [*([1, 2, 3, 6] * 8), 1]):
        blocks = pool.take(-(-len(tokens) // BLOCK))
        pool.kept.store(tokens, blocks)
        kept[tuple(tokens[:4])] = blocks[0]
        pool.release(blocks)
    for wanted, block, known in (
        ([1, 2, 3, 4, 0], (1, 2, 3, 4), 4),
        ([1, 2, 3, 6, 1, 0], (1, 2, 3, 6), 5),
        ([1, 2, 7, 0, 0], (1, 2, 7, 7), 3),
        ([1, 9, 9], (1, 9), 2),
    ):
        assert pool.kept.match_part(wanted, [], 99) == (kept[block], known)
    assert pool.kept.match_part([2, 2], [], 99)[1] == 0
    before = pool.available
    blocks = pool.take(1)
    pool.kept.store([1, 2, 3, 6, 1, 2], blocks)  # the beginning of a kept block
    pool.release(blocks)
    assert pool.kept.match_part([1, 2, 3, 6, 1, 0], [], 99) == (kept[1, 2, 3, 6], 5)
    assert pool.available == before
    assert len(pool.kept.blocks) == 5


def test_a_block_is_not_found_after_its_predecessor_was_replaced(
    pool: BlockPool,
) -> None:
    first, second = pool.take(1), pool.take(2)
    pool.kept.store(text(1), first)
    pool.kept.store(text(1, 2), second)  # after the first row's block
    pool.release(first)
    others = pool.take(6)
    assert first[0] in others
    pool.kept.store(text(3), first)
    assert pool.kept.count([*text(3, 2), 0]) == BLOCK
    pool.release([*others, *second])
    assert pool.available == 8


def test_a_tail_that_becomes_full_is_an_ordinary_block(pool: BlockPool) -> None:
    blocks = pool.take(2)
    pool.kept.store([*text(1), 2], blocks)
    pool.kept.store(text(1, 2), blocks)
    assert pool.kept.match(text(1, 2), 2) == blocks
    pool.release(blocks)
    assert pool.available == 8
    assert pool.take(8)


def test_the_tail_of_a_failed_row_is_forgotten(pool: BlockPool) -> None:
    row = PagedRow(pool, [*text(1), 2, 3])
    row.chunk(BLOCK + 2, 1)
    pool.kept.store(row.tokens, row.blocks)
    pool.kept.forget_parts(row.blocks)
    row.release()
    assert pool.kept.count([*text(1), 2, 3, 4]) == BLOCK
    assert pool.available == 8


def test_a_tail_is_dropped_before_the_blocks_before_it(pool: BlockPool) -> None:
    blocks = pool.take(3)
    pool.kept.store([*text(1, 2), 3], blocks)
    pool.release(blocks)
    pool.take(6)
    assert pool.kept.count([*text(1, 2), 3, 4]) == 2 * BLOCK
    assert pool.available == 2


def test_all_but_the_last_token_are_found(pool: BlockPool) -> None:
    keep(pool, text(1, 2))
    assert pool.kept.count(text(1, 2, 3)) == 2 * BLOCK
    assert pool.kept.count([*text(1, 2), 5]) == 2 * BLOCK
    assert pool.kept.count(text(1, 2)) == 2 * BLOCK - 1
    assert pool.kept.count(text(2, 1)) == 0


def test_the_least_recently_used_prefix_is_dropped_from_its_end(pool: BlockPool) -> None:
    for tokens in (text(1, 2, 3), text(1, 4), text(5, 6)):
        keep(pool, tokens)
    keep(pool, text(1, 2, 3))
    keep(pool, text(7, 8, 9))  # needs one more than there are: the end of text(1, 4)
    found = [pool.kept.count([*tokens, 0]) for tokens in (text(1, 2, 3), text(1, 4), text(5, 6))]
    assert found == [3 * BLOCK, BLOCK, 2 * BLOCK]


def test_a_used_block_is_never_dropped(pool: BlockPool) -> None:
    keep(pool, text(1, 2))
    used = pool.kept.match(text(1, 2), 2)
    pool.share(used)
    taken = pool.take(6)
    with pytest.raises(MemoryError):
        pool.take(1)
    pool.release(taken)
    assert pool.kept.match(text(1, 2), 2) == used


def test_a_small_cache_keeps_the_beginning(pool: BlockPool) -> None:
    pool.kept.max_blocks = 2
    keep(pool, text(1, 2, 3, 4))
    assert pool.kept.count(text(1, 2, 3, 4, 5)) == 2 * BLOCK
    keep(pool, text(6, 7, 8))
    assert pool.kept.count(text(6, 7, 8)) == 2 * BLOCK
    assert pool.available == 8


def test_two_rows_may_read_the_same_prompt_at_once(pool: BlockPool) -> None:
    first, second = pool.take(2), pool.take(2)
    pool.kept.store(text(1, 2), first)
    pool.kept.store(text(1, 2), second)
    assert pool.kept.match(text(1, 2), 2) == first
    pool.release(second)
    pool.release(first)
    assert pool.available == 8


def test_a_row_gives_everything_back(pool: BlockPool) -> None:
    row = PagedRow(pool, [*text(1, 2), 3])
    row.chunk(BLOCK + 1, 0)
    row.known = BLOCK + 1
    assert len(row.blocks) == 2
    row.chunk(BLOCK, 1)
    assert len(row.blocks) == 3
    row.release()
    assert pool.available == 8


@pytest.mark.parametrize("limit", [16, 26, 32, 33])
def test_no_piece_of_a_prompt_is_a_single_token(limit: int) -> None:
    for unread in range(2, 140):
        pieces, rest = [], unread
        while rest:
            pieces.append(_piece(rest, limit))
            assert 1 < pieces[-1] <= limit, (unread, pieces)
            rest -= pieces[-1]
    assert [_piece(unread, 1) for unread in (1, 2, 3)] == [1, 0, 0]
    assert _piece(5, 0) == 0
