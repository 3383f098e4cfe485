"""From what the engine says to completions and deltas."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from llguidance import LLMatcher, LLTokenizer

from arena_llm.types import (
    Choices,
    Completion,
    Constraint,
    Delta,
    FinishReason,
    GenerationRequest,
    JsonSchema,
    Regex,
    Timings,
    TokenLogprob,
    TopLogprob,
    Usage,
)
from services.common.errors import InvalidRequest, UpstreamUnavailable
from services.common.local.constraints import constraint_field
from services.vllm.reasoning import ReasoningSplitter

_REASONS = {"stop": FinishReason.STOP, "length": FinishReason.LENGTH}
_BYTES = LLTokenizer("byte")


class Reply:
    """One request's outputs, put together as they come.

    last_tokens: those that may end the text and belong to it; an end token does not, and
    has no place among the log-probabilities. tokens: the text's, so far.
    """

    def __init__(
        self,
        request: GenerationRequest,
        arrived: float,
        splitter: ReasoningSplitter | None,
        last_tokens: Collection[int],
    ) -> None:
        self._request = request
        self._arrived = arrived
        self._splitter = splitter
        self._last_tokens = frozenset(last_tokens)  # vLLM adds end tokens to its own list
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self.tokens: list[int] = []
        self._generated = 0
        self._reasoning_tokens = 0
        self._logprobs: list[TokenLogprob] = []

    def add(self, output: Any) -> Delta:
        """Take one RequestOutput, which holds what is new since the one before."""
        new = output.outputs[0]
        self._generated += len(new.token_ids)
        tokens = new.token_ids[:-1] if self._has_end_token(new) else new.token_ids
        self.tokens.extend(tokens)
        if new.logprobs:
            self.tell(tokens, new.logprobs[: len(tokens)])
        delta = Delta(text=new.text)
        if self._splitter is not None:
            delta = self._splitter.split(output)
            if not any(self._text) and not delta.text:  # the answer has not begun
                self._reasoning_tokens = self._generated
        self._text.append(delta.text)
        self._reasoning.append(delta.reasoning)
        return delta

    def _has_end_token(self, new: Any) -> bool:
        by_string = isinstance(new.stop_reason, str)
        ended = new.finish_reason == "stop" and not by_string
        return ended and new.stop_reason not in self._last_tokens

    def tell(self, tokens: Sequence[int], logprobs: Sequence[Mapping[int, Any]]) -> None:
        """Take vLLM's log-probabilities of the next tokens of the completion."""
        most = self._request.sampling.logprobs or 0
        self._logprobs.extend(_told(tokens, logprobs, most))

    def completion(self, output: Any) -> Completion:
        """The whole of it, after the last output. Raises InvalidRequest."""
        text = "".join(self._text)
        reasoning = "".join(self._reasoning)
        new = output.outputs[0]
        told = new.finish_reason
        by_string = isinstance(new.stop_reason, str)
        if told == "stop" and not by_string and not is_whole(self._request.constraint, text):
            told = "error"
        return Completion(
            text=text,
            finish_reason=self._finish_reason(told, text),
            usage=Usage(
                prompt_tokens=len(output.prompt_token_ids),
                completion_tokens=self._generated,
                reasoning_tokens=self._reasoning_tokens if reasoning else 0,
                cached_tokens=output.num_cached_tokens or 0,
            ),
            model=self._request.model,
            reasoning=reasoning,
            id=output.request_id,
            timings=self._timings(output.metrics),
            logprobs=tuple(self._logprobs),
        )

    def _finish_reason(self, told: str, text: str) -> FinishReason:
        constraint = self._request.constraint
        if told == "error":
            field = constraint_field(constraint)
            raise InvalidRequest(
                f"{field} cannot be used: it is too complex, or this model's vocabulary cannot "
                "write what must follow",
                field=field,
            )
        if told == "abort":
            raise UpstreamUnavailable("the engine has given the request up; try again")
        if isinstance(constraint, Choices):
            if text not in constraint.values:  # it has only reasoned
                raise InvalidRequest(
                    "config.max_tokens ended the reasoning, or the model did, before a choice",
                    field="config.max_tokens",
                )
            return FinishReason.STOP  # also where its last byte was the last token's
        return _REASONS.get(told, FinishReason.UNKNOWN)

    def _timings(self, metrics: Any) -> Timings:
        total = time.perf_counter() - self._arrived
        if metrics is None:
            return Timings(0.0, total, total)
        queue = max(0.0, metrics.scheduled_ts - metrics.queued_ts)
        return Timings(queue, min(total, metrics.first_token_latency), total)


def is_whole(constraint: Constraint | None, text: str) -> bool:
    """Whether a text may end so: where nothing can follow, llguidance lets a model end."""
    match constraint:
        case JsonSchema():
            try:
                json.loads(text)
            except ValueError:
                return False
        case Regex(pattern):
            grammar = LLMatcher.grammar_from_regex(pattern)
            matcher = LLMatcher(_BYTES, grammar, log_level=0)
            return bool(matcher.consume_tokens([*text.encode()]) and matcher.is_accepting())
    return True


def _told(
    tokens: Sequence[int], logprobs: Sequence[Mapping[int, Any]], most: int
) -> list[TokenLogprob]:
    found = []
    for token, known in zip(tokens, logprobs, strict=True):
        # Without the tokens that the model itself excludes, by -inf.
        shown = (e for e in known.values() if e.rank <= most and e.logprob > -math.inf)
        likeliest = sorted(shown, key=lambda e: e.rank)
        top = tuple(TopLogprob(_shown(entry), entry.logprob) for entry in likeliest)
        found.append(TokenLogprob(_shown(known[token]), known[token].logprob, top))
    return found


def _shown(entry: Any) -> str:
    return entry.decoded_token or "\ufffd"  # a part of a character
