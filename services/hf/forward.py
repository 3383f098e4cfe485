"""What the engine needs of a model: prefill, one step of a batch, scoring. Imports no torch.

There are three forward passes: forward_causal.py and forward_seq2seq.py over transformers, and
openvino/forward.py. Long work is a generator that yields after each pass, so that the engine can
decode a step or cancel the work in between. Logits are numpy arrays of float32.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from services.common.local.trace import ScoredText, ScoredToken

Floats = npt.NDArray[np.float32]

#: Yields after each pass and returns the result.
Work = Generator[None, None, Any]


class Prefilled(Protocol):
    """A prompt that the model has read. It ends with `Batch.join` or `release`."""

    @property
    def logits(self) -> Floats:
        """The logits after the prompt: [tokens]."""

    @property
    def cached(self) -> int:
        """How many of the prompt's tokens came from the prefix cache."""

    def release(self) -> None:
        """Free the memory of a prompt that joins no batch."""


@dataclass(frozen=True, slots=True)
class Scored:
    """The scores of continuations.

    prompt: the prompt's tokens but the first, if they were scored. cached: tokens of the prompt
    that came from the prefix cache.
    """

    continuations: list[ScoredText]
    prompt: list[ScoredToken]
    cached: int = 0


@dataclass(frozen=True, slots=True)
class ScoringTask:
    """Continuations of a prompt to score.

    top: the number of alternatives at each position. with_prompt: score the prompt, too.
    """

    prompt: list[int]
    continuations: Sequence[list[int]]
    top: int = 0
    with_prompt: bool = False


class Prefixes(Protocol):
    """The beginnings of recent prompts, which are not computed again.

    unit: a prefix is found if it is at least this many tokens longer than a known one.
    """

    unit: int

    def count(self, tokens: Sequence[int]) -> int:
        """How many of the first tokens are cached."""


class Batch(Protocol):
    """Rows that take each decoding step together.

    ragged: rows may read different numbers of tokens in one step.
    """

    ragged: bool

    def join(self, rows: Sequence[Any]) -> None:
        """Append rows that one `prefill` has read."""

    def leave(self, row: int, *, wipe: bool = False) -> None:
        """Drop a row; the last row takes its place.

        wipe: zero its keys and values, which may contain NaN, before another row reuses them.
        """

    def step(self, tokens: Sequence[Sequence[int]]) -> Floats:
        """Read each row's next tokens. Returns the logits [rows, tokens] after the last ones.

        They are valid until the next pass, and the caller may change them.
        """

    def close(self) -> None:
        """Free the memory of all rows. The batch cannot be used any more."""


class Forward(Protocol):
    """A model as the engine uses it.

    prefixes: None if prompts cannot share their prefixes. mixes: a step also reads waiting
    prompts, so that reading and decoding do not delay each other.
    """

    @property
    def prefixes(self) -> Prefixes | None: ...

    @property
    def mixes(self) -> bool: ...

    def pass_tokens(self, limit: int) -> int:
        """How many tokens of prompts to read together next, at most `limit`."""

    def thread_context(self) -> AbstractContextManager[Any]:
        """What the thread that uses the model has to enter first."""

    def uncached(self) -> Forward:
        """The same model without its prefix cache."""

    def cache_bytes(self, widths: Sequence[int]) -> int:
        """The most bytes that the cache takes for rows that grow to these widths."""

    @property
    def held_bytes(self) -> int:
        """Bytes that the cache takes now. A row that leaves may free nothing yet."""

    def return_memory(self) -> None:
        """Give the memory of the cache that no row uses back to the system."""

    def new_batch(self) -> Batch: ...

    def prefill(self, prompts: Sequence[list[int]]) -> Work:
        """Read prompts. Returns one Prefilled for each."""

    def score(self, task: ScoringTask) -> Work:
        """Score continuations. Returns Scored."""


def finite_rows(logits: Floats) -> list[bool]:
    """For each row of [rows, tokens], whether its logits can be sampled from.

    A row's maximum is not finite if the row has NaN or +inf, or only -inf. A model may exclude
    some tokens with -inf.
    """
    finite: list[bool] = np.isfinite(logits.max(axis=-1)).tolist()
    return finite


def log_softmax(logits: Floats) -> Floats:
    """The log-probabilities [..., tokens]; NaN where a place has NaN or +inf."""
    with np.errstate(invalid="ignore"):
        shifted = logits - logits.max(axis=-1, keepdims=True)
    total = np.exp(shifted).sum(axis=-1, keepdims=True, dtype=np.float64)
    logprobs: Floats = (shifted - np.log(total)).astype(np.float32)
    return logprobs


def likeliest(logprobs: Floats, count: int) -> list[tuple[int, float]]:
    """The `count` likeliest tokens of [tokens] with their values; of equal ones, the first."""
    count = min(count, len(logprobs))
    tokens = np.argpartition(-logprobs, count - 1)[:count] if count < len(logprobs) else None
    chosen = np.arange(len(logprobs)) if tokens is None else np.sort(tokens)
    chosen = chosen[np.argsort(-logprobs[chosen], kind="stable")]
    return [(int(token), float(logprobs[token])) for token in chosen]


def score_text(logits: Floats, tokens: Sequence[int], top: int = 0) -> ScoredText:
    """The scores of tokens[i] at logits[i]. logits: [places, tokens].

    A log-probability is NaN if its place has NaN or +inf among its logits, and -inf if the model
    excludes the token.
    """
    scored: list[ScoredToken] = []
    is_greedy = True
    # Place by place, because the float64 of all places of a long prompt would be large.
    for place, token in zip(logits, tokens, strict=False):
        logprobs = log_softmax(place)
        chosen = float(logprobs[token])
        is_greedy = is_greedy and chosen >= float(logprobs.max())
        scored.append(ScoredToken(chosen, tuple(likeliest(logprobs, top)) if top else ()))
    return ScoredText(scored, is_greedy)


def join_texts(texts: Iterable[ScoredText]) -> ScoredText:
    """The scores of a text that was scored in pieces."""
    pieces = list(texts)
    tokens = [token for piece in pieces for token in piece.tokens]
    return ScoredText(tokens, all(piece.is_greedy for piece in pieces))


@dataclass(frozen=True, slots=True)
class LoadLimits:
    """What the service's configuration says about every model. See HfConfig.

    cache_bytes: the most that rows of one model can ever take.
    """

    step_tokens: int
    cache_bytes: int = 1 << 28
    threads: int | None = None


@dataclass(frozen=True, slots=True)
class ModelCore:
    """The forward pass of a model, and what it says about itself.

    embedded: how many token ids it can read. tokens: how many it can read and write. ends: the end
    tokens of its generation config. suppressed: tokens that it never writes. size: bytes of its
    weights. note: why it does not run on OpenVINO, or empty. file: the weights, if the process
    maps them.
    """

    forward: Forward
    embedded: int
    tokens: int
    ends: tuple[int, ...]
    suppressed: tuple[int, ...]
    size: int
    precision: str
    engine: str
    note: str = ""
    file: Path | None = None
