"""Turns vLLM's outputs into deltas and completions."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from llguidance import LLMatcher, LLTokenizer

from arena_llm.types import (
    DEFAULT_RETURNS,
    AnyJsonObject,
    CallReport,
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
from services.common.errors import ConstraintNotMet, InvalidRequest, UpstreamUnavailable
from services.common.local.features import forces_tools
from services.common.local.grammars import constraint_field, make_unusable_error, read_grammar
from services.common.local.parts import MessageBuilder
from services.common.local.request import PromptReader
from services.common.local.trace import ScoredToken, make_trace
from services.common.local.vocabulary import Vocabulary
from services.vllm.text import TokenDecoder

if TYPE_CHECKING:  # it imports vLLM
    from services.vllm.request import PreparedGeneration

_REASONS = {"stop": FinishReason.STOP, "length": FinishReason.LENGTH}
_BYTES = LLTokenizer("byte")
#: vLLM takes the likeliest token at a lower temperature.
_GREEDY_BELOW = 1e-5


class VllmCompletionBuilder:
    """Builds one request's completion from vLLM's outputs.

    arrived: time.perf_counter() when the request came. vocabulary: None if the bytes of the tokens
    are not known. waited: seconds before the engine got the request. tokens: those generated so
    far. reasoning_tokens: how many of them are reasoning; they come first.
    """

    def __init__(
        self,
        request: GenerationRequest,
        prepared: PreparedGeneration,
        arrived: float,
        reader: PromptReader,
        vocabulary: Vocabulary | None,
        waited: float = 0.0,
    ) -> None:
        self._reader = reader
        self._request = request
        self._prompt = prepared.prompt
        self._choice_ends = prepared.choice_ends
        self._arrived = arrived
        self._waited = waited
        self._parser = prepared.parser
        self._end = prepared.make_end(vocabulary)
        self._vocabulary = vocabulary
        self._decoder: TokenDecoder | None = None
        if vocabulary is not None:
            shows_special = self._parser is not None and not self._parser.skip_special_tokens
            self._decoder = TokenDecoder(vocabulary, shows_special=shows_special)
        self._message = MessageBuilder()
        self.tokens: list[int] = []
        self.reasoning_tokens = 0
        #: How many of the tokens the deltas have.
        self._sent = 0
        self._scored: list[ScoredToken] = []

    @property
    def stopped(self) -> bool:
        """True once the answer has ended, which the engine does not know."""
        return self._end.match is not None

    def append(self, output: Any) -> list[Delta]:
        """Add a RequestOutput, which holds what is new since the previous one."""
        new = output.outputs[0]
        deltas: list[Delta] = []
        pieces = [*self._read(new, output.finished)]
        for number, (tokens, text) in enumerate(pieces):
            begin = len(self.tokens)
            self.tokens.extend(tokens)
            final = output.finished and number == len(pieces) - 1
            deltas += self._add(tokens, text, final=final)
            if new.logprobs and self.reasoning_tokens <= begin:
                place = sum(len(earlier) for earlier, _ in pieces[:number])
                self.add_logprobs(tokens, new.logprobs[place : place + len(tokens)])
            if self.stopped:
                break
        for delta in deltas:
            self._message.add(delta)
        return [*self._add_tokens(deltas)]

    def _read(self, new: Any, finished: bool) -> Iterator[tuple[list[int], str]]:
        """Yield the new tokens with their text: one by one, if their bytes are known."""
        if self._decoder is None:
            yield [*new.token_ids], new.text
            return
        last = len(new.token_ids) - 1 if finished else -1
        for place, token in enumerate(new.token_ids):
            # vLLM says "stop" at a token that ends the completion and is no part of its text.
            ends = place == last and new.finish_reason == "stop"
            text = "" if ends and token not in self._choice_ends else self._decoder.push(token)
            yield [token], text + (self._decoder.finish() if place == last else "")
        if finished and last < 0:
            yield [], self._decoder.finish()

    def _add(self, tokens: list[int], text: str, *, final: bool) -> Iterator[Delta]:
        """Yield what new tokens add to the reply. Counts the reasoning."""
        parser, count = self._parser, len(self.tokens)
        if not self.in_reasoning and tokens and self._end.is_stop(tokens[-1], count):
            yield from self._end.finish()
            return
        deltas = [Delta(text=text)] if text else []
        if parser is not None:
            reasoned = parser.in_reasoning
            deltas = parser.push(tokens, text, final=final)
            if reasoned and not any(delta.reasoning is None for delta in deltas):
                self.reasoning_tokens = count
        yield from self._end.cut(deltas, count)
        if final and not self.stopped:
            yield from self._end.finish()

    @property
    def in_reasoning(self) -> bool:
        """True until the answer begins."""
        return self._parser is not None and self._parser.in_reasoning

    def _add_tokens(self, deltas: Sequence[Delta]) -> Iterator[Delta]:
        """Yield the deltas, the first one with the tokens since the last delta."""
        for delta in deltas:
            if self._request.returns == DEFAULT_RETURNS:
                yield delta
                continue
            yield replace(delta, tokens=self._trace(self._sent))
            self._sent = len(self.tokens)

    def add_logprobs(self, tokens: Sequence[int], logprobs: Sequence[Mapping[int, Any]]) -> None:
        """Add vLLM's log-probabilities of the next tokens of the answer."""
        returns = self._request.returns
        certain = (
            returns.logprob_kind is LogprobKind.SAMPLED
            and self._request.sampling.temperature is not None
            and self._request.sampling.temperature < _GREEDY_BELOW
        )
        self._scored.extend(
            score_token(
                token,
                entries,
                returns.top_logprobs or 0,
                returns.logprob_token_ids,
                certain=certain,
            )
            for token, entries in zip(tokens, logprobs, strict=True)
        )

    def finish(self, output: Any) -> Completion:
        """The whole completion, after the last output.

        Raises InvalidRequest, and ConstraintNotMet if the model ends before its answer.
        """
        message = self._message.build()
        new, returns = output.outputs[0], self._request.returns
        match = self._end.match or self._stop_match(new.stop_reason)
        reason = "stop" if self.stopped else new.finish_reason
        usage = Usage(
            prompt_tokens=len(output.prompt_token_ids),
            completion_tokens=len(self.tokens),
            # None if nothing separates them from the others.
            reasoning_tokens=None if self._parser is None else self.reasoning_tokens,
            cached_tokens=output.num_cached_tokens or 0,
        )
        if self.in_reasoning:
            self._check_answer(reason, usage)
        complete = match is not None or is_complete(self._request.constraint, message.text)
        if reason == "stop" and not complete:
            reason = "error"
        prompt_tokens = None
        if returns.token_ids or returns.raw_text:
            prompt_tokens = make_trace(self._vocabulary, self._prompt, with_text=returns.raw_text)
        return Completion(
            message,
            self._finish_reason(reason, message.text, calls=bool(message.tool_calls)),
            usage=usage,
            stop_match=match,
            id=output.request_id,
            timings=make_timings(output.metrics, self._waited, time.perf_counter() - self._arrived),
            prompt_tokens=prompt_tokens,
            completion_tokens=(
                None if returns == DEFAULT_RETURNS else self._trace(with_text=returns.raw_text)
            ),
            enforcement=None if self._request.constraint is None else Enforcement.DECODING,
        )

    def _check_answer(self, reason: str, usage: Usage) -> None:
        """Raise the error of a reply that is all reasoning, if the request forces an answer."""
        constrained = self._request.constraint is not None
        if not constrained and not forces_tools(self._request):
            return
        field = constraint_field(self._request.constraint) if constrained else "tool_choice"
        report = CallReport(usage=usage)
        if reason == "length":
            limit = self._request.sampling.max_tokens
            name = "config.max_tokens" if limit else "the context or the default of max_tokens"
            raise InvalidRequest(
                f"{name} ended the reasoning after {usage.completion_tokens} tokens, before the "
                f"answer that {field} constrains: raise config.max_tokens, or limit the reasoning "
                "with reasoning.budget_tokens",
                field="config.max_tokens",
                report=report,
            )
        if reason == "stop":
            raise ConstraintNotMet(
                f"the model ended inside its reasoning, before the answer that {field} constrains: "
                "try again, or limit the reasoning with reasoning.budget_tokens",
                field=field,
                report=report,
            )

    def _stop_match(self, reason: str | int | None) -> StopMatch | None:
        """The stop token of the request that has ended the text."""
        if isinstance(reason, int) and reason in self._request.sampling.stop_token_ids:
            return StopMatch(token_id=reason)
        return None

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
            if text not in constraint.values and reason == "length":
                raise InvalidRequest(
                    "config.max_tokens was reached before the answer was one of the choices: "
                    "raise it",
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


def make_timings(metrics: Any, waited: float, total: float) -> Timings:
    """Return the times of a call from what its engine measured (vLLM's RequestStateStats).

    metrics: None if the engine measured nothing. waited: seconds before the engine got the call.
    total: seconds of the whole call.
    """
    if metrics is None:
        return Timings(0.0, total, total)
    queue = max(0.0, metrics.scheduled_ts - metrics.queued_ts)
    first = waited + metrics.first_token_latency
    return Timings(waited + queue, min(total, first), total)


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
    token: int,
    entries: Mapping[int, Any],
    top: int,
    others: Sequence[int] = (),
    *,
    certain: bool = False,
) -> ScoredToken:
    """A token with the likeliest alternatives at its position, then the `others`.

    entries: vLLM's log-probabilities at the position. certain: the distribution has only this
    token, which vLLM does not show for greedy sampling.
    """
    logprobs = {id: entry.logprob for id, entry in entries.items()}
    ranked = sorted(logprobs, key=lambda id: -logprobs[id])[:top]
    if certain:
        logprobs = {id: 0.0 if id == token else -math.inf for id in logprobs}
    return ScoredToken(logprobs[token], tuple((id, logprobs[id]) for id in (*ranked, *others)))
