"""The forward pass over OpenVINO: rows, prompts and scores share one pass and one cache."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import copy
from dataclasses import dataclass
from typing import Any

from services.common.local.trace import ScoredText, ScoredToken
from services.hf.forward import (
    Batch,
    Floats,
    Scored,
    ScoringTask,
    Work,
    finite_rows,
    join_texts,
    score_text,
)
from services.hf.openvino.blocks import BlockPool, BlockPrefixes
from services.hf.openvino.compiled import Chunk, CompiledModel, count_blocks
from services.hf.openvino.pace import Pace
from services.hf.openvino.reading import PagedRow, Reading

#: Unused blocks keep their memory, which makes their next use faster, up to this part of the cache.
_RETURNED_SHARE = 16
#: Places whose logits one pass computes: those of a large vocabulary take 0.2 to 1 MB each.
_SCORED_PLACES = 64
#: Blocks that the continuations of a scoring job may need.
SCORING_BLOCKS = 2 * _SCORED_PLACES


@dataclass(frozen=True, slots=True)
class PagedPrefilled:
    """A prompt that the model has read. See Prefilled."""

    row: PagedRow
    logits: Floats
    cached: int = 0

    def release(self) -> None:
        self.row.release()


class PagedForward:
    """A decoder-only model. step_tokens: prompt tokens of a pass that does not decode."""

    mixes = True

    def __init__(self, model: CompiledModel, step_tokens: int, prefix_bytes: int = 0) -> None:
        self.model = model
        self._step_tokens = step_tokens
        self._pool = BlockPool(model.blocks)
        self._pool.kept.max_blocks = prefix_bytes // model.block_bytes
        self.prefixes: BlockPrefixes | None = self._pool.kept if prefix_bytes else None
        #: What the next pass reads beside the rows of the batch.
        self._pending: Reading | None = None
        #: The rows of the running batch.
        self.rows: list[PagedRow] = []
        #: By the bit length of the number of rows, because the pace depends on their number.
        self._paces: defaultdict[int, Pace] = defaultdict(Pace)

    @property
    def _pace(self) -> Pace:
        return self._paces[len(self.rows).bit_length()]

    def pass_tokens(self, limit: int) -> int:
        return min(limit, self._pace.piece) if self.rows else limit

    def thread_context(self) -> AbstractContextManager[Any]:
        return nullcontext()

    def uncached(self) -> PagedForward:
        forward = copy(self)
        forward.prefixes, forward._pending, forward.rows = None, None, []
        forward._paces = defaultdict(Pace)
        return forward

    def cache_bytes(self, widths: Sequence[int]) -> int:
        return sum(map(count_blocks, widths)) * self.model.block_bytes

    @property
    def held_bytes(self) -> int:
        # The memory of prefixes is counted separately.
        return max(0, self._pool.written - self._pool.kept.max_blocks) * self.model.block_bytes

    def new_batch(self) -> Batch:
        return PagedBatch(self)

    def return_memory(self) -> None:
        self.model.return_blocks(self._pool.take_unwritten())

    def prefill(self, prompts: Sequence[list[int]]) -> Work:
        rows: list[PagedRow] = []
        try:
            rows += map(self._open, prompts)
            cached = [row.known for row in rows]
            reading = Reading(rows)
            yield from self._read(reading)
            read = []
            for row, known, [logits] in zip(rows, cached, reading.outputs, strict=True):
                self._keep(row, logits)
                read.append(PagedPrefilled(row, logits[-1], known))
        except BaseException:  # even GeneratorExit: nobody else can free them
            for row in rows:
                row.release(self.model)
            raise
        return read

    def _open(self, prompt: list[int]) -> PagedRow:
        """A row for a prompt, with the blocks of its cached prefix."""
        if self.prefixes is None:
            return PagedRow(self._pool, prompt)
        most = max(0, len(prompt) - 2)  # at least two tokens are read: see _piece
        shared = self.prefixes.match(prompt, most // self.prefixes.unit)
        row = PagedRow(self._pool, prompt, shared)
        part, known = self.prefixes.match_part(prompt, shared, most)
        if known:
            row.begin_block(self.model, part, known)
        return row

    def _keep(self, row: PagedRow, logits: Floats) -> None:
        """Let later prompts share the blocks of a row that was read without fault."""
        if self.prefixes is not None and all(finite_rows(logits)):
            self.prefixes.store(row.tokens[: row.known], row.blocks)

    def _read(self, reading: Reading) -> Work:
        """Read everything; yields before each pass, so that a step can take a piece along."""
        while reading.unread:
            self._pending = reading
            try:
                yield
            finally:
                stepped, self._pending = self._pending is None, None
            if reading.unread and (not stepped or reading.failed):
                self._run([], reading, self._step_tokens)

    def step(self, chunks: list[Chunk]) -> Floats:
        """One pass over the rows of the batch and, at times, a piece of what is pending."""
        reading, self._pending = self._pending, None
        tokens = min(self._pace.next_piece(), self._step_tokens)
        begun = time.perf_counter()
        if reading is None or not tokens:
            logits, read = self.model.run(chunks), 0
        else:
            try:
                logits, read = self._run(chunks, reading, tokens)
            except Exception:
                reading.failed = True  # run separately, only the one at fault fails
                return self.model.run(chunks)
        self._pace.record(read, time.perf_counter() - begun)
        return logits

    def _run(self, chunks: list[Chunk], reading: Reading, limit: int) -> tuple[Floats, int]:
        """One pass. Returns the logits of the chunks, and how many tokens of `reading` it read."""
        pieces = reading.take(min(limit, _SCORED_PLACES) if reading.every else limit)
        logits = self.model.run([*chunks, *pieces])
        own = sum(chunk.wanted for chunk in chunks)
        reading.give(logits[own:])
        return logits[:own], sum(len(piece.tokens) for piece in pieces)

    def score(self, task: ScoringTask) -> Work:
        rows: list[PagedRow] = []
        try:
            rows.append(
                PagedRow(self._pool, task.prompt) if task.with_prompt else self._open(task.prompt)
            )
            cached = rows[0].known
            scored_prompt, last = yield from self._score_prompt(
                rows[0], task.top, every=task.with_prompt
            )
            scores = [score_text(last, tokens[:1], task.top) for tokens in task.continuations]
            longer = [index for index, tokens in enumerate(task.continuations) if len(tokens) > 1]
            for group in _groups(longer, task.continuations):
                forks = []
                for index in group:
                    forks.append(rows[0].fork(self.model, task.continuations[index][:-1]))
                    rows.append(forks[-1])
                reading = Reading(forks, every=True)
                yield from self._read(reading)
                for index, row, pieces in zip(group, forks, reading.outputs, strict=True):
                    rest, begin = [], 1
                    for logits in pieces:
                        following = task.continuations[index][begin : begin + len(logits)]
                        rest.append(score_text(logits, following, task.top))
                        begin += len(logits)
                    scores[index] = join_texts((scores[index], *rest))
                    rows.remove(row)
                    row.release(self.model)
        finally:
            for row in rows:
                row.release(self.model)
        return Scored(scores, scored_prompt, cached)

    def _score_prompt(self, row: PagedRow, top: int, *, every: bool) -> Work:
        """Read a prompt. Returns its ScoredTokens after the first, and the logits [1, tokens]."""
        reading = Reading([row], every=every)
        scored: list[ScoredText] = []
        begin = 1
        for _ in self._read(reading):
            begin += self._take_scores(reading, scored, begin, top) if every else 0
            yield
        last = reading.outputs[0][-1][-1:]
        if every:
            self._take_scores(reading, scored, begin, top)
        self._keep(row, last)
        tokens: list[ScoredToken] = [token for text in scored for token in text.tokens]
        return tokens, last

    def _take_scores(self, reading: Reading, scored: list[ScoredText], begin: int, top: int) -> int:
        """Score the prompt's pieces so far, and drop their logits. Returns how many places."""
        places = 0
        for logits in reading.outputs[0]:
            following = reading.rows[0].tokens[begin + places : begin + places + len(logits)]
            scored.append(score_text(logits, following, top))
            places += len(logits)
        reading.outputs[0].clear()
        return places


def _groups(indices: list[int], continuations: Sequence[list[int]]) -> Iterator[list[int]]:
    """Split into groups of at most _SCORED_PLACES tokens; a longer continuation is alone."""
    group: list[int] = []
    tokens = 0
    for index in indices:
        count = len(continuations[index]) - 1
        if group and tokens + count > _SCORED_PLACES:
            yield group
            group, tokens = [], 0
        group.append(index)
        tokens += count
    if group:
        yield group


class PagedBatch:
    """A running batch."""

    ragged = True

    def __init__(self, forward: PagedForward) -> None:
        self._forward = forward
        self._rows = forward.rows = []

    def join(self, rows: Sequence[PagedPrefilled]) -> None:
        self._rows.extend(prefilled.row for prefilled in rows)

    def leave(self, row: int, *, wipe: bool = False) -> None:
        leaving = self._rows[row]
        last = self._rows.pop()
        if row < len(self._rows):
            self._rows[row] = last
        prefixes = self._forward.prefixes
        if wipe:
            leaving.release(self._forward.model)
            return
        if prefixes is not None:  # the next turn of a conversation begins with this one
            prefixes.store(leaving.tokens[: leaving.known], leaving.blocks)
        leaving.release()

    def step(self, tokens: Sequence[Sequence[int]]) -> Floats:
        chunks = []
        for row, new in zip(self._rows, tokens, strict=True):
            row.tokens.extend(new)
            chunks.append(row.chunk(len(new), 1))
        logits = self._forward.step(chunks)
        for row, new in zip(self._rows, tokens, strict=True):
            row.known += len(new)
        return logits

    def close(self) -> None:
        while self._rows:
            self.leave(len(self._rows) - 1, wipe=True)
        forward = self._forward
        if forward.held_bytes * _RETURNED_SHARE > forward.model.blocks * forward.model.block_bytes:
            forward.return_memory()
