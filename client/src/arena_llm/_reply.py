"""What a call returns: a completion and its events, tokens, cost, and who answered.

`arena_llm.types` exports these names.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import ClassVar, overload

from arena_llm._content import Message, ToolCall
from arena_llm._options import LogprobKind

#: `bytes` is a field of two classes below, where it would hide the type.
Bytes = bytes


def to_usd(picousd: int | None) -> Decimal | None:
    """Return US dollars for 10^-12 US dollars, exactly; None for None."""
    if picousd is None:
        return None
    # Zero would be printed as 0E-12.
    return Decimal(picousd).scaleb(-12) if picousd else Decimal(0)


def to_picousd(usd: Decimal | float | str) -> int:
    """Return US dollars in 10^-12 US dollars, rounded to a whole number.

    A float is read as the decimal number that it is printed as: 0.1 is 100,000,000,000.
    Raises ValueError or ArithmeticError for what is not a finite number.
    """
    exact = Decimal(repr(usd)) if isinstance(usd, float) else Decimal(usd)
    return int(exact.scaleb(12).to_integral_value())


class FinishReason(StrEnum):
    """Why a completion ended.

    STOP: the model ended the text, a stop string or token was generated, or the constraint is
    complete. LENGTH: max_tokens was reached. CONTEXT: the context is full. INTERRUPTED: the call
    failed, and this is what was generated before.
    """

    UNKNOWN = "unknown"
    STOP = "stop"
    LENGTH = "length"
    CONTENT_FILTER = "content_filter"
    TOOL_CALLS = "tool_calls"
    REFUSAL = "refusal"
    CONTEXT = "context"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class StopMatch:
    """What stopped a completion: a stop string, or a stop token."""

    text: str | None = None
    token_id: int | None = None


class Enforcement(StrEnum):
    """How a constraint was enforced. Results of different kinds are not comparable.

    DECODING: tokens were masked here. PROVIDER: the provider's structured output. PROMPT: an
    instruction in the prompt and a check of the reply, possibly with a second attempt.
    """

    DECODING = "decoding"
    PROVIDER = "provider"
    PROMPT = "prompt"


class CostBasis(StrEnum):
    """Where a cost comes from: the provider's reply, a price list, or it is known to be free."""

    BILLED = "billed"
    PRICE_LIST = "price_list"
    FREE = "free"


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens and cost of one call, all attempts together. None: not reported. 0: none.

    reasoning_tokens are part of completion_tokens; cached_tokens, cache_write_tokens and
    image_tokens are part of prompt_tokens. cost_picousd: in 10^-12 US dollars.
    estimated: the service counted the tokens, because the provider did not.
    """

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    reasoning_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    image_tokens: int | None = None
    cost_picousd: int | None = None
    cost_basis: CostBasis | None = None
    estimated: bool = False

    @property
    def cost_usd(self) -> Decimal | None:
        """The cost in US dollars, exactly; None if it is not known."""
        return to_usd(self.cost_picousd)


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds since the call arrived at the service. None: not observed."""

    queue_seconds: float | None = None
    first_token_seconds: float | None = None
    total_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class ServedBy:
    """Who answered. A field is empty if it is not known.

    model: the prefixed name of the model that answered, which can differ from the request if a
    provider fell back. provider: the upstream provider behind a gateway. precision: of the
    weights, such as "bf16". model_revision: the commit or the dated name of the weights.
    engine: with its version. replica: the address of the service process.
    """

    backend: str = ""
    model: str = ""
    provider: str = ""
    region: str = ""
    precision: str = ""
    model_revision: str = ""
    system_fingerprint: str = ""
    engine: str = ""
    replica: str = ""
    service_version: str = ""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request to a provider.

    http_status: 0 means no answer. reason: why it failed, such as "RATE_LIMITED"; empty if it did
    not. cost_picousd: None if it is not known. max_cost_picousd: then an upper bound; None if that
    is not known either.
    """

    provider: str = ""
    upstream_id: str = ""
    http_status: int = 0
    reason: str = ""
    seconds: float = 0.0
    cost_picousd: int | None = None
    detail: str = ""
    max_cost_picousd: int | None = None

    @property
    def cost_usd(self) -> Decimal | None:
        """The cost in US dollars, exactly; None if it is not known."""
        return to_usd(self.cost_picousd)


@dataclass(frozen=True, slots=True)
class FailedModel:
    """A model that could not answer, so that another one was called.

    reason: such as "INSUFFICIENT_CREDITS". detail: the beginning of the error's message.
    """

    model: str = ""
    reason: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Token:
    """One token. None or empty: not known.

    bytes: may be a part of a character. logprob: the natural logarithm of its probability.
    top: the likeliest tokens at its position, likeliest first.
    """

    id: int | None = None
    bytes: Bytes = b""
    logprob: float | None = None
    top: tuple[Token, ...] = ()

    @property
    def text(self) -> str:
        """The token's text; U+FFFD stands for a part of a character."""
        return self.bytes.decode(errors="replace")


@dataclass(frozen=True, slots=True)
class TokenTrace(Sequence[Token]):
    """Tokens in columns: entry i of each column belongs to token i. A column may be empty.

    logprobs and the top columns begin at token number `unscored`; each token has `top_count`
    alternatives there, one token after the other. text_ends: where each token ends in raw_text, in
    code points. raw_text: the text of all tokens, special tokens included.

    As a sequence it yields Token objects.
    """

    ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    bytes: tuple[Bytes, ...] = ()
    text_ends: tuple[int, ...] = ()
    top_ids: tuple[int, ...] = ()
    top_logprobs: tuple[float, ...] = ()
    top_bytes: tuple[Bytes, ...] = ()
    top_count: int = 0
    kind: LogprobKind | None = None
    raw_text: str = ""
    unscored: int = 0

    def __len__(self) -> int:
        scored = len(self.logprobs) + self.unscored if self.logprobs else 0
        return max(len(self.ids), len(self.bytes), scored)

    @overload
    def __getitem__(self, index: int) -> Token: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Token, ...]: ...
    def __getitem__(self, index: int | slice) -> Token | tuple[Token, ...]:
        if isinstance(index, slice):
            return tuple(self._token(i) for i in range(*index.indices(len(self))))
        size = len(self)
        if not -size <= index < size:
            raise IndexError(f"there are {size} tokens")
        return self._token(index % size)

    def __iter__(self) -> Iterator[Token]:
        return map(self._token, range(len(self)))

    def _token(self, index: int) -> Token:
        scored = index - self.unscored
        first = scored * self.top_count
        top = range(first, first + self.top_count) if scored >= 0 and self.top_logprobs else ()
        return Token(
            self.ids[index] if self.ids else None,
            self.bytes[index] if self.bytes else b"",
            self.logprobs[scored] if scored >= 0 and self.logprobs else None,
            tuple(
                Token(
                    self.top_ids[i] if self.top_ids else None,
                    self.top_bytes[i] if self.top_bytes else b"",
                    self.top_logprobs[i],
                )
                for i in top
            ),
        )


@dataclass(frozen=True, slots=True)
class Completion:
    """A completion.

    message: append it to the next request unchanged. native_finish_reason: the provider's own
    word. id: the provider's, or the service's own. replayed: the result of an earlier call with
    the same request_id: nothing was paid for this call. attempts: the requests to a provider;
    none on a local backend. enforcement: None without a constraint. warnings: what the caller
    should know, such as a setting that the provider changed. failed_models: those that were called
    before the model that answered, in order; empty if the requested model answered. cached: the
    router's cache had the reply, so this call cost nothing.
    """

    message: Message
    finish_reason: FinishReason
    usage: Usage = Usage()
    served_by: ServedBy = ServedBy()
    stop_match: StopMatch | None = None
    native_finish_reason: str = ""
    id: str = ""
    request_id: str = ""
    replayed: bool = False
    timings: Timings = Timings()
    prompt_tokens: TokenTrace | None = None
    completion_tokens: TokenTrace | None = None
    attempts: tuple[Attempt, ...] = ()
    enforcement: Enforcement | None = None
    warnings: tuple[str, ...] = ()
    failed_models: tuple[FailedModel, ...] = ()
    cached: bool = False

    @property
    def text(self) -> str:
        """All text parts of the message, joined."""
        return self.message.text

    @property
    def reasoning(self) -> str:
        """All reasoning parts of the message, joined."""
        return self.message.reasoning

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The tools that the model wants called."""
        return self.message.tool_calls

    @property
    def model(self) -> str:
        """The prefixed name of the model that answered."""
        return self.served_by.model

    @property
    def backend(self) -> str:
        """The backend that answered, such as "hf"."""
        return self.served_by.backend


@dataclass(frozen=True, slots=True)
class StreamStart:
    """The first event of a stream: what is known about who answers."""

    kind: ClassVar[str] = "start"

    id: str = ""
    request_id: str = ""
    served_by: ServedBy = ServedBy()
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """The next piece of a tool call. Only the first piece has its id and name."""

    id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class Delta:
    """The next piece of one part of a streamed message. Exactly one kind of piece is set.

    It never splits a character. part: the index of the part in the completion's message.
    tokens: the tokens of the piece, if the request asks for tokens.
    """

    kind: ClassVar[str] = "delta"

    text: str | None = None
    reasoning: str | None = None
    tool_call: ToolCallDelta | None = None
    refusal: str | None = None
    part: int = 0
    tokens: TokenTrace | None = None


class ProgressState(StrEnum):
    """What a call waits for: its turn, the model's loading, the provider, or its tokens."""

    UNKNOWN = "unknown"
    QUEUED = "queued"
    LOADING = "loading"
    WAITING = "waiting"
    GENERATING = "generating"


@dataclass(frozen=True, slots=True)
class Progress:
    """A sign of life of a stream. queue_position: the number of calls ahead."""

    kind: ClassVar[str] = "progress"

    state: ProgressState = ProgressState.UNKNOWN
    queue_position: int | None = None
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class CallReport:
    """What a failed call tried and paid."""

    request_id: str = ""
    attempts: tuple[Attempt, ...] = ()
    usage: Usage = Usage()
    served_by: ServedBy = ServedBy()
