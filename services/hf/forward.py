"""Forward passes of decoder-only models: prefill, one step of a batch, scoring.

Long work is a generator that yields after each pass, so that the engine can take a
decoding step, or a cancellation, in between.
"""

from __future__ import annotations

import inspect
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer

from services.hf.cache import WindowCache, left_padded_mask

Work = Generator[None, None, Any]

#: Copies of a scored prompt, in columns: at most this times the tokens of a pass.
_SHARED_COLUMNS = 64


@dataclass(frozen=True, slots=True)
class Prefilled:
    """A prompt that has been read: row `row` of a cache, and what comes next.

    length: the cache columns that are the row's. logits: [tokens].
    encoded: the cross-attention's cache, for encoder-decoder models.
    """

    cache: Cache
    row: int
    length: int
    logits: torch.Tensor
    encoded: Cache | None = None


class Batch(Protocol):
    """Rows that take each step together."""

    def join(self, prefilled: Prefilled) -> None:
        """Add a row at the end."""

    def leave(self, row: int) -> None:
        """Drop a row; the last one takes its place."""

    def step(self, tokens: Sequence[int]) -> torch.Tensor:
        """Give each row its next token; returns [rows, tokens] of logits."""


class Forward(Protocol):
    """A model as the engine sees it."""

    def new_batch(self) -> Batch: ...

    def prefill(self, prompts: Sequence[list[int]]) -> Work:
        """Read prompts; returns one Prefilled each."""

    def score(self, prompt: list[int], continuations: Sequence[list[int]]) -> Work:
        """Returns the summed log-probability of each continuation."""


def optional_arguments(model: Any, **wanted: Any) -> dict[str, Any]:
    """Those of the arguments that this architecture's forward knows."""
    known = inspect.signature(model.forward).parameters
    return {name: value for name, value in wanted.items() if name in known}


class CausalForward:
    """Decoder-only models.

    step_tokens: prompt tokens, padding included, of one pass.
    """

    def __init__(self, model: Any, step_tokens: int) -> None:
        self.model = model
        self.device: torch.device = model.device
        self._step_tokens = step_tokens
        self._last_only = optional_arguments(model, logits_to_keep=1)
        self._takes_positions = bool(optional_arguments(model, position_ids=None))

    def positions(self, positions: torch.Tensor) -> dict[str, Any]:
        """position_ids, for architectures that do not derive them from the mask."""
        return {"position_ids": positions} if self._takes_positions else {}

    def new_batch(self) -> Batch:
        return CausalBatch(self)

    def prefill(self, prompts: Sequence[list[int]]) -> Work:
        width = max(map(len, prompts))
        lengths = [len(prompt) for prompt in prompts]
        padded = [[0] * (width - len(prompt)) + prompt for prompt in prompts]
        tokens = torch.tensor(padded, device=self.device)
        starts = width - torch.tensor(lengths, device=self.device)
        positions = (torch.arange(width, device=self.device) - starts[:, None]).clamp(min=0)
        equal = min(lengths) == width
        mask = None if equal else left_padded_mask(lengths, width, self.device)
        cache = DynamicCache()
        chunk = max(1, self._step_tokens // len(prompts))
        for begin in range(0, width, chunk):
            if begin:
                yield
            until = min(begin + chunk, width)
            output = self.model(
                input_ids=tokens[:, begin:until],
                attention_mask=None if mask is None else mask[:, :until],
                past_key_values=cache,
                use_cache=True,
                **self.positions(positions[:, begin:until]),
                **self._last_only,
            )
        logits = output.logits[:, -1]
        return [Prefilled(cache, row, length, logits[row]) for row, length in enumerate(lengths)]

    def score(self, prompt: list[int], continuations: Sequence[list[int]]) -> Work:
        [read] = yield from self.prefill([prompt])
        first = torch.log_softmax(read.logits.float(), dim=-1)
        scores = [float(first[tokens[0]]) if tokens else 0.0 for tokens in continuations]
        longer = [index for index, tokens in enumerate(continuations) if len(tokens) > 1]
        most_rows = max(1, _SHARED_COLUMNS * self._step_tokens // len(prompt))
        for group in _groups(longer, continuations, self._step_tokens, most_rows):
            yield
            width = max(len(continuations[index]) for index in group) - 1
            shown = [_padded(continuations[index][:-1], width) for index in group]
            output = self.model(
                input_ids=torch.tensor(shown, device=self.device),
                past_key_values=_shared(read.cache, len(group)),
                use_cache=True,
                **self.positions(
                    torch.arange(len(prompt), len(prompt) + width, device=self.device).expand(
                        len(group), -1
                    )
                ),
            )
            for row, index in enumerate(group):
                scores[index] += summed_logprob(output.logits[row], continuations[index][1:])
        return scores


class CausalBatch:
    """A running batch of a decoder-only model."""

    def __init__(self, forward: CausalForward) -> None:
        self._forward = forward
        self._cache = WindowCache()

    def join(self, prefilled: Prefilled) -> None:
        self._cache.insert(prefilled.cache, prefilled.row, prefilled.length)

    def leave(self, row: int) -> None:
        self._cache.remove(row)

    def step(self, tokens: Sequence[int]) -> torch.Tensor:
        device = self._forward.device
        positions = torch.tensor(self._cache.window.lengths, device=device)[:, None]
        output = self._forward.model(
            input_ids=torch.tensor(tokens, device=device)[:, None],
            attention_mask=self._cache.mask(device, extra=1),
            past_key_values=self._cache,
            use_cache=True,
            **self._forward.positions(positions),
        )
        self._cache.advance()
        logits: torch.Tensor = output.logits[:, -1]
        return logits


def summed_logprob(logits: torch.Tensor, tokens: list[int]) -> float:
    """Sum of log-probabilities of tokens[i] at logits[i], for [places, tokens]."""
    told = torch.log_softmax(logits[: len(tokens)].float(), dim=-1)
    wanted = torch.tensor(tokens, device=logits.device)[:, None]
    return float(told.gather(1, wanted).sum())


def _padded(tokens: list[int], width: int) -> list[int]:
    """Padding on the right: what follows a token does not change it."""
    return tokens + [0] * (width - len(tokens))


def _groups(
    indices: list[int], continuations: Sequence[list[int]], most_tokens: int, most_rows: int
) -> Iterator[list[int]]:
    """Split into groups of at most so many rows and, padded, so many tokens."""
    group: list[int] = []
    width = 0
    for index in indices:
        wider = max(width, len(continuations[index]))
        full = len(group) == most_rows or wider * (len(group) + 1) > most_tokens
        if group and full:
            yield group
            group, wider = [], len(continuations[index])
        group.append(index)
        width = wider
    if group:
        yield group


class _SharedLayer(DynamicLayer):
    """One row's keys and values, which `rows` rows read; what these add is not kept.

    So there is one layer's copy of the prompt for each row at a time, not all layers'.
    """

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, rows: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._shared = keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1)
        self.keys, self.values = self._shared
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: object, **kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        keys, values = self._shared
        return torch.cat((keys, key_states), -2), torch.cat((values, value_states), -2)


def _shared(cache: Cache, rows: int) -> Cache:
    """The only row of a cache, for `rows` rows."""
    layers: Any = cache.layers  # full attention, as prefilled
    return Cache(layers=[_SharedLayer(layer.keys, layer.values, rows) for layer in layers])
