"""Our tokens in OpenAI's two forms, the finish reasons, and the usage."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from arena_llm.types import Completion, FinishReason, Token, Usage

#: What OpenAI sends for a token of probability 0, because JSON has no -infinity.
_IMPOSSIBLE = -9999.0

FINISH_REASONS = {
    FinishReason.LENGTH: "length",
    FinishReason.CONTEXT: "length",
    FinishReason.TOOL_CALLS: "tool_calls",
    FinishReason.CONTENT_FILTER: "content_filter",
}


def to_finish_reason(reason: FinishReason) -> str:
    """Return OpenAI's word. A refusal is a message whose text is in `refusal`."""
    return FINISH_REASONS.get(reason, "stop")


def _finite(logprob: float | None) -> float:
    return logprob if logprob is not None and math.isfinite(logprob) else _IMPOSSIBLE


def to_chat_logprobs(tokens: Sequence[Token] | None) -> dict[str, Any] | None:
    """Return the tokens of a message; None if there are no log-probabilities."""
    if not tokens or tokens[0].logprob is None:
        return None
    content = [
        {**_to_token(token), "top_logprobs": [_to_token(other) for other in token.top]}
        for token in tokens
    ]
    return {"content": content, "refusal": None}


def _to_token(token: Token) -> dict[str, Any]:
    return {"token": token.text, "logprob": _finite(token.logprob), "bytes": list(token.bytes)}


def to_text_logprobs(
    traces: Iterable[Sequence[Token] | None], start: int = 0
) -> dict[str, Any] | None:
    """Return tokens in columns, those of a prompt and of its completion together.

    start: where the first token begins in the text. None if there are no log-probabilities.
    """
    tokens = [token for trace in traces if trace is not None for token in trace]
    if not any(token.logprob is not None for token in tokens):
        return None
    offsets = []
    for token in tokens:
        offsets.append(start)
        start += len(token.text)
    return {
        "tokens": [token.text for token in tokens],
        "token_logprobs": [
            None if token.logprob is None else _finite(token.logprob) for token in tokens
        ],
        "top_logprobs": [
            {other.text: _finite(other.logprob) for other in token.top} if token.top else None
            for token in tokens
        ],
        "text_offset": offsets,
    }


class SentTokens:
    """Counts the tokens that each choice of a stream has sent.

    The end token has no text, so no piece of the stream contains it. The last chunk does.
    """

    def __init__(self) -> None:
        self._sent: dict[int, int] = {}

    def add(self, index: int, tokens: Sequence[Token] | None) -> None:
        """Count the tokens of a piece."""
        self._sent[index] = self._sent.get(index, 0) + len(tokens or ())

    def rest(self, index: int, completion: Completion) -> Sequence[Token]:
        """Return the tokens of the completion that no piece had."""
        return (completion.completion_tokens or ())[self._sent.get(index, 0) :]


def to_usage(usages: Sequence[Usage], prompts: Sequence[Usage] | None = None) -> dict[str, Any]:
    """Return the usage of all answers together.

    prompts: the usages whose prompt counts, if several answers share one; default: all of them.
    The cost is always that of all answers.
    """
    asked = usages if prompts is None else prompts
    prompt = sum(usage.prompt_tokens or 0 for usage in asked)
    completion = sum(usage.completion_tokens or 0 for usage in usages)
    result: dict[str, Any] = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }
    cached = [usage.cached_tokens for usage in asked if usage.cached_tokens is not None]
    if cached:
        result["prompt_tokens_details"] = {"cached_tokens": sum(cached)}
    reasoned = [usage.reasoning_tokens for usage in usages if usage.reasoning_tokens is not None]
    if reasoned:
        result["completion_tokens_details"] = {"reasoning_tokens": sum(reasoned)}
    costs = [usage.cost_picousd for usage in usages if usage.cost_picousd is not None]
    if costs and len(costs) == len(usages):
        result["cost"] = sum(costs) / 1e12
    return result
