"""What an agent asks a model, and the model's reply: plain data that can be stored."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class ModelCall:
    """One call of the client.

    messages: pairs of (role, content). sampling: keyword arguments of `Client.generate`
    (temperature, max_tokens, seed, ...), as JSON can hold them. choices: the model must
    generate one of these texts. continuations: the model scores each of these texts. At
    most one of the two is set.
    """

    model: str
    messages: tuple[tuple[str, str], ...]
    sampling: dict[str, Any] = field(default_factory=dict)
    choices: tuple[str, ...] | None = None
    continuations: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class ModelReply:
    """What the model answered.

    text: empty if continuations were scored (then logprobs has one natural logarithm for
    each of them, in the same order), and if no reply of the model satisfied the choices.
    model: the model that answered. latency_ms: measured by the client, including waiting
    and retries. cost_usd: None if unknown.
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


#: How an agent calls a model. Raises arena_llm.ArenaError.
Ask = Callable[[ModelCall], Awaitable[ModelReply]]
