"""The engine: one thread that owns a model and runs all its requests together.

Each turn does one piece of waiting work (a part of some prompts, or of a scoring job) and
then one decoding step of every row. So a new request waits for one step, not for the
longest request of the batch, and a finished or cancelled request leaves at the next step.
While more requests wait for a row than have one, the engine does not decode: it reads all
prompts of a burst first and decodes them together, which is faster.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from copy import copy
from dataclasses import dataclass
from itertools import islice, takewhile
from typing import cast

from arena_llm.types import EngineLoad
from services.common.errors import (
    BackendError,
    ContextTooLong,
    ModelMisconfigured,
    Overloaded,
    UpstreamUnavailable,
)
from services.common.local.checks import check_sums
from services.common.tenant import take_turns
from services.hf.batching import ReadPrompt, Rows, select_prefill_batch
from services.hf.budget import MemoryAccount
from services.hf.errors import diagnose, log_failure, make_dead_error
from services.hf.forward import Forward, Scored, ScoringTask, Work
from services.hf.sequence import ScoringJob, Sequence

#: Waiting prompts that are compared for one pass, so that a long queue delays no step.
_CANDIDATES = 64
#: After this time, an engine asks again for memory that another model uses.
_RETRY_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """Bounds of one engine. See HfConfig."""

    max_batch: int
    max_waiting: int
    prefill_tokens: int


Item = Sequence | ScoringJob


class HfEngine:
    """Runs the requests of one model. `submit`, `load` and `close` are safe from any thread.

    account: the memory that its cache may take. What does not fit waits.
    test_prompt: tokens that the model could read when it was loaded. A failed pass ends the
    requests in it. If the model then cannot read `test_prompt` either, the engine ends, and its
    thread calls `on_dead` with the reason.
    """

    def __init__(
        self,
        name: str,
        forward: Forward,
        limits: EngineLimits,
        account: MemoryAccount,
        test_prompt: list[int],
        on_dead: Callable[[BackendError], None],
    ) -> None:
        self._name = name
        self._test_prompt = test_prompt
        self._forward = forward
        self._limits = limits
        self._account = account
        self._on_dead = on_dead
        self._changed = threading.Condition()
        #: Submitted, and not yet seen by the engine's thread. `_changed` guards it, `_queued` and
        #: `_ended`.
        self._arrived: list[Item] = []
        #: How many requests wait, with those that have just arrived.
        self._queued = 0
        #: Waiting requests. Only the engine's thread uses it, so that no caller waits for work
        #: that grows with the queue.
        self._waiting: deque[Item] = deque()
        #: The error that ended the engine; None while it runs.
        self._ended: BackendError | None = None
        self._work: Work | None = None
        self._work_items: list[Item] = []
        self._rows = Rows(name, forward)
        #: True if the head of the queue did not fit.
        self._starved = False
        #: How many rows the last step had.
        self._stepped_rows = 0
        self._thread = threading.Thread(target=self._run, name=f"engine {name}", daemon=True)
        self._thread.start()

    def submit(self, item: Item) -> None:
        """Queue a request.

        Raises Overloaded if the queue is full, ContextTooLong if its cache can never fit, and the
        engine's error if it has ended.
        """
        self._check_size(item)
        with self._changed:
            if self._ended is not None:
                raise copy(self._ended)
            if self._queued >= self._limits.max_waiting + self._free_places():
                raise Overloaded(
                    f"{self._queued} requests already wait for this model; try again later",
                    retry_after=1.0,
                )
            self._arrived.append(item)
            self._queued += 1
            self._changed.notify()

    def _check_size(self, item: Item) -> None:
        needed, most = self._forward.cache_bytes([item.width]), self._account.most
        if needed > most:
            raise ContextTooLong(
                f"up to {item.width} tokens of prompt and answer need {needed / 1e9:.3g} GB of "
                f"cache, and {self._name} can have {max(0, most) / 1e9:.3g} GB (memory_budget_gb: "
                f"{self._account.total / 1e9:.3g}, less its weights and prefixes): shorten the "
                "prompt, or lower max_tokens"
            )

    def load(self) -> EngineLoad:
        """The engine's current load."""
        with self._changed:
            # A set, because requests whose prompt was just read are briefly in both.
            running = len({*self._rows.sequences, *self._work_items})
            return EngineLoad(running, self._queued, self._rows.generated)

    def close(self) -> None:
        """Stop the thread. Requests that have not ended fail."""
        with self._changed:
            self._ended = self._ended or UpstreamUnavailable("the model was unloaded; try again")
            self._changed.notify()
        self._thread.join()

    def _free_places(self) -> int:
        return max(0, self._limits.max_batch - len(self._rows) - len(self._work_items))

    @property
    def _busy(self) -> bool:
        return bool(self._queued or self._rows or self._work)

    def _run(self) -> None:
        try:
            with self._forward.thread_context():
                self._take_turns()
        except BaseException as error:  # even a library's panic, so that no caller waits forever
            self._die(make_dead_error(self._name, error))
        with self._changed:
            unfinished = [*self._rows.sequences, *self._work_items]
            unfinished += [*self._waiting, *self._arrived]
        if self._ended is not None:
            self._fail(unfinished, self._ended)

    def _take_turns(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._ended or self._busy)
            for part in (self._take_work_guarded, self._step_guarded):
                if self._ended is not None:
                    return
                part()
            self._give_back_memory()

    def _give_back_memory(self) -> None:
        """Give other models the memory that rows do not need. Wait if too little is left."""
        items = [*self._rows.sequences, *self._work_items]
        self._reserve(items)
        if self._starved and not items:
            with self._changed:  # another model has the memory
                self._changed.wait(_RETRY_SECONDS)

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
            self._end_rows(error)

    def _end_rows(self, error: Exception) -> None:
        self._rows.replace_batch()
        self._contain(self._rows.sequences, error)
        self._rows.sequences.clear()

    def _contain(self, failed: Iterable[Item], error: Exception) -> None:
        """End the failed requests; end the engine only if the model itself is broken."""
        if not isinstance(error, BackendError):
            error = diagnose(self._name, self._forward, self._test_prompt, error)
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
        if self._work is not None:
            self._work.close()  # it frees what it has read
        self._work = None
        self._work_items.clear()

    def _begin_work(self) -> None:
        self._receive()
        self._keep_waiting([item for item in self._waiting if not item.cancelled], [])
        self._starved = False
        if not self._waiting:
            return
        if isinstance(job := self._waiting[0], ScoringJob):
            self._starved = not self._reserve([*self._rows.sequences, job])
            if self._starved:
                return
            self._keep_waiting(islice(self._waiting, 1, None), [job])
            self._work = self._score(job)
            return
        batch = self._next_batch()
        self._starved = not batch
        chosen = {*batch}
        self._keep_waiting([item for item in self._waiting if item not in chosen], batch)
        batch = [sequence for sequence in batch if self._rows.advance(sequence, sequence.start)]
        self._work_items[:] = batch
        if batch:
            self._work = self._prefill(batch)

    def _receive(self) -> None:
        """Take over what has arrived. The lock is held for the exchange of two lists alone."""
        with self._changed:
            arrived, self._arrived = self._arrived, []
        if arrived:
            self._waiting.extend(arrived)
            self._waiting = deque(take_turns(self._waiting, lambda item: item.tenant))

    def _keep_waiting(self, items: Iterable[Item], begun: Iterable[Item]) -> None:
        """Keep only `items` waiting. Work on `begun` begins."""
        before = len(self._waiting)
        self._waiting = deque(items)
        with self._changed:
            self._queued -= before - len(self._waiting)
            self._work_items.extend(begun)

    def _next_batch(self) -> list[Sequence]:
        """Waiting prompts to read in one pass. None of them overtakes a scoring job."""
        candidates = takewhile(lambda item: isinstance(item, Sequence), self._waiting)
        return select_prefill_batch(
            cast("Iterable[Sequence]", islice(candidates, _CANDIDATES)),
            self._forward.prefixes,
            self._forward.pass_tokens(self._limits.prefill_tokens),
            self._has_room,
            padded=not self._forward.mixes,
        )

    def _has_room(self, batch: list[Sequence], head: Sequence) -> bool:
        """True if another row fits; then its memory is reserved."""
        rows = [*self._rows.sequences, *batch, head]
        return len(rows) <= self._limits.max_batch and self._reserve(rows)

    def _reserve(self, items: Iterable[Item]) -> bool:
        needed = self._forward.cache_bytes([item.width for item in items])
        if self._account.resize(max(needed, self._forward.held_bytes)):
            return True
        self._forward.return_memory()  # what ended rows have left must not keep others waiting
        return self._account.resize(max(needed, self._forward.held_bytes))

    def _prefill(self, batch: list[Sequence]) -> Work:
        try:
            unread = [sequence.unread for sequence in batch]
            prefilled_prompts = yield from self._forward.prefill(unread)
        except Exception as error:
            if len(batch) == 1:
                raise
            log_failure(self._name, error)
            prefilled_prompts = None
        if prefilled_prompts is None:
            yield from self._prefill_one_by_one(batch)
            return
        for sequence in batch:
            sequence.read(len(sequence.unread))
        pairs: list[ReadPrompt] = []
        for sequence, prefilled in zip(batch, prefilled_prompts, strict=True):
            if sequence.cancelled:
                prefilled.release()
            else:
                pairs.append((sequence, prefilled))
        if not pairs:
            return
        for sequence, prefilled in pairs:
            # `cached` may include forced tokens after the prompt.
            sequence.cached = min(prefilled.cached, len(sequence.prompt))
        joining = self._rows.take_first_tokens(pairs)
        if joining:
            try:
                self._rows.join(joining)
            except Exception as error:
                self._end_rows(error)  # some layers may already have the new rows
                raise

    def _prefill_one_by_one(self, batch: list[Sequence]) -> Work:
        """Read prompts again that failed together, so that only those at fault fail."""
        for sequence in batch:
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
        scored: Scored = yield from self._forward.score(
            ScoringTask(job.prompt, job.continuations, job.top, job.with_prompt)
        )
        check_sums(self._name, [token.logprob for token in scored.prompt])
        check_sums(self._name, [text.logprob for text in scored.continuations])
        job.sink(scored)

    # --- decoding -----------------------------------------------------------

    def _step(self) -> None:
        self._rows.drop_cancelled()
        self._stepped_rows = min(self._stepped_rows, len(self._rows))
        if self._rows and not self._more_are_joining():
            self._stepped_rows = len(self._rows)
            self._rows.step()

    def _more_are_joining(self) -> bool:
        """True if more requests are about to join than run now, and a step would delay them."""
        # Without a new row since the last step, the waiting requests may be of a kind that never
        # joins, such as choices of one token, and running ones would wait forever.
        if self._forward.mixes or len(self._rows) <= self._stepped_rows:
            return False
        self._receive()
        if len(self._waiting) <= len(self._rows):
            return False
        head = (self._work_items or self._waiting)[0]
        return isinstance(head, Sequence) and (head in self._work_items or self._has_room([], head))
