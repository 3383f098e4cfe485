"""The requests that decode together: each has a row of the model's batch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from services.hf.forward import Forward, Prefilled
from services.hf.sampling import sample
from services.hf.sequence import Sequence

#: A request and its prompt, which the model has read.
Read = tuple[Sequence, Prefilled]


class Rows:
    """Only the engine's thread changes it.

    sequences: the request of each row. generated: tokens of all requests so far, also of those
    that have ended.
    """

    def __init__(self, model: str, forward: Forward) -> None:
        self.sequences: list[Sequence] = []
        self.generated = 0
        self._model = model
        self._forward = forward
        self._batch = forward.new_batch()

    def __len__(self) -> int:
        return len(self.sequences)

    def take_first_tokens(self, read: list[Read]) -> list[Read]:
        """Sample a token after each of these prompts; returns those that continue."""
        logits = torch.stack([prefilled.logits for _, prefilled in read])
        continuing = self._sample(logits, [sequence for sequence, _ in read])
        return [pair for pair in read if pair[0] in continuing]

    def join(self, read: list[Read]) -> None:
        """Add a row for each prompt. After an error the whole batch is unusable."""
        self._batch.join([prefilled for _, prefilled in read])
        self.sequences.extend(sequence for sequence, _ in read)

    def step(self) -> None:
        """Take one decoding step of every row."""
        # All rows take as many tokens; those with more left get no new one yet.
        count = min(len(sequence.unread) for sequence in self.sequences)
        logits = self._batch.step([sequence.read(count) for sequence in self.sequences])
        ready = [row for row, sequence in enumerate(self.sequences) if not sequence.unread]
        continuing = self._sample(logits[ready], [self.sequences[row] for row in ready])
        self._drop([row for row in ready if self.sequences[row] not in continuing])

    def drop_cancelled(self) -> None:
        """Drop the rows whose callers have left."""
        self._drop([row for row, sequence in enumerate(self.sequences) if sequence.cancelled])

    def replace_batch(self) -> None:
        """Free the memory of a batch that has failed. Its requests then have to end."""
        self._batch = self._forward.new_batch()

    def advance(self, sequence: Sequence, take: Callable[[], bool]) -> bool:
        """Let a request take tokens; an error ends this request only.

        take: returns whether the request is complete. Returns whether it continues.
        """
        before = sequence.generated
        try:
            return not take()
        except Exception as error:
            sequence.fail(error)
            return False
        finally:
            self.generated += sequence.generated - before

    def _sample(self, logits: torch.Tensor, sequences: list[Sequence]) -> set[Sequence]:
        """Take one token for each; returns the requests that continue."""
        drawn = sample(logits, [sequence.sampler for sequence in sequences], self._model)
        return {
            sequence
            for sequence, sampled in zip(sequences, drawn, strict=True)
            if self.advance(sequence, partial(sequence.accept, sampled))
        }

    def _drop(self, rows: list[int]) -> None:
        for row in reversed(rows):
            left = self.sequences[row]
            self._batch.leave(row, wipe=left.failed or left.cancelled)
            last = self.sequences.pop()
            if row < len(self.sequences):
                self.sequences[row] = last
        if rows and not self.sequences:
            self.replace_batch()
