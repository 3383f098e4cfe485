"""Turns vLLM's outputs into deltas and completions."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from llguidance import LLMatcher, LLTokenizer

from arena_llm.types import (
    DEFAULT_RETURNS,
    AnyJsonObject,
    Choices,
    Completion,
    Constraint,
    Delta,
    Enforcement,
    FinishReason,
    GenerationRequest,
    Grammar,
    JsonSchema,
    LogprobKind,
    Regex,
    StopMatch,
    Timings,
    TokenTrace,
    Usage,
)
from services.common.errors import InvalidRequest, UpstreamUnavailable
from services.common.local.grammars import constraint_field, make_unusable_error, read_grammar
from services.common.local.parts import MessageBuilder
from services.common.local.request import PromptReader
from services.common.local.trace import ScoredToken, make_trace
from services.common.local.vocabulary import Vocabulary
from services.vllm.parsing import VllmReplyParser

_REASONS = {"stop": FinishReason.STOP, "length": FinishReason.LENGTH}
_BYTES = LLTokenizer("byte")


class VllmCompletionBuilder:
    """Builds one request's completion from vLLM's outputs.

    prompt: the prompt's tokens. vocabulary: None if the bytes of the tokens are not known.
    tokens: those generated so far.
    """

    def __init__(
        self,
        request: GenerationRequest,
        prompt: list[int],
        arrived: float,
        parser: VllmReplyParser | None,
        reader: PromptReader,
        vocabulary: Vocabulary | None,
    ) -> None:
        self._reader = reader
        self._request = request
        self._prompt = prompt
        self._arrived = arrived
        self._parser = parser
        self._vocabulary = vocabulary
        self._message = MessageBuilder()
        self.tokens: list[int] = []
        #: How many of the tokens the deltas have.
        self._sent = 0
        self._reasoning_tokens = 0
        self._scored: list[ScoredToken] = []

    def append(self, output: Any) -> list[Delta]:
        """Add a RequestOutput, which holds what is new since the previous one."""
        new = output.outputs[0]
        self.tokens.extend(new.token_ids)
        if new.logprobs:
            self.add_logprobs(new.token_ids, new.logprobs)
        deltas = [Delta(text=new.text)] if new.text else []
        if self._parser is not None:
            deltas, all_reasoning = self._parser.split(output)
            if all_reasoning and not self._message.has_text:
                self._reasoning_tokens = len(self.tokens)
        for delta in deltas:
            self._message.add(delta)
        return [*self._add_tokens(deltas)]

    def _add_tokens(self, deltas: Sequence[Delta]) -> Iterator[Delta]:
        """Yield the deltas, the first one with the tokens since the last delta."""
        for delta in deltas:
            if self._request.returns == DEFAULT_RETURNS:
                yield delta
                continue
            yield replace(delta, tokens=self._trace(self._sent))
            self._sent = len(self.tokens)

    def add_logprobs(self, tokens: Sequence[int], logprobs: Sequence[Mapping[int, Any]]) -> None:
        """Add vLLM's log-probabilities of the next tokens of the completion."""
        returns = self._request.returns
        self._scored.extend(
            score_token(token, entries, returns.top_logprobs or 0, returns.logprob_token_ids)
            for token, entries in zip(tokens, logprobs, strict=True)
        )

    def finish(self, output: Any) -> Completion:
        """The whole completion, after the last output. Raises InvalidRequest."""
        message = self._message.build()
        new, returns = output.outputs[0], self._request.returns
        reason, match = new.finish_reason, self._stop_match(new.stop_reason)
        complete = match is not None or is_complete(self._request.constraint, message.text)
        if reason == "stop" and not complete:
            reason = "error"
        prompt_tokens = None
        if returns.token_ids or returns.raw_text:
            prompt_tokens = make_trace(self._vocabulary, self._prompt, with_text=returns.raw_text)
        return Completion(
            message,
            self._finish_reason(reason, message.text, calls=bool(message.tool_calls)),
            usage=Usage(
                prompt_tokens=len(output.prompt_token_ids),
                completion_tokens=len(self.tokens),
                reasoning_tokens=self._count_reasoning(),
                cached_tokens=output.num_cached_tokens or 0,
            ),
            stop_match=match,
            id=output.request_id,
            timings=self._timings(output.metrics),
            prompt_tokens=prompt_tokens,
            completion_tokens=(
                None if returns == DEFAULT_RETURNS else self._trace(with_text=returns.raw_text)
            ),
            enforcement=None if self._request.constraint is None else Enforcement.DECODING,
        )

    def _count_reasoning(self) -> int | None:
        """The number of reasoning tokens; None if nothing separates them from the others."""
        if self._parser is None:
            return None
        return self._reasoning_tokens if self._parser.reasoned else 0

    def _stop_match(self, reason: str | int | None) -> StopMatch | None:
        """The stop string or stop token of the request that has ended the text."""
        if isinstance(reason, str):
            return StopMatch(text=reason)
        asked = reason is not None and reason in self._request.sampling.stop_token_ids
        return StopMatch(token_id=reason) if asked else None

    def _trace(self, begin: int = 0, *, with_text: bool = False) -> TokenTrace:
        return make_trace(
            self._vocabulary,
            self.tokens[begin:],
            self._scored[begin:],
            kind=self._request.returns.logprob_kind or LogprobKind.RAW,
            with_text=with_text,
        )

    def _finish_reason(self, reason: str, text: str, *, calls: bool) -> FinishReason:
        constraint = self._request.constraint
        if reason == "error":
            field = constraint_field(constraint)
            raise make_unusable_error(
                field,
                "it is too complex, or this model's vocabulary cannot write the required text",
            )
        if reason == "abort":
            raise UpstreamUnavailable("the engine aborted the request; try again")
        if isinstance(constraint, Choices):
            if text not in constraint.values:  # the completion is all reasoning
                raise InvalidRequest(
                    "the completion ended before a choice, because config.max_tokens or the model "
                    "ended the reasoning: raise config.max_tokens",
                    field="config.max_tokens",
                )
            return FinishReason.STOP  # the choice is whole, even if vLLM reports length
        if reason == "stop" and calls:
            return FinishReason.TOOL_CALLS
        if reason == "length" and self._reader.fills_context(
            self._request, len(self._prompt), len(self.tokens)
        ):
            return FinishReason.CONTEXT
        return _REASONS.get(reason, FinishReason.UNKNOWN)

    def _timings(self, metrics: Any) -> Timings:
        total = time.perf_counter() - self._arrived
        if metrics is None:
            return Timings(0.0, total, total)
        queue = max(0.0, metrics.scheduled_ts - metrics.queued_ts)
        return Timings(queue, min(total, metrics.first_token_latency), total)


def is_complete(constraint: Constraint | None, text: str) -> bool:
    """True if the constraint allows the text to end here.

    llguidance also lets a model end where no token can follow.
    """
    match constraint:
        case JsonSchema():
            try:
                json.loads(text)
            except ValueError:
                return False
        case AnyJsonObject():
            try:
                return isinstance(json.loads(text), dict)
            except ValueError:
                return False
        case Regex(pattern):
            return _accepts(LLMatcher.grammar_from_regex(pattern), text)
        case Grammar():
            return _accepts(LLMatcher.grammar_from_lark(read_grammar(constraint)), text)
    return True


def _accepts(grammar: str, text: str) -> bool:
    """True if the text is one of the grammar's."""
    matcher = LLMatcher(_BYTES, grammar, log_level=0)
    return bool(matcher.consume_tokens([*text.encode()]) and matcher.is_accepting())


def score_token(
    token: int, entries: Mapping[int, Any], top: int, others: Sequence[int] = ()
) -> ScoredToken:
    """A token with the likeliest alternatives at its position, then the `others`.

    entries: vLLM's log-probabilities at the position.
    """
    pairs: list[tuple[int, float]] = []
    if top:
        ranked = sorted(entries.items(), key=lambda entry: -entry[1].logprob)
        pairs += ((id, entry.logprob) for id, entry in ranked[:top])
    pairs += ((id, entries[id].logprob) for id in others)
    return ScoredToken(entries[token].logprob, tuple(pairs))
