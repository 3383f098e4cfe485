"""The requests that the engine works on, and their progress."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from arena_llm.types import (
    DEFAULT_RETURNS,
    Completion,
    Delta,
    Enforcement,
    FinishReason,
    ReturnOptions,
    ServedBy,
    StopMatch,
    Timings,
    TokenTrace,
    Usage,
)
from services.common.local.parts import MessageBuilder
from services.common.local.trace import ScoredToken, make_trace
from services.common.local.vocabulary import Vocabulary
from services.hf.forward import Scored
from services.hf.parsing import ReplyParser
from services.hf.sampling import Sampled, TokenSampler
from services.hf.text import TextStream

#: Receives a request's events. The engine's thread calls it.
Sink = Callable[[Delta | Completion | BaseException], None]

#: Receives the result of a scoring job, or its error. The engine's thread calls it.
ScoringSink = Callable[[Scored | BaseException], None]


@dataclass(eq=False, slots=True)
class Sequence:
    """A generation: the prompt, how to continue it, and the tokens so far.

    max_tokens: most tokens to generate. eos: tokens that end the completion. stop_ids: tokens of
    the request that end it, too. min_tokens: a stop string ends it after this many. returns: what
    to return beside the text. fills_context: the context is full after max_tokens. tenant: whose
    request it is; tenants take turns. parser: separates the parts of the reply; None if it is only
    text. unread: tokens that the model has to read next; at first, the whole prompt. tokens: those
    generated so far. cached: tokens of the prompt that came from the prefix cache.
    """

    served_by: ServedBy
    prompt: list[int]
    max_tokens: int
    eos: frozenset[int]
    vocabulary: Vocabulary
    sampler: TokenSampler
    text: TextStream
    sink: Sink
    stop_ids: frozenset[int] = frozenset()
    min_tokens: int = 0
    returns: ReturnOptions = DEFAULT_RETURNS
    fills_context: bool = False
    parser: ReplyParser | None = None
    cancelled: bool = False
    failed: bool = False
    tenant: str = ""
    cached: int = 0
    unread: list[int] = field(init=False)
    tokens: list[int] = field(default_factory=list)
    _scored: list[ScoredToken] = field(default_factory=list)
    #: How many of the tokens the deltas have.
    _sent: int = 0
    _message: MessageBuilder = field(default_factory=MessageBuilder)
    _reasoning_tokens: int = 0
    _arrived: float = field(default_factory=time.perf_counter)
    _started: float = 0.0
    _first: float = 0.0

    def __post_init__(self) -> None:
        self.unread = list(self.prompt)

    @property
    def generated(self) -> int:
        """The number of tokens generated so far."""
        return len(self.tokens)

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
        if self.sampler.wants_logprobs:
            return False  # the model has to read token by token to give their log-probabilities
        return any(self._add(Sampled(token)) for token in self.sampler.take_forced())

    def _add(self, sampled: Sampled) -> bool:
        token = sampled.token
        self.tokens.append(token)
        self.unread.append(token)
        self._first = self._first or time.perf_counter()
        if sampled.scored is not None:
            self._scored.append(sampled.scored)
        may_stop = self.generated >= self.min_tokens
        special = self.vocabulary.special_bytes(token)
        shown = self.text.push_special(special.decode(), may_stop=may_stop) if special else ""
        if self.text.stop is not None:
            return self._finish(FinishReason.STOP, shown)
        if token in self.stop_ids:
            match = StopMatch(token_id=token)
            return self._finish(FinishReason.STOP, shown + self.text.finish(), match)
        if token in self.eos:
            return self._finish(FinishReason.STOP, shown + self.text.finish())
        written = self.vocabulary.token_bytes(token)
        if self.parser is not None and special in self.parser.tags:
            written = special
        single = token in self.vocabulary.byte_ids
        new = shown + self.text.push(written, single=single, may_stop=may_stop)
        matcher = self.sampler.matcher
        if self.text.stop is not None:
            return self._finish(FinishReason.STOP, new)
        if matcher is not None and matcher.complete:
            return self._finish(FinishReason.STOP, new + self.text.finish())
        if self.generated >= self.max_tokens:
            reason = FinishReason.CONTEXT if self.fills_context else FinishReason.LENGTH
            return self._finish(reason, new + self.text.finish())
        self._send(new)
        return False

    def fail(self, error: BaseException) -> None:
        """End the request with an error."""
        self.failed = True
        self.sink(error)

    def _send(self, new: str, *, final: bool = False) -> None:
        """Send a piece of the reply, with the tokens since the piece before it."""
        if self.parser is None:
            deltas = [Delta(text=new)] if new else []
        else:
            deltas = self.parser.push(new, final=final)
            if self.parser.reasons:
                self._reasoning_tokens = self.generated
        for delta in deltas:
            self._message.add(delta)
            if self.returns != DEFAULT_RETURNS:
                delta = replace(delta, tokens=self._trace(self._sent))
                self._sent = self.generated
            self.sink(delta)

    def _finish(self, reason: FinishReason, new: str, match: StopMatch | None = None) -> bool:
        if self.text.stop is not None:
            reason, match = FinishReason.STOP, StopMatch(text=self.text.stop)
        self._send(new, final=True)
        message = self._message.build()
        if message.tool_calls and reason is FinishReason.STOP:
            reason = FinishReason.TOOL_CALLS
        now = time.perf_counter()
        returns = self.returns
        whole = returns.raw_text
        prompt_tokens = None
        if returns.token_ids or whole:
            prompt_tokens = make_trace(self.vocabulary, self.prompt, with_text=whole)
        self.sink(
            Completion(
                message,
                reason,
                usage=Usage(
                    prompt_tokens=len(self.prompt),
                    completion_tokens=self.generated,
                    reasoning_tokens=None if self.parser is None else self._reasoning_tokens,
                    cached_tokens=self.cached,
                ),
                served_by=self.served_by,
                stop_match=match,
                id=f"hf-{secrets.token_hex(8)}",
                timings=Timings(
                    self._started - self._arrived, self._first - self._arrived, now - self._arrived
                ),
                prompt_tokens=prompt_tokens,
                completion_tokens=(
                    None if returns == DEFAULT_RETURNS else self._trace(with_text=whole)
                ),
                enforcement=None if self.sampler.matcher is None else Enforcement.DECODING,
            )
        )
        return True

    def _trace(self, begin: int = 0, *, with_text: bool = False) -> TokenTrace:
        return make_trace(
            self.vocabulary,
            self.tokens[begin:],
            self._scored[begin:],
            kind=self.sampler.kind,
            with_text=with_text,
        )


@dataclass(eq=False, slots=True)
class ScoringJob:
    """Continuations to score. `sink` receives a Scored, or an error.

    top: the number of alternatives at each position. with_prompt: score the prompt's tokens, too.
    tenant: whose job it is.
    """

    prompt: list[int]
    continuations: list[list[int]]
    sink: ScoringSink
    top: int = 0
    with_prompt: bool = False
    cancelled: bool = False
    tenant: str = ""

    @property
    def width(self) -> int:
        """The most cache columns that it can need."""
        return len(self.prompt) + max(map(len, self.continuations), default=0)

    def cancel(self) -> None:
        """Stop after the current pass."""
        self.cancelled = True

    def fail(self, error: BaseException) -> None:
        """End the job with an error."""
        self.sink(error)
