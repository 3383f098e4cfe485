"""From logits to tokens. Each row has its own sampling parameters.

A row's draw depends only on its own logits and random numbers, and walks the vocabulary in
a fixed order. The other rows of a batch cannot change it.
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
from services.common.local.checks import make_not_finite_error
from services.common.local.request import sampling_settings
from services.hf.forward import finite_rows
from services.hf.grammar import Matcher

#: Temperatures below this take the likeliest token.
_GREEDY_BELOW = 1e-5
#: Tokens among which a nucleus (top_p) is searched first: it is rarely larger, and a full sort
#: is slow.
_NUCLEUS_PROBE = 512


@dataclass(frozen=True, slots=True)
class Sampled:
    """A token, its log-probability, and the likeliest (token, log-probability) pairs."""

    token: int
    logprob: float = 0.0
    top: tuple[tuple[int, float], ...] = ()


class TokenSampler:
    """One request's sampling: its parameters, random numbers, and drawn tokens."""

    def __init__(self, sampling: Sampling, matcher: Matcher | None) -> None:
        settings = sampling_settings(sampling)  # Sequence handles max_tokens and stop
        self.temperature: float = settings["temperature"]
        self.top_p: float = settings["top_p"]
        self.top_k: int = settings["top_k"]
        self.presence: float = settings["presence_penalty"]
        self.frequency: float = settings["frequency_penalty"]
        self.logprobs: int | None = settings["logprobs"]
        self.greedy = self.temperature < _GREEDY_BELOW or self.top_k == 1
        self.matcher = matcher
        seed = secrets.randbits(63) if settings["seed"] is None else settings["seed"]
        self._random = random.Random(seed)  # noqa: S311 - sampling, no secret
        self._counts: Counter[int] = Counter()
        self._forced: deque[int] = deque(() if matcher is None else matcher.forced())

    def uniform(self) -> float:
        """The request's next random number, from 0 to below 1."""
        return self._random.random()

    def record_token(self, token: int) -> None:
        """Record a token that was drawn or forced."""
        if self.presence or self.frequency:
            self._counts[token] += 1
        if self.matcher is not None:
            self.matcher.consume(token)
            if self._forced:
                self._forced.popleft()
            elif not self.matcher.complete:
                self._forced.extend(self.matcher.forced())

    def take_forced(self) -> Iterator[int]:
        """Yield the tokens that the constraint forces to come next, one by one."""
        while self._forced:
            token = self._forced[0]
            self.record_token(token)
            yield token

    @property
    def next_forced(self) -> int | None:
        """The token that the constraint forces to come next, if any."""
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
    """Draw one token for each row of `logits` [rows, tokens], which are overwritten.

    A row gets an error if its logits are not finite, every allowed token has the probability 0,
    or its sampler fails. The other rows are not affected.
    """
    logits = logits.float()
    failed: dict[int, Exception] = {
        row: make_not_finite_error(model)
        for row, finite in enumerate(finite_rows(logits))
        if not finite
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
            sampler.record_token(tokens[row])
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
    # Rounding may put the place at the very end: then take the last possible token.
    if drawn >= len(probabilities):
        drawn = int(probabilities.nonzero()[-1])
    return drawn


def _nucleus_edge(probabilities: torch.Tensor, top_p: float) -> torch.Tensor:
    """The least probability in the smallest set of tokens whose sum is at least `top_p`."""
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
        top = tuple(pair for pair in pairs if pair[1] > -math.inf)  # without excluded tokens
    return Sampled(token, float(logprobs[token]), top)
