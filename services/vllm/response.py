"""Turns vLLM's outputs into deltas and completions, and separates reasoning from the answer."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
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
from services.common.errors import InvalidRequest, ModelMisconfigured, UpstreamUnavailable
from services.common.local.checks import constraint_field

_REASONS = {"stop": FinishReason.STOP, "length": FinishReason.LENGTH}
_BYTES = LLTokenizer("byte")


class ReasoningSplitter:
    """Separates one completion's reasoning from its answer, with vLLM's parser for the model."""

    def __init__(self, parser: Any, request: Any) -> None:
        self._parser = parser
        self._request = request
        self.skip_special_tokens: bool = request.skip_special_tokens

    def split(self, output: Any) -> Delta:
        """What a RequestOutput adds to the reasoning and to the answer."""
        new = output.outputs[0]
        message = self._parser.parse_delta(
            delta_text=new.text,
            delta_token_ids=list(new.token_ids),
            request=self._request,
            prompt_token_ids=output.prompt_token_ids,
            finished=output.finished,
        )
        if message is None:
            return Delta()
        return Delta(text=message.content or "", reasoning=message.reasoning or "")


def make_splitter_factory(
    name: str, parser_name: str | None, tokenizer: Any
) -> Callable[[], ReasoningSplitter] | None:
    """A function that makes a splitter for each request; None for a model without reasoning.

    Raises ModelMisconfigured for a parser that vLLM does not have, or that needs tokens which
    the tokenizer does not have.
    """
    if parser_name is None:
        return None
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
    from vllm.parser.parser_manager import ParserManager

    try:
        parser = ParserManager.get_parser(reasoning_parser_name=parser_name, tokenizer=tokenizer)
        # The parsers read flags of an OpenAI request. Its messages are not used.
        request = parser(tokenizer).adjust_request(ChatCompletionRequest(messages=[]))
    except Exception as error:  # each parser refuses a tokenizer in its own way
        raise ModelMisconfigured(
            f"{name}: reasoning_parser {parser_name!r} cannot be used: {error}"
        ) from error
    return lambda: ReasoningSplitter(parser(tokenizer), request)


class VllmCompletionBuilder:
    """Builds one request's completion from vLLM's outputs.

    last_tokens: tokens that may end the text and belong to it. An end token does not belong to
    the text and has no log-probability. tokens: the text's tokens so far.
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
        self._last_tokens = frozenset(last_tokens)  # a copy: vLLM adds end tokens to its list
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self.tokens: list[int] = []
        self._generated = 0
        self._reasoning_tokens = 0
        self._logprobs: list[TokenLogprob] = []

    def append(self, output: Any) -> Delta:
        """Add a RequestOutput, which holds what is new since the previous one."""
        new = output.outputs[0]
        self._generated += len(new.token_ids)
        tokens = new.token_ids[:-1] if self._has_end_token(new) else new.token_ids
        self.tokens.extend(tokens)
        if new.logprobs:
            self.add_logprobs(tokens, new.logprobs[: len(tokens)])
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

    def add_logprobs(self, tokens: Sequence[int], logprobs: Sequence[Mapping[int, Any]]) -> None:
        """Add vLLM's log-probabilities of the next tokens of the completion."""
        top = self._request.sampling.logprobs or 0
        self._logprobs.extend(_token_logprobs(tokens, logprobs, top))

    def finish(self, output: Any) -> Completion:
        """The whole completion, after the last output. Raises InvalidRequest."""
        text = "".join(self._text)
        reasoning = "".join(self._reasoning)
        new = output.outputs[0]
        reason = new.finish_reason
        by_string = isinstance(new.stop_reason, str)
        if reason == "stop" and not by_string and not is_complete(self._request.constraint, text):
            reason = "error"
        return Completion(
            text=text,
            finish_reason=self._finish_reason(reason, text),
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

    def _finish_reason(self, reason: str, text: str) -> FinishReason:
        constraint = self._request.constraint
        if reason == "error":
            field = constraint_field(constraint)
            raise InvalidRequest(
                f"{field} cannot be used: it is too complex, or this model's vocabulary cannot "
                "write the required text",
                field=field,
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
        case Regex(pattern):
            grammar = LLMatcher.grammar_from_regex(pattern)
            matcher = LLMatcher(_BYTES, grammar, log_level=0)
            return bool(matcher.consume_tokens([*text.encode()]) and matcher.is_accepting())
    return True


def _token_logprobs(
    tokens: Sequence[int], logprobs: Sequence[Mapping[int, Any]], top: int
) -> list[TokenLogprob]:
    result = []
    for token, entries in zip(tokens, logprobs, strict=True):
        # Without the tokens that the model excludes with -inf.
        likely = (e for e in entries.values() if e.rank <= top and e.logprob > -math.inf)
        ranked = sorted(likely, key=lambda e: e.rank)
        alternatives = tuple(TopLogprob(_token_text(e), e.logprob) for e in ranked)
        entry = entries[token]
        result.append(TokenLogprob(_token_text(entry), entry.logprob, alternatives))
    return result


def _token_text(entry: Any) -> str:
    return entry.decoded_token or "\ufffd"  # a part of a character
