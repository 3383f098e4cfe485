"""The engine: one thread that owns a model and runs all its requests together.

Each turn it takes one piece of waiting work (a part of some prompts, or of a scoring
job) and then one decoding step of every running row, so that a new request waits for
one step, not for the longest of a batch, and a finished or cancelled one leaves at
the next step. While more requests wait for a place than run, the step is left out: a
burst is read first and then decoded together, which is what makes a batch pay.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from copy import copy
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from typing import cast

import torch

from arena_llm.types import EngineLoad
from services.common.errors import (
    BackendError,
    ModelMisconfigured,
    Overloaded,
    UpstreamUnavailable,
)
from services.common.local.finite import check_sums
from services.hf.failures import dead, diagnosed, log_failure
from services.hf.forward import Forward, Scored, Work
from services.hf.grouping import together
from services.hf.sampling import sample
from services.hf.scoring import ScoringJob
from services.hf.sequence import Sequence


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one engine; see HfConfig."""

    max_batch: int
    max_waiting: int
    max_cache_tokens: int
    prefill_tokens: int


Item = Sequence | ScoringJob


class Engine:
    """See the module. `submit`, `load` and `close` may be called from any thread.

    test_prompt: what a sound model can read. A pass that fails ends the requests in it; where
    the model then cannot read this prompt either, it ends the engine, and `on_dead` is called
    with what is wrong, from the engine's thread.
    """

    def __init__(
        self,
        name: str,
        forward: Forward,
        limits: Limits,
        test_prompt: list[int],
        on_dead: Callable[[BackendError], None],
    ) -> None:
        self._name = name
        self._test_prompt = test_prompt
        self._forward = forward
        self._limits = limits
        self._on_dead = on_dead
        self._changed = threading.Condition()
        self._waiting: deque[Item] = deque()
        #: Why it takes no more requests, once it does not.
        self._ended: BackendError | None = None
        self._work: Work | None = None
        self._work_items: list[Item] = []
        self._rows: list[Sequence] = []
        self._batch = forward.new_batch()
        self._generated = 0
        self._thread = threading.Thread(target=self._run, name=f"engine {name}", daemon=True)
        self._thread.start()

    def submit(self, item: Item) -> None:
        """Queue a request. Raises Overloaded when the queue is full, and why it has ended."""
        with self._changed:
            if self._ended is not None:
                raise copy(self._ended)
            if len(self._waiting) >= self._limits.max_waiting + self._free_places():
                raise Overloaded(
                    f"{len(self._waiting)} requests wait for this model already; try again later",
                    retry_after=1.0,
                )
            self._waiting.append(item)
            self._changed.notify()

    def load(self) -> EngineLoad:
        """What the engine is doing now."""
        with self._changed:
            # Those whose prompt was just read are in both for a moment.
            running = len({*self._rows, *self._work_items})
            return EngineLoad(running, len(self._waiting), self._generated)

    def close(self) -> None:
        """Stop the thread; what is still queued fails."""
        with self._changed:
            self._ended = self._ended or UpstreamUnavailable("the model was unloaded; try again")
            self._changed.notify()
        self._thread.join()

    def _free_places(self) -> int:
        return max(0, self._limits.max_batch - len(self._rows) - len(self._work_items))

    @property
    def _busy(self) -> bool:
        return bool(self._waiting or self._rows or self._work)

    def _run(self) -> None:
        try:
            with torch.inference_mode():
                self._take_turns()
        except BaseException as error:  # or a panic of a library: nobody may wait for ever
            self._die(dead(self._name, error))
        with self._changed:
            left = [*self._rows, *self._work_items, *self._waiting]
        if self._ended is not None:
            self._fail(left, self._ended)

    def _take_turns(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._ended or self._busy)
            for part in (self._take_work_guarded, self._step_guarded):
                if self._ended is not None:
                    return
                part()

    def _take_work_guarded(self) -> None:
        try:
            self._take_work()
        except Exception as error:
            self._contain(self._work_items, error)
            self._end_work()

    def _step_guarded(self) -> None:
        try:
            self._step()
        except Exception as error:
            self._lose_batch(error)

    def _lose_batch(self, error: Exception) -> None:
        self._batch = self._forward.new_batch()
        self._contain(self._rows, error)
        self._rows.clear()

    def _contain(self, failed: Iterable[Item], error: Exception) -> None:
        """End the requests that an error concerns, no others."""
        if not isinstance(error, BackendError):
            error = diagnosed(self._name, self._forward, self._test_prompt, error)
            if isinstance(error, ModelMisconfigured):
                self._die(error)
        self._fail(failed, error)

    def _die(self, error: BackendError) -> None:
        with self._changed:
            self._ended = error
        self._on_dead(error)

    def _fail(self, items: Iterable[Item], error: BackendError) -> None:
        for item in items:
            item.fail(copy(error))

    # --- waiting work -------------------------------------------------------

    def _take_work(self) -> None:
        if self._work is None:
            self._begin_work()
        if self._work is None:
            return
        if all(item.cancelled for item in self._work_items):
            self._end_work()
            return
        try:
            next(self._work)
        except StopIteration:
            self._end_work()

    def _end_work(self) -> None:
        self._work = None
        self._work_items.clear()

    def _begin_work(self) -> None:
        with self._changed:
            self._waiting = deque(item for item in self._waiting if not item.cancelled)
            if self._waiting and isinstance(job := self._waiting[0], ScoringJob):
                self._waiting.popleft()
                self._work_items.append(job)
                self._work = self._score(job)
                return
            group = self._next_group()
            self._work_items.extend(group)
        group = [sequence for sequence in group if self._goes_on(sequence, sequence.start)]
        self._work_items[:] = group
        if group:
            self._work = self._prefill(group)

    def _next_group(self) -> list[Sequence]:
        """Prompts that are read in one pass, none of them ahead of a scoring job."""
        candidates = takewhile(lambda item: isinstance(item, Sequence), self._waiting)
        group = together(
            cast("Iterable[Sequence]", candidates),
            self._forward.prefixes,
            self._limits.prefill_tokens,
            self._has_room,
        )
        self._waiting = deque(item for item in self._waiting if item not in group)
        return group

    def _has_room(self, group: list[Sequence], head: Sequence) -> bool:
        together = [*self._rows, *group, head]
        if len(together) > self._limits.max_batch:
            return False
        # Rows share their width, so the widest counts for all. One always runs.
        cells = len(together) * max(sequence.width for sequence in together)
        return len(together) == 1 or cells <= self._limits.max_cache_tokens

    def _prefill(self, group: list[Sequence]) -> Work:
        try:
            read = yield from self._forward.prefill([sequence.unread for sequence in group])
        except Exception as error:
            if len(group) == 1:
                raise
            log_failure(self._name, error)
            read = None
        if read is None:
            yield from self._prefill_one_by_one(group)
            return
        for sequence in group:
            sequence.read(len(sequence.unread))
        pairs = [
            (sequence, prefilled)
            for sequence, prefilled in zip(group, read, strict=True)
            if not sequence.cancelled
        ]
        if not pairs:
            return
        for sequence, prefilled in pairs:
            # Tokens that were forced may have been cached as well.
            sequence.cached = min(prefilled.cached, len(sequence.prompt))
        logits = torch.stack([prefilled.logits for _, prefilled in pairs])
        ongoing = self._sample(logits, [sequence for sequence, _ in pairs])
        joining = [pair for pair in pairs if pair[0] in ongoing]
        if joining:
            try:
                self._batch.join([prefilled for _, prefilled in joining])
            except Exception as error:
                self._lose_batch(error)  # some of its layers may have moved
                raise
            self._rows.extend(sequence for sequence, _ in joining)

    def _prefill_one_by_one(self, group: list[Sequence]) -> Work:
        """Read prompts that failed together: what one is at fault for, only that one feels."""
        for sequence in group:
            if not sequence.cancelled:
                try:
                    yield from self._prefill([sequence])
                except Exception as error:
                    self._contain([sequence], error)
            self._work_items.remove(sequence)
            if self._ended is not None:
                raise self._ended
            yield

    def _score(self, job: ScoringJob) -> Work:
        scored: Scored = yield from self._forward.score(job.prompt, job.continuations)
        check_sums(self._name, scored.sums)
        job.cached = scored.cached
        job.sink(scored.sums)

    # --- decoding -----------------------------------------------------------

    def _step(self) -> None:
        self._drop([row for row, sequence in enumerate(self._rows) if sequence.cancelled])
        if not self._rows or self._more_are_joining():
            return
        # All rows take as many tokens; those with more left get no new one yet.
        count = min(len(sequence.unread) for sequence in self._rows)
        logits = self._batch.step([sequence.read(count) for sequence in self._rows])
        ready = [row for row, sequence in enumerate(self._rows) if not sequence.unread]
        asked = [self._rows[row] for row in ready]
        ongoing = self._sample(logits[ready], asked)
        self._drop([row for row in ready if self._rows[row] not in ongoing])

    def _more_are_joining(self) -> bool:
        """Whether more requests than run here are about to join them."""
        with self._changed:
            if len(self._waiting) <= len(self._rows):
                return False
            if self._work_items:
                return isinstance(self._work_items[0], Sequence)
            head = self._waiting[0]
            return isinstance(head, Sequence) and self._has_room([], head)

    def _sample(self, logits: torch.Tensor, sequences: list[Sequence]) -> set[Sequence]:
        """Take a token for each; returns the sequences that go on."""
        drawn = sample(logits, [sequence.sampler for sequence in sequences], self._name)
        return {
            sequence
            for sequence, sampled in zip(sequences, drawn, strict=True)
            if self._goes_on(sequence, partial(sequence.accept, sampled))
        }

    def _goes_on(self, sequence: Sequence, advance: Callable[[], bool]) -> bool:
        """Let a sequence take tokens; an error ends it, and no other."""
        before = sequence.generated
        try:
            return not advance()
        except Exception as error:
            sequence.fail(error)
            return False
        finally:
            self._generated += sequence.generated - before

    def _drop(self, rows: list[int]) -> None:
        for row in reversed(rows):
            left = self._rows[row]
            self._batch.leave(row, wipe=left.failed or left.cancelled)
            last = self._rows.pop()
            if row < len(self._rows):
                self._rows[row] = last
        if rows and not self._rows:
            self._batch = self._forward.new_batch()
