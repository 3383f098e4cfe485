"""Forward passes of decoder-only models: prefill, one step of a batch, scoring.

Long work is a generator that yields after each pass, so that the engine can take a
decoding step, or a cancellation, in between.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from transformers import Cache
from transformers.cache_utils import DynamicLayer

from services.common.local.contain import contained
from services.hf.cache import WindowCache
from services.hf.prefix import PrefixCache

Work = Generator[None, None, Any]

#: How much longer than step_tokens a pass may be to spare another.
_STRETCH = 1.25
#: Copies of a scored prompt, in columns: at most this times the tokens of a pass.
_SHARED_COLUMNS = 64


@dataclass(frozen=True, slots=True)
class Prefilled:
    """A prompt that has been read: row `row` of a cache, and what comes next.

    length: the cache columns that are the row's. logits: [tokens]. cached: tokens that
    came from the prefix cache. encoded: the cross-attention's cache, for
    encoder-decoder models.
    """

    cache: Cache
    row: int
    length: int
    logits: torch.Tensor
    cached: int = 0
    encoded: Cache | None = None


@dataclass(frozen=True, slots=True)
class Scored:
    """The summed log-probability of each continuation.

    cached: tokens of the prompt that came from the prefix cache.
    """

    sums: list[float]
    cached: int = 0


class Batch(Protocol):
    """Rows that take each step together."""

    def join(self, rows: Sequence[Prefilled]) -> None:
        """Add rows, read together, at the end."""

    def leave(self, row: int, *, wipe: bool = False) -> None:
        """Drop a row; the last one takes its place.

        wipe: overwrite its keys and values, which may have NaN, before another row reuses them.
        """

    def step(self, tokens: Sequence[Sequence[int]]) -> torch.Tensor:
        """Give each row its next tokens, each as many; returns [rows, tokens] of logits."""


class Forward(Protocol):
    """A model as the engine sees it. prefixes: None where prompts cannot share any."""

    prefixes: PrefixCache | None

    def new_batch(self) -> Batch: ...

    def prefill(self, prompts: Sequence[list[int]]) -> Work:
        """Read prompts; returns one Prefilled each."""

    def score(self, prompt: list[int], continuations: Sequence[list[int]]) -> Work:
        """Returns Scored."""


def optional_arguments(model: Any, **wanted: Any) -> dict[str, Any]:
    """Those of the arguments that this architecture's forward knows."""
    known = inspect.signature(model.forward).parameters
    return {name: value for name, value in wanted.items() if name in known}


def usable_tokens(model: Any) -> int:
    """How many tokens a model can both write and read. Its logits are cut to these."""
    layers = model.get_input_embeddings(), model.get_output_embeddings()
    return min(int(layer.weight.shape[0]) for layer in layers)


def finite_rows(logits: torch.Tensor) -> list[bool]:
    """Which rows of [rows, tokens] have logits to sample from.

    A row's maximum is not finite if the row has NaN or +inf, or nothing but -inf. A model may
    exclude some tokens with -inf. This takes a third of the time of `argmax`.
    """
    finite: list[bool] = logits.amax(dim=-1).isfinite().tolist()
    return finite


class CausalForward:
    """Decoder-only models.

    step_tokens: prompt tokens, padding included, of one pass. prefix_bytes: the prefix
    cache's size; 0: none.
    """

    def __init__(self, model: Any, step_tokens: int, prefix_bytes: int = 0) -> None:
        self.model = model
        self.device: torch.device = model.device
        self.prefixes = PrefixCache(prefix_bytes) if prefix_bytes else None
        self._step_tokens = step_tokens
        self._tokens = usable_tokens(model)
        self._last_only = optional_arguments(model, logits_to_keep=1)
        self._takes_positions = bool(optional_arguments(model, position_ids=None))

    def positions(self, positions: torch.Tensor) -> dict[str, Any]:
        """position_ids, for architectures that do not derive them from the mask."""
        return {"position_ids": positions} if self._takes_positions else {}

    def new_batch(self) -> Batch:
        return CausalBatch(self)

    def read(self, cache: WindowCache, tokens: torch.Tensor) -> torch.Tensor:
        """Pass [rows, n] tokens; returns [rows, tokens] of logits after the last ones."""
        count = tokens.shape[1]
        cache.reserve(count)
        begins = torch.tensor(cache.window.lengths, device=self.device)[:, None]
        positions = begins + torch.arange(count, device=self.device)
        output = contained(
            self.model,
            input_ids=tokens,
            attention_mask=cache.mask(self.device, extra=count),
            past_key_values=cache,
            use_cache=True,
            **self.positions(positions.clamp(min=0)),
            **self._last_only,
        )
        cache.advance(count)
        logits: torch.Tensor = output.logits[:, -1, : self._tokens]
        return logits

    def prefill(self, prompts: Sequence[list[int]]) -> Work:
        found = [self._cached(prompt) for prompt in prompts]
        lengths = [len(prompt) for prompt in prompts]
        fresh = max(length - len(places) for length, places in zip(lengths, found, strict=True))
        # All read as many tokens. Where more is cached, some of that is read again, which
        # costs what padding would, and every row ends at the same column.
        kept = [
            places[: max(0, length - fresh)] for length, places in zip(lengths, found, strict=True)
        ]
        cache = WindowCache()
        cache.begin([length - fresh for length in lengths], max(lengths))
        if self.prefixes is not None and any(kept):
            cache.fill(self.prefixes.read(kept))
        padded = [[0] * (fresh - len(prompt)) + prompt[-fresh:] for prompt in prompts]
        tokens = torch.tensor(padded, device=self.device)
        # Even pieces, because a short last one would cost almost as much as a full one.
        pieces = math.ceil(tokens.numel() / (self._step_tokens * _STRETCH))
        chunk = math.ceil(fresh / pieces)
        for begin in range(0, fresh, chunk):
            if begin:
                yield
            logits = self.read(cache, tokens[:, begin : begin + chunk])
        cache.expose()
        if self.prefixes is not None:
            for row, finite in enumerate(finite_rows(logits)):
                if finite:
                    self.prefixes.store(prompts[row], cache, row)
        return [
            Prefilled(cache, row, len(prompt), logits[row], len(kept[row]))
            for row, prompt in enumerate(prompts)
        ]

    def _cached(self, prompt: list[int]) -> list[int]:
        """The last token is always read: what comes after it is not cached."""
        return [] if self.prefixes is None else self.prefixes.match(prompt[:-1])

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
            output = contained(
                self.model,
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
        return Scored(scores, read.cached)


class CausalBatch:
    """A running batch of a decoder-only model."""

    def __init__(self, forward: CausalForward) -> None:
        self._forward = forward
        self._cache = WindowCache()

    def join(self, rows: Sequence[Prefilled]) -> None:
        source: Any = rows[0].cache
        if not self._cache.window.lengths and len(rows) == len(source.window.lengths):
            self._cache = source  # all of it: nothing need be copied
            return
        self._cache.make_room([prefilled.length for prefilled in rows])
        for prefilled in rows:
            self._cache.insert(prefilled.cache, prefilled.row, prefilled.length)

    def leave(self, row: int, *, wipe: bool = False) -> None:
        self._cache.remove(row, wipe=wipe)

    def step(self, tokens: Sequence[Sequence[int]]) -> torch.Tensor:
        return self._forward.read(self._cache, torch.tensor(tokens, device=self._forward.device))


def summed_logprob(logits: torch.Tensor, tokens: list[int]) -> float:
    """Sum of log-probabilities of tokens[i] at logits[i], for [places, tokens].

    NaN if a place has NaN or +inf among its logits, -inf if the model excludes a token.
    """
    logprobs = torch.log_softmax(logits[: len(tokens)].float(), dim=-1)
    wanted = torch.tensor(tokens, device=logits.device)[:, None]
    return float(logprobs.gather(1, wanted).sum())


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
