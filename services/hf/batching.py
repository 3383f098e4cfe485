"""Which prompts are read together, and which requests decode together."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

import numpy as np

from services.hf.forward import Floats, Forward, Prefilled, Prefixes
from services.hf.sampling import sample
from services.hf.sequence import Sequence

#: Padding that a pass may have, as a share of its tokens.
_MAX_PADDING = 0.25

#: A request and its prompt, which the model has read.
ReadPrompt = tuple[Sequence, Prefilled]


def select_prefill_batch(
    waiting: Iterable[Sequence],
    prefixes: Prefixes | None,
    max_tokens: int,
    has_room: Callable[[list[Sequence], Sequence], bool],
    *,
    padded: bool = True,
) -> list[Sequence]:
    """The first waiting request, and others that are read with it.

    A prompt that shares a longer prefix with a prompt of the batch than with the prefix cache
    waits: after this pass it will find that prefix in the cache. padded: all prompts of a pass
    take as many tokens as the longest, so only those of about the same length go together.
    """
    batch: list[Sequence] = []
    tokens = longest = 0
    for sequence in waiting:
        if tokens >= max_tokens or not has_room(batch, sequence):
            break
        cached = 0 if prefixes is None else prefixes.count(sequence.unread[:-1])
        rest = len(sequence.unread) - cached
        area = max(longest, rest) * (len(batch) + 1) if padded else tokens + rest
        if batch and (area > max_tokens or area > (tokens + rest) / (1 - _MAX_PADDING)):
            continue
        if prefixes is not None and rest > prefixes.unit:
            beginning = sequence.unread[: cached + prefixes.unit]
            if any(other.unread[: len(beginning)] == beginning for other in batch):
                continue
        batch.append(sequence)
        tokens, longest = tokens + rest, max(longest, rest)
    return batch


class Rows:
    """The requests that decode together: each has a row of the model's batch.

    Only the engine's thread changes it. sequences: the request of each row. generated: tokens
    of all requests so far, including requests that have ended.
    """

    def __init__(self, model: str, forward: Forward) -> None:
        self.sequences: list[Sequence] = []
        self.generated = 0
        self._model = model
        self._forward = forward
        self._batch = forward.new_batch()

    def __len__(self) -> int:
        return len(self.sequences)

    def take_first_tokens(self, prompts: list[ReadPrompt]) -> list[ReadPrompt]:
        """Sample a token after each of these prompts. Returns those that continue.

        The others are released.
        """
        logits = np.stack([prefilled.logits for _, prefilled in prompts])
        continuing = self._sample(logits, [sequence for sequence, _ in prompts])
        for sequence, prefilled in prompts:
            if sequence not in continuing:
                prefilled.release()
        return [pair for pair in prompts if pair[0] in continuing]

    def join(self, prompts: list[ReadPrompt]) -> None:
        """Add a row for each prompt. After an error the whole batch is unusable."""
        self._batch.join([prefilled for _, prefilled in prompts])
        self.sequences.extend(sequence for sequence, _ in prompts)

    def step(self) -> None:
        """Take one decoding step of every row."""
        unread = [len(sequence.unread) for sequence in self.sequences]
        if not self._batch.ragged:
            # A row that has more unread tokens than another one gets no new token yet.
            unread = [min(unread)] * len(unread)
        logits = self._batch.step(
            [sequence.read(count) for sequence, count in zip(self.sequences, unread, strict=True)]
        )
        ready = [row for row, sequence in enumerate(self.sequences) if not sequence.unread]
        continuing = self._sample(logits[ready], [self.sequences[row] for row in ready])
        self._drop([row for row in ready if self.sequences[row] not in continuing])

    def drop_cancelled(self) -> None:
        """Drop the rows whose callers have left."""
        self._drop([row for row, sequence in enumerate(self.sequences) if sequence.cancelled])

    def replace_batch(self) -> None:
        """Free the memory of a batch that has failed. Its requests then have to end."""
        self._batch.close()
        self._batch = self._forward.new_batch()

    def advance(self, sequence: Sequence, take: Callable[[], bool]) -> bool:
        """Let a request take tokens; an error ends only this request.

        take: returns True if the request is complete. Returns True if it continues.
        """
        before = sequence.generated
        try:
            return not take()
        except Exception as error:
            sequence.fail(error)
            return False
        finally:
            self.generated += sequence.generated - before

    def _sample(self, logits: Floats, sequences: list[Sequence]) -> set[Sequence]:
        """Sample one token for each request. Returns the requests that continue."""
        drawn = sample(logits, [sequence.sampler for sequence in sequences], self._model)
        return {
            sequence
            for sequence, sampled in zip(sequences, drawn, strict=True)
            if self.advance(sequence, partial(sequence.accept, sampled))
        }

    def _drop(self, rows: list[int]) -> None:
        for row in reversed(rows):
            dropped = self.sequences[row]
            self._batch.leave(row, wipe=dropped.failed or dropped.cancelled)
            last = self.sequences.pop()
            if row < len(self.sequences):
                self.sequences[row] = last
        if rows and not self.sequences:
            self.replace_batch()
