"""Forward passes of one row at a time, with the cache that the architecture itself makes.

For models whose rows cannot share a pass: hybrid and state-space models keep a state in place of
keys, and others place the tokens of a padded row wrongly. transformers' `generate` prepares the
inputs of each pass with the same two methods.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from transformers import Cache
from transformers.cache_utils import CacheLayerMixin, LinearAttentionCacheLayerMixin

from services.common.local.containment import contained
from services.common.local.trace import ScoredText, ScoredToken
from services.hf.forward import Batch, Floats, Forward, Scored, ScoringTask, Work, score_text
from services.hf.forward_causal import supported_arguments, to_numpy, usable_tokens
from services.hf.forward_seq2seq import find_beginning


@dataclass(eq=False, slots=True)
class SingleRow:
    """A text that the model has read. logits: those after it, [tokens].

    tokens: [1, tokens read]; of an encoder-decoder model, those of the decoder. state: the
    arguments of its next pass, among them the cache.
    """

    tokens: torch.Tensor
    state: dict[str, Any]
    logits: Floats = field(default_factory=lambda: np.empty(0, np.float32))
    cached: int = 0

    def release(self) -> None:
        """Free the cache."""
        self.state = {}


class SingleForward:
    """Any model that `generate` can run, one row at a time."""

    prefixes = None
    mixes = False

    def __init__(self, model: Any) -> None:
        self.model = model
        self.device: torch.device = model.device
        self._seq2seq = bool(model.config.is_encoder_decoder)
        self._tokens = usable_tokens(model)
        #: Bytes of a state: for each token, and in addition.
        self._token_bytes = self._fixed_bytes = 0
        self._smallest: tuple[int, int] | None = None
        self._beginning = find_beginning(model) if self._seq2seq else []

    def pass_tokens(self, limit: int) -> int:
        return limit

    def thread_context(self) -> AbstractContextManager[Any]:
        return torch.inference_mode()

    def uncached(self) -> Forward:
        return self

    def cache_bytes(self, widths: Sequence[int]) -> int:
        return sum(self._fixed_bytes + self._token_bytes * width for width in widths)

    #: A row that leaves frees its memory.
    held_bytes = 0

    def return_memory(self) -> None:
        """Nothing to return."""

    def new_batch(self) -> Batch:
        return SingleBatch(self)

    def prefill(self, prompts: Sequence[list[int]]) -> Work:
        rows: list[SingleRow] = []
        for prompt in prompts:
            if rows:
                yield
            tokens = torch.tensor([prompt], device=self.device)
            state: dict[str, Any] = {"attention_mask": torch.ones_like(tokens), "use_cache": True}
            if self._seq2seq:
                state["encoder_outputs"] = self._encode(prompt)
                tokens = torch.tensor([self._beginning], device=self.device)
            else:
                places = torch.arange(len(prompt), device=self.device)[None]
                state |= supported_arguments(self.model, position_ids=places)
            row = SingleRow(tokens, state)
            self.read(row, first=True)
            self._measure(len(prompt), row)
            rows.append(row)
        return rows

    def _measure(self, length: int, row: SingleRow) -> None:
        """Learn from two prompts of different lengths how the size of a state depends on it."""
        size = _count_bytes(row.state)
        if self._smallest is None or length < self._smallest[0]:
            self._smallest = length, size
        least, small = self._smallest
        if length > least:
            self._token_bytes = max(self._token_bytes, -(-(size - small) // (length - least)))
            self._fixed_bytes = max(self._fixed_bytes, small - least * self._token_bytes, 0)

    def extend(self, row: SingleRow, token: int) -> None:
        """Read the next token of a row."""
        row.tokens = torch.cat((row.tokens, row.tokens.new_tensor([[token]])), dim=1)
        self.read(row)

    def read(self, row: SingleRow, *, first: bool = False) -> None:
        """Read the unread tokens of a row: all the first time, then the last one."""
        count = {} if first else {"next_sequence_length": 1}
        inputs = self.model.prepare_inputs_for_generation(
            row.tokens, is_first_iteration=first, **count, **row.state
        )
        output = contained(self.model, **inputs, return_dict=True)
        row.state = self.model._update_model_kwargs_for_generation(
            output, row.state, is_encoder_decoder=self._seq2seq
        )
        row.logits = to_numpy(output.logits[0, -1, : self._tokens])

    def score(self, task: ScoringTask) -> Work:
        scores: list[ScoredText] = []
        scored_prompt: list[ScoredToken] = []
        encoded = self._encode(task.prompt) if self._seq2seq else None
        if task.with_prompt:
            logits = self._read_whole(task.prompt, len(task.prompt))
            scored_prompt = [*score_text(logits, task.prompt[1:], task.top).tokens]
        for tokens in task.continuations:
            yield
            if encoded is None:
                logits = self._read_whole([*task.prompt, *tokens[:-1]], len(tokens))
            else:
                logits = self._decode_whole(encoded, [*self._beginning, *tokens[:-1]])
            scores.append(score_text(logits, tokens, task.top))
        return Scored(scores, scored_prompt)

    def _read_whole(self, tokens: list[int], places: int) -> Floats:
        """Read a text in one pass without a cache. Returns the last logits [places, tokens]."""
        keep = supported_arguments(self.model, logits_to_keep=places)
        ids = torch.tensor([tokens], device=self.device)
        output = contained(self.model, input_ids=ids, use_cache=False, return_dict=True, **keep)
        return to_numpy(output.logits[0, -places:, : self._tokens])

    def _decode_whole(self, encoded: Any, tokens: list[int]) -> Floats:
        ids = torch.tensor([tokens], device=self.device)
        output = contained(
            self.model, encoder_outputs=encoded, decoder_input_ids=ids, use_cache=False
        )
        return to_numpy(output.logits[0, len(self._beginning) - 1 :, : self._tokens])

    def _encode(self, prompt: list[int]) -> Any:
        tokens = torch.tensor([prompt], device=self.device)
        mask = torch.ones_like(tokens)
        return contained(self.model.get_encoder(), input_ids=tokens, attention_mask=mask)


def _count_bytes(value: Any) -> int:
    """The bytes of the tensors that an object holds."""
    if isinstance(value, torch.Tensor):
        return value.nbytes
    if isinstance(value, dict):
        return sum(map(_count_bytes, value.values()))
    if isinstance(value, (list, tuple)):
        return sum(map(_count_bytes, value))
    if isinstance(value, (Cache, CacheLayerMixin, LinearAttentionCacheLayerMixin)):
        return _count_bytes(vars(value))
    return 0


class SingleBatch:
    """Rows that take a step one after the other."""

    ragged = True

    def __init__(self, forward: SingleForward) -> None:
        self._forward = forward
        self._rows: list[SingleRow] = []

    def join(self, rows: Sequence[SingleRow]) -> None:
        self._rows.extend(rows)

    def leave(self, row: int, *, wipe: bool = False) -> None:
        last = self._rows.pop()
        if row < len(self._rows):
            self._rows[row] = last

    def step(self, tokens: Sequence[Sequence[int]]) -> Floats:
        for row, following in zip(self._rows, tokens, strict=True):
            for token in following:  # the states of some models advance by one token
                self._forward.extend(row, token)
        return np.stack([row.logits for row in self._rows])

    def close(self) -> None:
        self._rows.clear()
