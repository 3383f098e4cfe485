"""Forward passes of decoder-only models over transformers."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from copy import copy
from dataclasses import dataclass
from typing import Any

import torch
from transformers import Cache
from transformers.cache_utils import DynamicLayer

from services.common.local.containment import contained
from services.common.local.trace import ScoredToken
from services.hf.cache import CacheSize, WindowCache
from services.hf.forward import (
    Batch,
    Floats,
    Forward,
    Scored,
    ScoringTask,
    Work,
    finite_rows,
    join_texts,
    score_text,
)
from services.hf.prefix import PrefixCache

#: How much longer than step_tokens a pass may be, if that saves another pass.
_STRETCH = 1.25
#: Bounds the rows that score continuations together: their copies of the prompt take at most
#: this many columns for each token of a pass.
_SHARED_COLUMNS = 64


@dataclass(frozen=True, slots=True)
class PrefilledRow:
    """A prompt that the model has read: row `row` of a cache, and the logits after it.

    length: the row's columns in the cache. logits: [tokens]. cached: tokens that came from
    the prefix cache. encoded: the cache of the cross-attention, for encoder-decoder models.
    """

    cache: Cache
    row: int
    length: int
    logits: Floats
    cached: int = 0
    encoded: Cache | None = None

    def release(self) -> None:
        """Nothing: its memory ends with the last reference to the cache."""


def to_numpy(logits: torch.Tensor) -> Floats:
    """Logits as the engine uses them. On a CPU, float32 is not copied."""
    array: Floats = logits.float().cpu().numpy()
    return array


def supported_arguments(model: Any, **arguments: Any) -> dict[str, Any]:
    """The arguments that this architecture's `forward` takes."""
    supported = inspect.signature(model.forward).parameters
    return {name: value for name, value in arguments.items() if name in supported}


def usable_tokens(model: Any) -> int:
    """How many token ids a model can both write and read. Its logits are cut to these."""
    layers = model.get_input_embeddings(), model.get_output_embeddings()
    return min(int(layer.weight.shape[0]) for layer in layers if layer is not None)


def suppressed_tokens(model: Any) -> tuple[int, ...]:
    """The tokens that a model never writes, by its generation config.

    Its other rules about texts (sequences of tokens, repetition, lengths) are choices of sampling,
    which requests make.
    """
    generation = model.generation_config
    words = getattr(generation, "bad_words_ids", None) or ()
    single = {word[0] for word in words if len(word) == 1}
    listed = {*(getattr(generation, "suppress_tokens", None) or ()), *single}
    return tuple(sorted(token for token in listed if 0 <= token < usable_tokens(model)))


class CausalForward:
    """Decoder-only models.

    step_tokens: prompt tokens of one pass, padding included. prefix_bytes: size of the prefix
    cache; 0: no cache.
    """

    def __init__(self, model: Any, step_tokens: int, prefix_bytes: int = 0) -> None:
        self.model = model
        self.device: torch.device = model.device
        self.prefixes = PrefixCache(prefix_bytes) if prefix_bytes else None
        self.size = CacheSize()
        self._step_tokens = step_tokens
        self._tokens = usable_tokens(model)
        self._last_only = supported_arguments(model, logits_to_keep=1)
        self._takes_positions = bool(supported_arguments(model, position_ids=None))

    #: A pass reads prompts or decodes, because all rows of a pass read equally many tokens.
    mixes = False

    def pass_tokens(self, limit: int) -> int:
        return limit

    def thread_context(self) -> AbstractContextManager[Any]:
        return torch.inference_mode()

    def uncached(self) -> Forward:
        forward = copy(self)
        forward.prefixes = None
        return forward

    def cache_bytes(self, widths: Sequence[int]) -> int:
        return self.size.bound(widths, self._step_tokens)

    @property
    def held_bytes(self) -> int:
        return self.size.held_bytes

    def return_memory(self) -> None:
        """Nothing to return: the cache has only the columns of the rows that run."""

    def positions(self, positions: torch.Tensor) -> dict[str, Any]:
        """position_ids, if the architecture takes them. Others derive them from the mask."""
        return {"position_ids": positions} if self._takes_positions else {}

    def new_batch(self) -> Batch:
        return CausalBatch(self)

    def read(self, cache: WindowCache, tokens: torch.Tensor) -> Floats:
        """Read [rows, n] tokens. Returns the logits [rows, tokens] after the last ones."""
        return to_numpy(self._pass(cache, tokens, **self._last_only)[:, -1])

    def _pass(self, cache: WindowCache, tokens: torch.Tensor, **arguments: object) -> torch.Tensor:
        """Read [rows, n] tokens. Returns the logits [rows, places, tokens]."""
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
            **arguments,
        )
        cache.advance(count)
        logits: torch.Tensor = output.logits[..., : self._tokens]
        return logits

    def prefill(self, prompts: Sequence[list[int]]) -> Work:
        cached = [self._find_cached(prompt) for prompt in prompts]
        lengths = [len(prompt) for prompt in prompts]
        fresh = max(length - len(places) for length, places in zip(lengths, cached, strict=True))
        # All rows read equally many tokens, so that they end at the same column. A row with
        # more cached tokens reads some of them again, which costs the same as padding.
        kept = [
            places[: max(0, length - fresh)] for length, places in zip(lengths, cached, strict=True)
        ]
        cache = WindowCache()
        cache.begin([length - fresh for length in lengths], max(lengths))
        if self.prefixes is not None and any(kept):
            cache.fill(self.prefixes.read(kept))
        padded = [[0] * (fresh - len(prompt)) + prompt[-fresh:] for prompt in prompts]
        tokens = torch.tensor(padded, device=self.device)
        # Equal pieces, because a short last piece would cost almost as much as a full one.
        pieces = math.ceil(tokens.numel() / (self._step_tokens * _STRETCH))
        chunk = math.ceil(fresh / pieces)
        for begin in range(0, fresh, chunk):
            if begin:
                yield
            logits = self.read(cache, tokens[:, begin : begin + chunk])
        cache.expose()
        self.size.token_bytes = cache.token_bytes
        if self.prefixes is not None:
            for row, finite in enumerate(finite_rows(logits)):
                if finite:
                    self.prefixes.store(prompts[row], cache, row)
        return [
            PrefilledRow(cache, row, len(prompt), logits[row], len(kept[row]))
            for row, prompt in enumerate(prompts)
        ]

    def _find_cached(self, prompt: list[int]) -> list[int]:
        """The places of a prompt's cached prefix.

        The last token is always read, because the logits after it are not cached.
        """
        return [] if self.prefixes is None else self.prefixes.match(prompt[:-1])

    def score(self, task: ScoringTask) -> Work:
        scored_prompt: list[ScoredToken] = []
        if task.with_prompt:
            prefilled, scored_prompt = yield from self._score_prompt(task.prompt, task.top)
        else:
            [prefilled] = yield from self.prefill([task.prompt])
        first = prefilled.logits[None]
        scores = [score_text(first, tokens[:1], task.top) for tokens in task.continuations]
        longer = [index for index, tokens in enumerate(task.continuations) if len(tokens) > 1]
        max_rows = max(1, _SHARED_COLUMNS * self._step_tokens // len(task.prompt))
        for group in _split(longer, task.continuations, self._step_tokens, max_rows):
            yield
            width = max(len(task.continuations[index]) for index in group) - 1
            inputs = [_pad(task.continuations[index][:-1], width) for index in group]
            output = contained(
                self.model,
                input_ids=torch.tensor(inputs, device=self.device),
                past_key_values=_share_row(prefilled.cache, len(group)),
                use_cache=True,
                **self.positions(
                    torch.arange(
                        len(task.prompt), len(task.prompt) + width, device=self.device
                    ).expand(len(group), -1)
                ),
            )
            logits = to_numpy(output.logits[..., : self._tokens])
            for row, index in enumerate(group):
                rest = score_text(logits[row], task.continuations[index][1:], task.top)
                scores[index] = join_texts((scores[index], rest))
        return Scored(scores, scored_prompt, prefilled.cached)

    def _score_prompt(self, prompt: list[int], top: int) -> Work:
        """Read a prompt without the prefix cache, which has no logits.

        Returns its PrefilledRow and the ScoredTokens after the first.
        """
        cache = WindowCache()
        cache.begin([0], len(prompt))
        scored: list[ScoredToken] = []
        for begin in range(0, len(prompt), self._step_tokens):
            if begin:
                yield
            tokens = prompt[begin : begin + self._step_tokens]
            logits = to_numpy(self._pass(cache, torch.tensor([tokens], device=self.device))[0])
            following = prompt[begin + 1 : begin + len(tokens) + 1]
            scored += score_text(logits, following, top).tokens
        cache.expose()
        return PrefilledRow(cache, 0, len(prompt), logits[-1]), scored


class CausalBatch:
    """A running batch of a decoder-only model."""

    ragged = False

    def __init__(self, forward: CausalForward) -> None:
        self._forward = forward
        self._cache = WindowCache()
        self._forward.size.held = [self._cache]

    def join(self, rows: Sequence[PrefilledRow]) -> None:
        source: Any = rows[0].cache
        if not self._cache.window.lengths and len(rows) == len(source.window.lengths):
            self._cache = source  # the batch is empty: use the prompts' cache without copying
            self._forward.size.held = [source]
            return
        self._cache.make_room([prefilled.length for prefilled in rows])
        for prefilled in rows:
            self._cache.insert(prefilled.cache, prefilled.row, prefilled.length)

    def leave(self, row: int, *, wipe: bool = False) -> None:
        self._cache.remove(row, wipe=wipe)

    def step(self, tokens: Sequence[Sequence[int]]) -> Floats:
        return self._forward.read(self._cache, torch.tensor(tokens, device=self._forward.device))

    def close(self) -> None:
        self._cache = WindowCache()
        self._forward.size.held = [self._cache]


def _pad(tokens: list[int], width: int) -> list[int]:
    """Pad on the right, where padding does not change the results of the tokens before it."""
    return tokens + [0] * (width - len(tokens))


def _split(
    indices: list[int], continuations: Sequence[list[int]], max_tokens: int, max_rows: int
) -> Iterator[list[int]]:
    """Split into groups of at most `max_rows` rows and `max_tokens` tokens, padding included."""
    group: list[int] = []
    width = 0
    for index in indices:
        wider = max(width, len(continuations[index]))
        full = len(group) == max_rows or wider * (len(group) + 1) > max_tokens
        if group and full:
            yield group
            group, wider = [], len(continuations[index])
        group.append(index)
        width = wider
    if group:
        yield group


class _SharedLayer(DynamicLayer):
    """One row's keys and values, shared by `rows` rows. The tokens that they read are not stored.

    So only one layer at a time has a copy of the prompt for each row.
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


def _share_row(cache: Cache, rows: int) -> Cache:
    """A cache in which `rows` rows share the only row of `cache`."""
    layers: Any = cache.layers  # full attention, as prefilled
    return Cache(layers=[_SharedLayer(layer.keys, layer.values, rows) for layer in layers])
