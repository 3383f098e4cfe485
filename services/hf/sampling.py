"""From logits to tokens. Each row has its own sampling parameters.

A row's draw depends only on its own logits and random numbers, and walks the vocabulary in
a fixed order. The other rows of a batch cannot change it.
"""

from __future__ import annotations

import math
import random
import secrets
from collections import Counter, deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from arena_llm.types import DEFAULT_RETURNS, LogprobKind, ReturnOptions, Sampling
from services.common.errors import InvalidRequest
from services.common.local.checks import make_not_finite_error
from services.common.local.sampling import sampling_settings
from services.common.local.trace import ScoredToken
from services.hf.forward import Floats, finite_rows, likeliest, log_softmax
from services.hf.grammar import Matcher

#: Temperatures below this take the likeliest token.
_GREEDY_BELOW = 1e-5
#: Tokens among which a nucleus (top_p) is searched first: it is rarely larger, and a full sort
#: is slow.
_NUCLEUS_PROBE = 512
#: What is added to the logit of a token that is not allowed, and of one that is. Much faster than
#: an assignment through a mask.
_EXCLUDED = np.array([-math.inf, 0], np.float32)

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Sampled:
    """A token, and its log-probability if the request asks for it."""

    token: int
    scored: ScoredToken | None = None


class TokenSampler:
    """One request's sampling: its parameters, random numbers, and drawn tokens.

    prompt: the prompt's tokens. ends: tokens that end the completion, which min_tokens delays.
    suppressed: tokens that the model never writes, unless the constraint asks for them.
    """

    def __init__(
        self,
        sampling: Sampling,
        matcher: Matcher | None = None,
        returns: ReturnOptions = DEFAULT_RETURNS,
        prompt: Sequence[int] = (),
        ends: Collection[int] = (),
        suppressed: Collection[int] = (),
    ) -> None:
        settings = sampling_settings(sampling)  # Sequence handles max_tokens and stop
        self.temperature: float = settings["temperature"]
        self.top_p: float = settings["top_p"]
        self.top_k: int = settings["top_k"]
        self.min_p: float = settings["min_p"]
        self.greedy = self.temperature < _GREEDY_BELOW or self.top_k == 1
        self.matcher = matcher
        #: The number of alternatives to return; None if no log-probabilities are returned.
        self.top_logprobs: int | None = returns.top_logprobs
        if returns.logprob_token_ids:
            self.top_logprobs = returns.top_logprobs or 0
        self.token_ids = returns.logprob_token_ids
        self.kind = returns.logprob_kind or LogprobKind.RAW
        self._presence: float = settings["presence_penalty"]
        self._frequency: float = settings["frequency_penalty"]
        self._repetition: float = settings["repetition_penalty"]
        self._bias: Mapping[int, float] = settings["logit_bias"]
        self._min_tokens: int = settings["min_tokens"]
        self._ends = sorted(ends)
        self._suppressed = [] if matcher is not None else [*suppressed]
        seed = secrets.randbits(63) if settings["seed"] is None else settings["seed"]
        self._random = random.Random(seed)  # noqa: S311 - sampling, no secret
        self._taken = 0
        self._counts: Counter[int] = Counter()
        #: Tokens of prompt and completion, in the order of their first occurrence.
        self._seen: dict[int, None] = {}
        if self._repetition != 1:
            self._seen = dict.fromkeys(prompt)
        self._forced: deque[int] = deque(() if matcher is None else matcher.forced())

    @property
    def wants_logprobs(self) -> bool:
        """True if the request asks for log-probabilities."""
        return self.top_logprobs is not None

    def uniform(self) -> float:
        """The request's next random number, from 0 to below 1."""
        return self._random.random()

    def record_token(self, token: int) -> None:
        """Record a token that was drawn or forced."""
        self._taken += 1
        if self._presence or self._frequency:
            self._counts[token] += 1
        if self._repetition != 1:
            self._seen[token] = None
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

    def adjust(self, logits: Floats) -> None:
        """Apply bias, penalties, min_tokens and the constraint to one row, in place."""
        if self._bias:
            logits[list(self._bias)] += np.array(list(self._bias.values()), logits.dtype)
        if self._seen:
            seen = list(self._seen)
            old = logits[seen]
            logits[seen] = np.where(old > 0, old / self._repetition, old * self._repetition)
        if self._counts:
            counts = np.array(list(self._counts.values()), logits.dtype)
            logits[list(self._counts)] -= self._presence + self._frequency * counts
        if self._taken < self._min_tokens and self._ends:
            logits[self._ends] = -math.inf
        if self._suppressed:
            logits[self._suppressed] = -math.inf
        if self.matcher is not None:
            logits += _EXCLUDED.take(self.matcher.allowed().view(np.uint8))


def sample(logits: Floats, samplers: list[TokenSampler], model: str) -> list[Sampled | Exception]:
    """Draw one token for each row of `logits` [rows, tokens], which are overwritten.

    A row gets an error if its logits are not finite, every allowed token has the probability 0,
    or its sampler fails. The other rows are not affected.
    """
    failed: dict[int, Exception] = {
        row: make_not_finite_error(model)
        for row, finite in enumerate(finite_rows(logits))
        if not finite
    }
    #: The log-probabilities to return.
    logprobs = {
        row: log_softmax(logits[row])
        for row, sampler in enumerate(samplers)
        if sampler.wants_logprobs and sampler.kind is LogprobKind.RAW
    }
    for row, sampler in enumerate(samplers):
        if row in failed:
            continue
        try:
            if sampler.next_forced is None:
                sampler.adjust(logits[row])
        except Exception as error:
            failed[row] = error
    tokens: list[int] = logits.argmax(axis=-1).tolist()
    possible = finite_rows(logits)
    for row, sampler in enumerate(samplers):
        if row in failed:
            continue
        try:
            probabilities: Doubles | None = None  # one token has all
            if sampler.next_forced is not None:
                tokens[row] = sampler.next_forced
                possible[row] = row not in logprobs or bool(logprobs[row][tokens[row]] > -math.inf)
            elif possible[row] and not sampler.greedy:
                probabilities = _distribution(logits[row], sampler)
                tokens[row] = _draw(probabilities, sampler)
            if not possible[row]:
                raise _excluded(model, sampler)
            if sampler.wants_logprobs and sampler.kind is LogprobKind.SAMPLED:
                logprobs[row] = _sampled_logprobs(probabilities, tokens[row], logits[row])
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


def _distribution(logits: Floats, sampler: TokenSampler) -> Doubles:
    """The weights [tokens] from which the token is drawn; their sum may be below 1."""
    # In float32, whose exponential is several times as fast, for a large vocabulary.
    with np.errstate(over="ignore"):  # at a low temperature, others get the probability 0
        scaled = (logits - logits.max()) / np.float32(sampler.temperature)
    probabilities: Doubles = np.exp(scaled).astype(np.float64)
    probabilities /= probabilities.sum()
    if sampler.min_p > 0:
        probabilities[probabilities < probabilities.max() * sampler.min_p] = 0.0
    if 0 < sampler.top_k < len(probabilities):
        least = np.partition(probabilities, -sampler.top_k)[-sampler.top_k]
        probabilities[probabilities < least] = 0.0
    if sampler.top_p < 1:
        probabilities[probabilities < _nucleus_edge(probabilities, sampler.top_p)] = 0.0
    return probabilities


def _draw(probabilities: Doubles, sampler: TokenSampler) -> int:
    cumulative = probabilities.cumsum()
    place = sampler.uniform() * float(cumulative[-1])
    drawn = int(np.searchsorted(cumulative, place, side="right"))
    # Rounding may put the place at the very end: then take the last possible token.
    if drawn >= len(probabilities):
        drawn = int(probabilities.nonzero()[0][-1])
    return drawn


def _nucleus_edge(probabilities: Doubles, top_p: float) -> float:
    """The least probability in the smallest set of tokens whose sum is at least `top_p`."""
    target = top_p * float(probabilities.sum())
    size = len(probabilities)
    for count in (min(_NUCLEUS_PROBE, size), size):
        ordered = np.sort(np.partition(probabilities, size - count)[size - count :])[::-1]
        cumulative = ordered.cumsum()
        if float(cumulative[-1]) >= target:
            break
    place = int((cumulative < target).sum())
    return float(ordered[min(place, len(ordered) - 1)])


def _sampled_logprobs(probabilities: Doubles | None, token: int, logits: Floats) -> Floats:
    """The log-probabilities of the distribution from which the token was drawn.

    probabilities: None if the token was the only possible one.
    """
    if probabilities is None:
        certain = np.full_like(logits, -math.inf)
        certain[token] = 0.0
        return certain
    with np.errstate(divide="ignore"):  # the logarithm of an excluded token is -inf
        logprobs: Floats = np.log(probabilities / probabilities.sum()).astype(np.float32)
    return logprobs


def _with_logprobs(token: int, logprobs: Floats | None, sampler: TokenSampler) -> Sampled:
    if logprobs is None:
        return Sampled(token)
    return Sampled(
        token, score_token(token, logprobs, sampler.top_logprobs or 0, sampler.token_ids)
    )


def score_token(token: int, logprobs: Floats, top: int, others: Sequence[int] = ()) -> ScoredToken:
    """A token with the likeliest alternatives at its position, then the `others`."""
    pairs = likeliest(logprobs, top) if top else []
    pairs += ((other, float(logprobs[other])) for other in others)
    return ScoredToken(float(logprobs[token]), tuple(pairs))
