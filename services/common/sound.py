"""What must hold of every backend's reply before it is sent."""

from __future__ import annotations

from dataclasses import replace

import structlog

from arena_llm.types import Completion, Delta, TokenLogprob, TopLogprob, Usage
from services.common.text import utf8

log = structlog.get_logger()

_COUNTS = ("prompt_tokens", "completion_tokens", "reasoning_tokens", "cached_tokens")
_MOST_TOKENS = 2**31 - 1  # int32 on the wire


def sound_completion(completion: Completion) -> Completion:
    """The completion, with text that can be sent and without figures that cannot be true."""
    return replace(
        completion,
        text=utf8(completion.text),
        reasoning=utf8(completion.reasoning),
        model=utf8(completion.model),
        id=utf8(completion.id),
        logprobs=tuple(map(_sound_token, completion.logprobs)),
        usage=sound_usage(completion.usage),
    )


def sound_delta(delta: Delta) -> Delta:
    """The delta, with text that can be sent."""
    if delta.text.isascii() and delta.reasoning.isascii():
        return delta
    return Delta(utf8(delta.text), utf8(delta.reasoning))


def sound_usage(usage: Usage) -> Usage:
    """The usage; a figure that cannot be true is unknown, and the log names it."""
    odd = [name for name in _COUNTS if not 0 <= getattr(usage, name) <= _MOST_TOKENS]
    cost = usage.cost_usd
    if cost is not None and not 0 <= cost < float("inf"):  # NaN, too
        odd.append("cost_usd")
    if not odd:
        return usage
    log.warning("a backend's usage cannot be true", fields=", ".join(odd))
    unknown = Usage()
    return replace(usage, **{name: getattr(unknown, name) for name in odd})


def _sound_token(token: TokenLogprob) -> TokenLogprob:
    if token.token.isascii() and all(other.token.isascii() for other in token.top):
        return token
    top = tuple(TopLogprob(utf8(other.token), other.logprob) for other in token.top)
    return TokenLogprob(utf8(token.token), token.logprob, top)
