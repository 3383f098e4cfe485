"""What an agent asks a model, and what comes back: plain data, so that it can be kept."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class ModelCall:
    """One call of the client.

    messages: (role, content) each. sampling: keyword arguments of `Client.generate`
    (temperature, max_tokens, seed, ...), as JSON knows them. Of choices (generate one of
    them) and continuations (score each), at most one is given.
    """

    model: str
    messages: tuple[tuple[str, str], ...]
    sampling: dict[str, Any] = field(default_factory=dict)
    choices: tuple[str, ...] | None = None
    continuations: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class ModelReply:
    """What the model answered.

    text: empty where continuations were scored; then logprobs has one natural
    logarithm for each, in their order. Empty also where no reply kept to the choices.
    model: the one that really answered. latency_ms: as the client saw it, waiting and
    retries included. cost_usd: None where nobody knows it.
    """

    text: str
    model: str
    latency_ms: float
    reasoning: str = ""
    finish_reason: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    cost_usd: float | None = None
    logprobs: tuple[float, ...] | None = None


#: How an agent reaches a model. Raises arena_llm.ArenaError.
Ask = Callable[[ModelCall], Awaitable[ModelReply]]
