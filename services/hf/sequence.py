"""The requests that the engine works on, and their progress."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from arena_llm.types import (
    Completion,
    Delta,
    FinishReason,
    Timings,
    TokenLogprob,
    TopLogprob,
    Usage,
)
from services.hf.sampling import Sampled, TokenSampler
from services.hf.text import TextStream, Vocabulary

#: Receives a request's events. The engine's thread calls it.
Sink = Callable[[Delta | Completion | BaseException], None]

#: Receives the sums of a scoring job, or its error. The engine's thread calls it.
ScoringSink = Callable[[list[float] | BaseException], None]


@dataclass(eq=False, slots=True)
class Sequence:
    """A generation: the prompt, how to continue it, and the tokens so far.

    max_tokens: most tokens to generate. eos: tokens that end the completion. unread: tokens
    that the model has to read next; at first, the whole prompt. cached: tokens of the prompt
    that came from the prefix cache.
    """

    model: str
    prompt: list[int]
    max_tokens: int
    eos: frozenset[int]
    vocabulary: Vocabulary
    sampler: TokenSampler
    text: TextStream
    sink: Sink
    cancelled: bool = False
    failed: bool = False
    generated: int = 0
    cached: int = 0
    unread: list[int] = field(init=False)
    _logprobs: list[TokenLogprob] = field(default_factory=list)
    _arrived: float = field(default_factory=time.perf_counter)
    _started: float = 0.0
    _first: float = 0.0

    def __post_init__(self) -> None:
        self.unread = list(self.prompt)

    @property
    def width(self) -> int:
        """The most cache columns that it can need."""
        return len(self.prompt) + self.max_tokens

    def cancel(self) -> None:
        """Leave the batch at the next step."""
        self.cancelled = True

    def start(self) -> bool:
        """Record that work begins. Returns True if the constraint alone decides the completion."""
        self._started = time.perf_counter()
        return self._take_forced()

    def read(self, count: int) -> list[int]:
        """Take the next `count` unread tokens."""
        tokens, self.unread = self.unread[:count], self.unread[count:]
        return tokens

    def accept(self, sampled: Sampled | Exception) -> bool:
        """Append a token and those that must follow it. Returns True if one of them is the last.

        Raises the sampler's error for the token, and InvalidRequest as Matcher does.
        """
        if isinstance(sampled, Exception):
            raise sampled
        return self._add(sampled) or self._take_forced()

    def _take_forced(self) -> bool:
        if self.sampler.logprobs is not None:
            return False  # the model has to read token by token to give their log-probabilities
        return any(self._add(Sampled(token)) for token in self.sampler.take_forced())

    def _add(self, sampled: Sampled) -> bool:
        self.generated += 1
        self.unread.append(sampled.token)
        self._first = self._first or time.perf_counter()
        if sampled.token in self.eos:
            return self._finish(FinishReason.STOP, self.text.finish())
        if self.sampler.logprobs is not None:
            self._logprobs.append(self._token_logprob(sampled))
        new = self.text.push(self.vocabulary.token_bytes(sampled.token))
        matcher = self.sampler.matcher
        if self.text.stopped:
            return self._finish(FinishReason.STOP, new)
        if matcher is not None and matcher.complete:
            return self._finish(FinishReason.STOP, new + self.text.finish())
        if self.generated >= self.max_tokens:
            return self._finish(FinishReason.LENGTH, new + self.text.finish())
        if new:
            self.sink(Delta(text=new))
        return False

    def fail(self, error: BaseException) -> None:
        """End the request with an error."""
        self.failed = True
        self.sink(error)

    def _finish(self, reason: FinishReason, new: str) -> bool:
        if self.text.stopped:
            reason = FinishReason.STOP
        if new:
            self.sink(Delta(text=new))
        now = time.perf_counter()
        self.sink(
            Completion(
                text=self.text.text,
                finish_reason=reason,
                usage=Usage(
                    prompt_tokens=len(self.prompt),
                    completion_tokens=self.generated,
                    cached_tokens=self.cached,
                ),
                model=self.model,
                id=f"hf-{secrets.token_hex(8)}",
                timings=Timings(
                    self._started - self._arrived, self._first - self._arrived, now - self._arrived
                ),
                logprobs=tuple(self._logprobs),
            )
        )
        return True

    def _token_logprob(self, sampled: Sampled) -> TokenLogprob:
        text = self.vocabulary.token_text
        top = tuple(TopLogprob(text(token), logprob) for token, logprob in sampled.top)
        return TokenLogprob(text(sampled.token), sampled.logprob, top)


@dataclass(eq=False, slots=True)
class ScoringJob:
    """Continuations to score. `sink` receives the list of sums, or an error.

    cached: tokens of the prompt that came from the prefix cache, set before `sink` is called.
    """

    prompt: list[int]
    continuations: list[list[int]]
    sink: ScoringSink
    cached: int = 0
    cancelled: bool = False

    def cancel(self) -> None:
        """Stop after the current pass."""
        self.cancelled = True

    def fail(self, error: BaseException) -> None:
        """End the job with an error."""
        self.sink(error)
