"""From logits to tokens, each row with its own parameters.

A row's draw depends on its own logits and its own random numbers alone, and walks
the vocabulary in its fixed order, so that the rows beside it do not change it.
"""

from __future__ import annotations

import math
import random
import secrets
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from arena_llm.types import Sampling
from services.common.errors import InvalidRequest
from services.common.local.finite import not_finite
from services.hf.forward import finite_rows
from services.hf.grammar import Matcher

_GREEDY_BELOW = 1e-5
#: Nuclei are sought among this many tokens first, which spares a full sort.
_NUCLEUS_PROBE = 512


@dataclass(frozen=True, slots=True)
class Sampled:
    """A token, its log-probability and the likeliest (token, log-probability) pairs."""

    token: int
    logprob: float = 0.0
    top: tuple[tuple[int, float], ...] = ()


class TokenSampler:
    """One request's sampling: its parameters, its random numbers, what it has drawn."""

    def __init__(self, sampling: Sampling, matcher: Matcher | None) -> None:
        temperature = 1.0 if sampling.temperature is None else sampling.temperature
        self.top_k = sampling.top_k or 0
        self.top_p = 1.0 if sampling.top_p is None else sampling.top_p
        self.greedy = temperature < _GREEDY_BELOW or self.top_k == 1
        self.temperature = temperature
        self.presence = sampling.presence_penalty or 0.0
        self.frequency = sampling.frequency_penalty or 0.0
        self.logprobs = sampling.logprobs
        self.matcher = matcher
        seed = secrets.randbits(63) if sampling.seed is None else sampling.seed
        self._random = random.Random(seed)  # noqa: S311 - sampling, no secret
        self._counts: Counter[int] = Counter()
        self._forced: deque[int] = deque(() if matcher is None else matcher.forced())

    def uniform(self) -> float:
        """The next random number of this request, from 0 to below 1."""
        return self._random.random()

    def took(self, token: int) -> None:
        """Remember a token that was drawn."""
        if self.presence or self.frequency:
            self._counts[token] += 1
        if self.matcher is not None:
            self.matcher.consume(token)
            if self._forced:
                self._forced.popleft()
            elif not self.matcher.complete:
                self._forced.extend(self.matcher.forced())

    def take_forced(self) -> Iterator[int]:
        """Take the tokens that the constraint leaves no choice about, one by one."""
        while self._forced:
            token = self._forced[0]
            self.took(token)
            yield token

    @property
    def next_forced(self) -> int | None:
        """The token that must come next, if the constraint leaves but one."""
        return self._forced[0] if self._forced else None

    def adjust(self, logits: torch.Tensor) -> None:
        """Apply penalties and the constraint to one row, in place."""
        if self._counts:
            tokens = torch.tensor(list(self._counts), device=logits.device)
            counts = torch.tensor(
                list(self._counts.values()), device=logits.device, dtype=logits.dtype
            )
            logits[tokens] -= self.presence + self.frequency * counts
        if self.matcher is not None:
            allowed = self.matcher.allowed().to(logits.device)
            logits.masked_fill_(~allowed, float("-inf"))


def sample(
    logits: torch.Tensor, samplers: list[TokenSampler], model: str
) -> list[Sampled | Exception]:
    """Take one token a row from [rows, tokens] of logits, which are overwritten.

    A row gets an error if its logits are not finite, its constraint leaves no way to go on,
    or its sampler fails. The other rows are not affected.
    """
    logits = logits.float()
    failed: dict[int, Exception] = {
        row: not_finite(model) for row, finite in enumerate(finite_rows(logits)) if not finite
    }
    logprobs = {
        row: torch.log_softmax(logits[row], dim=-1)
        for row, sampler in enumerate(samplers)
        if sampler.logprobs is not None
    }
    for row, sampler in enumerate(samplers):
        if row in failed:
            continue
        try:
            if sampler.next_forced is None:
                sampler.adjust(logits[row])
        except Exception as error:
            failed[row] = error
    likeliest = logits.max(dim=-1)
    tokens: list[int] = likeliest.indices.tolist()
    possible: list[bool] = likeliest.values.isfinite().tolist()
    for row, sampler in enumerate(samplers):
        if row in failed:
            continue
        try:
            if sampler.next_forced is not None:
                tokens[row] = sampler.next_forced
                possible[row] = row not in logprobs or bool(logprobs[row][tokens[row]] > -math.inf)
            elif possible[row] and not sampler.greedy:
                tokens[row] = _draw(logits[row], sampler)
            if not possible[row]:
                raise _excluded(model, sampler)
            sampler.took(tokens[row])
        except Exception as error:
            failed[row] = error
    return [
        failed.get(row) or _with_logprobs(tokens[row], logprobs.get(row), sampler)
        for row, sampler in enumerate(samplers)
    ]


def _excluded(model: str, sampler: TokenSampler) -> InvalidRequest:
    field = "config" if sampler.matcher is None else sampler.matcher.field
    return InvalidRequest(
        f"{field} allows only tokens to which {model} gives the probability 0", field=field
    )


def _draw(logits: torch.Tensor, sampler: TokenSampler) -> int:
    scaled = (logits - logits.max()) / sampler.temperature
    probabilities = torch.softmax(scaled.double(), dim=-1)
    if 0 < sampler.top_k < len(probabilities):
        least = probabilities.topk(sampler.top_k).values[-1]
        probabilities = probabilities.where(probabilities >= least, 0.0)
    if sampler.top_p < 1:
        least = _nucleus_edge(probabilities, sampler.top_p)
        probabilities = probabilities.where(probabilities >= least, 0.0)
    cumulative = probabilities.cumsum(dim=-1)
    place = sampler.uniform() * float(cumulative[-1])
    drawn = int(torch.searchsorted(cumulative, place, right=True))
    # Rounding may leave the place at the very end: then the last possible token.
    if drawn >= len(probabilities):
        drawn = int(probabilities.nonzero()[-1])
    return drawn


def _nucleus_edge(probabilities: torch.Tensor, top_p: float) -> torch.Tensor:
    """The least probability in the smallest set that holds `top_p` of the mass."""
    target = top_p * float(probabilities.sum())
    for count in (_NUCLEUS_PROBE, len(probabilities)):
        ordered = probabilities.topk(min(count, len(probabilities))).values
        cumulative = ordered.cumsum(dim=-1)
        if float(cumulative[-1]) >= target:
            break
    place = int((cumulative < target).sum())
    return ordered[min(place, len(ordered) - 1)]


def _with_logprobs(token: int, logprobs: torch.Tensor | None, sampler: TokenSampler) -> Sampled:
    if logprobs is None:
        return Sampled(token)
    top: tuple[tuple[int, float], ...] = ()
    if sampler.logprobs:
        likeliest = logprobs.topk(min(sampler.logprobs, len(logprobs)))
        pairs = zip(likeliest.indices.tolist(), likeliest.values.tolist(), strict=True)
        top = tuple(pair for pair in pairs if pair[1] > -math.inf)  # those not excluded
    return Sampled(token, float(logprobs[token]), top)
