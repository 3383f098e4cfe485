"""Turns vLLM's outputs into deltas and completions, and separates the parts of a reply."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
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
    Tool,
    ToolCallDelta,
    Usage,
)
from services.common.errors import InvalidRequest, ModelMisconfigured, UpstreamUnavailable
from services.common.local.features import calls_tools, forces_tools, hides_reasoning
from services.common.local.grammars import constraint_field, make_unusable_error, read_grammar
from services.common.local.parts import MessageBuilder
from services.common.local.request import PromptReader
from services.common.local.template import describe_tool
from services.common.local.trace import ScoredToken, make_trace
from services.common.local.vocabulary import Vocabulary
from services.vllm.config import VllmModel

_REASONS = {"stop": FinishReason.STOP, "length": FinishReason.LENGTH}
_BYTES = LLTokenizer("byte")


class VllmReplyParser:
    """Separates one completion's reasoning, text and tool calls, with vLLM's parser.

    hides: leave the reasoning out. reasoned: True once there was some.
    """

    def __init__(self, parser: Any, request: Any, *, hides: bool) -> None:
        self.reasoned = False
        self._parser = parser
        self._request = request
        self._hides = hides
        self.skip_special_tokens: bool = request.skip_special_tokens

    def split(self, output: Any) -> tuple[list[Delta], bool]:
        """What a RequestOutput adds, one kind each, and whether all of it is reasoning."""
        new = output.outputs[0]
        message = self._parser.parse_delta(
            delta_text=new.text,
            delta_token_ids=list(new.token_ids),
            request=self._request,
            prompt_token_ids=output.prompt_token_ids,
            finished=output.finished,
        )
        if message is None:
            return [], True
        calls = [
            Delta(
                tool_call=ToolCallDelta(
                    call.id or "", call.function.name or "", call.function.arguments or ""
                )
            )
            for call in message.tool_calls or ()
            if call.function is not None
        ]
        self.reasoned = self.reasoned or bool(message.reasoning)
        deltas = [Delta(text=message.content)] if message.content else []
        if message.reasoning and not self._hides:
            deltas.insert(0, Delta(reasoning=message.reasoning))
        return [*deltas, *calls], not message.content and not calls


class VllmReplyParsers:
    """Makes the parsers of a model's replies.

    Raises ModelMisconfigured for a parser that vLLM does not have, or that needs tokens which the
    tokenizer does not have.
    """

    def __init__(self, entry: VllmModel, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._reasoning = self._find(entry, tokenizer, tools=False)
        self._tools = self._find(entry, tokenizer, tools=True) if entry.tool_parser else None
        self.reasons = entry.reasoning_parser is not None
        #: True if the parser reads the JSON that a forced call is written in.
        self.forces_tools = self._tools is not None and bool(
            self._adjust(self._tools, ())[0].tool_parser.supports_required_and_named
        )

    def _find(self, entry: VllmModel, tokenizer: Any, *, tools: bool) -> Any:
        """vLLM's class of the parser; None for a model without one."""
        from vllm.parser.parser_manager import ParserManager

        try:
            parser = ParserManager.get_parser(
                tool_parser_name=entry.tool_parser if tools else None,
                reasoning_parser_name=entry.reasoning_parser,
                enable_auto_tools=tools,
                tokenizer=tokenizer,
            )
            if parser is not None:
                self._adjust(parser, ())
        except Exception as error:  # each parser refuses a tokenizer in its own way
            key = "tool_parser" if tools else "reasoning_parser"
            raise ModelMisconfigured(
                f"{entry.name}: {key} {getattr(entry, key)!r} cannot be used: {error}"
            ) from error
        return parser

    def _adjust(
        self, parser: Any, tools: Sequence[Tool], *, forced: bool = False
    ) -> tuple[Any, Any]:
        """A parser, and the OpenAI request whose flags it reads. Its messages are not used."""
        from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest

        described = [describe_tool(tool) for tool in tools] or None
        choice = ("required" if forced else "auto") if tools else None
        request = ChatCompletionRequest(messages=[], tools=described, tool_choice=choice)
        made = parser(self._tokenizer, request.tools) if tools else parser(self._tokenizer)
        return made, made.adjust_request(request)

    def make(self, request: GenerationRequest) -> VllmReplyParser | None:
        """A parser for one request; None if its reply can have only text."""
        tools = request.tools if calls_tools(request) else ()
        parser = self._tools if tools else self._reasoning
        if parser is None:
            return None
        adjusted = self._adjust(parser, tools, forced=forces_tools(request))
        return VllmReplyParser(*adjusted, hides=hides_reasoning(request))

    @staticmethod
    def make_schema(request: GenerationRequest) -> str | None:
        """The JSON schema of the calls that the request forces; None if it forces none."""
        from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
        from vllm.tool_parsers.utils import get_json_schema_from_tools

        if not forces_tools(request):
            return None
        names = request.tool_choice.names if request.tool_choice else ()
        allowed = [tool for tool in request.tools if not names or tool.name in names]
        described = [describe_tool(tool) for tool in allowed]
        tools = ChatCompletionRequest(messages=[], tools=described).tools
        return json.dumps(get_json_schema_from_tools("required", tools))


class VllmCompletionBuilder:
    """Builds one request's completion from vLLM's outputs.

    last_tokens: tokens that may end the text and belong to it. prompt: the prompt's tokens.
    tokens: those generated so far.
    """

    def __init__(
        self,
        request: GenerationRequest,
        prompt: list[int],
        arrived: float,
        parser: VllmReplyParser | None,
        last_tokens: Collection[int],
        reader: PromptReader,
        vocabulary: Vocabulary | None,
    ) -> None:
        self._reader = reader
        self._request = request
        self._prompt = prompt
        self._arrived = arrived
        self._parser = parser
        self._last_tokens = frozenset(last_tokens)  # a copy: vLLM adds end tokens to its list
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
