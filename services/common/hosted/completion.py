"""Builds and checks a completion from a provider's answer, whole or in chunks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from arena_llm.types import (
    CallReport,
    Completion,
    Delta,
    FinishReason,
    GenerationRequest,
    Message,
    ReasoningForm,
    ReasoningVisibility,
    ServedBy,
    StopMatch,
    ToolCall,
    Usage,
)
from services.common.errors import (
    BackendError,
    UnreadableAnswer,
    Unsupported,
    UpstreamUnavailable,
)
from services.common.hosted.parts import PartsBuilder
from services.common.hosted.report import make_report
from services.common.hosted.response import ProviderMessage
from services.common.hosted.thinking import ThoughtSplitter
from services.common.hosted.tokens import TokenRow, drop_rows, make_trace

#: The providers' finish reasons, in lower case. All others are UNKNOWN.
_FINISH_REASONS = {
    **dict.fromkeys(
        ("stop", "end_turn", "stop_sequence", "eos", "eos_token", "complete", "completed"),
        FinishReason.STOP,
    ),
    **dict.fromkeys(("length", "max_tokens", "max_length", "model_length"), FinishReason.LENGTH),
    **dict.fromkeys(
        (
            *("content_filter", "content_filtered", "safety", "recitation"),
            *("blocklist", "prohibited_content", "spii", "image_safety"),
        ),
        FinishReason.CONTENT_FILTER,
    ),
    **dict.fromkeys(("tool_calls", "tool_use", "function_call"), FinishReason.TOOL_CALLS),
    "refusal": FinishReason.REFUSAL,
    "model_context_window_exceeded": FinishReason.CONTEXT,
}
#: Reasons for an answer without text.
_CUT = (
    FinishReason.LENGTH,
    FinishReason.CONTEXT,
    FinishReason.CONTENT_FILTER,
    FinishReason.REFUSAL,
)


_NO_ROOM = (
    "config.max_tokens was reached while the model reasoned, so there is no text: raise it, or "
    "lower reasoning.effort"
)


def parse_finish_reason(word: str) -> FinishReason:
    """Return the FinishReason for a provider's word."""
    return _FINISH_REASONS.get(word.lower(), FinishReason.UNKNOWN)


def no_choice(provider: str, report: CallReport) -> BackendError:
    """The error for an answer without a choice.

    It is retried only if no token was generated: otherwise it has been paid for.
    """
    problem = f"{provider} answered without any choice"
    if tokens := report.usage.completion_tokens:
        return UnreadableAnswer(f"{problem}, but reports {tokens} completion tokens", report=report)
    return UpstreamUnavailable(problem, report=report)


@dataclass(frozen=True, slots=True)
class Expectation:
    """What the request says about its answer.

    model: the full name that it asks for. stops: its stop strings. logprobs: it asks for
    log-probabilities. hides_reasoning: the text of reasoning is not returned. call_ids: of the
    tool calls in its conversation.
    """

    model: str
    stops: Collection[str] = ()
    logprobs: bool = False
    hides_reasoning: bool = False
    call_ids: Collection[str] = ()

    @classmethod
    def of(cls, request: GenerationRequest, logprobs: bool) -> Expectation:
        """The expectation of a request. logprobs: whether they are sent to the provider."""
        call_ids: Collection[str] = ()
        if not isinstance(request.input, str):
            parts = (part for message in request.messages for part in message.parts)
            call_ids = frozenset(part.id for part in parts if isinstance(part, ToolCall))
        return cls(
            request.model,
            request.sampling.stop,
            logprobs,
            request.reasoning.visibility is ReasoningVisibility.HIDDEN,
            call_ids,
        )


@dataclass(slots=True)
class Extras:
    """Parts of an answer that a completion has no part for.

    media: kinds of content other than text. has_text: whether the answer has text.
    """

    media: list[str] = field(default_factory=list)
    has_text: bool = False

    def add(self, message: ProviderMessage) -> None:
        """Add the extras of a message, or of the next piece of a streamed one."""
        self.has_text = self.has_text or bool(message.text.strip())
        self.media += message.media


class CompletionBuilder(ABC):
    """Builds a completion from an answer, which comes whole or in chunks.

    id: the provider's. provider: its name, "" until it is known. finish_word: its finish reason, ""
    until it arrives; native_finish: that of the provider behind a gateway. reasoned: the answer has
    reasoning, which may be hidden. stop_match: what stopped it, if the provider says so.
    """

    def __init__(self, expected: Expectation) -> None:
        self.id = ""
        self.provider = ""
        self.finish_word = ""
        self.native_finish = ""
        self.extras = Extras()
        self.expected = expected
        self.message = PartsBuilder(expected.call_ids)
        self._thoughts = ThoughtSplitter()
        self._rows: list[TokenRow] = []
        self.reasoned = False
        self.stop_match: StopMatch | None = None

    @abstractmethod
    def feed(self, chunk: Any) -> list[Delta]:
        """Take the next chunk, or a whole answer. Return what it adds."""

    @abstractmethod
    def completion(self) -> Completion:
        """Return the completion, after `flush`. Raises BackendError if it is not complete."""

    def flush(self) -> list[Delta]:
        """Return what still waits after the last chunk."""
        self._add_content(*self._thoughts.flush())
        return self.message.finish()

    def add_content(self, piece: str) -> None:
        """Add a piece of the content, which may hold reasoning before the text."""
        if piece:
            self._add_content(*self._thoughts.feed(piece))

    def _add_content(self, reasoning: str, text: str) -> None:
        self.add_reasoning(reasoning)
        self.reasoned = self.reasoned or self._thoughts.found
        self.message.add_text("text", text)

    def add_reasoning(self, text: str) -> None:
        """Add a piece of reasoning, unless the request hides it."""
        self.reasoned = self.reasoned or bool(text)
        if not self.expected.hides_reasoning:
            self.message.add_text("reasoning", text)

    def add_stop(self, value: Any) -> None:
        """Keep the stop string that ended the answer. Providers also report other values."""
        if isinstance(value, str) and value in self.expected.stops:
            self.stop_match = StopMatch(value)

    def add_rows(self, rows: Iterable[TokenRow] | None) -> None:
        """Add the log-probabilities of a chunk."""
        if rows:
            self._rows.extend(rows)

    def finish(
        self,
        usage: Usage,
        served_by: ServedBy,
        origin: str,
        reasoning_state: Mapping[str, Any],
        form: ReasoningForm | None = None,
    ) -> Completion:
        """Return the checked completion. served_by.model: the full name of the model.

        origin: of the parts' states. reasoning_state, form: of the reasoning parts.
        """
        completion = Completion(
            message=Message("assistant", self.message.parts(origin, reasoning_state, form)),
            finish_reason=self._finish_reason(),
            usage=usage,
            served_by=served_by,
            stop_match=self.stop_match,
            native_finish_reason=self.native_finish or self.finish_word,
            id=self.id,
            completion_tokens=make_trace(drop_rows(self._rows, self._thoughts.skipped)),
        )
        completion = _correct_finish(completion)
        if (
            self.reasoned
            and not completion.text
            and completion.finish_reason is FinishReason.LENGTH
        ):
            completion = replace(completion, warnings=(_NO_ROOM,))
        if (error := self._find_problem(completion)) is not None:
            error.report = make_report(completion)
            raise error
        return completion

    def _finish_reason(self) -> FinishReason:
        return parse_finish_reason(self.finish_word)

    def _find_problem(self, completion: Completion) -> BackendError | None:
        """Find out why an answer cannot be used; None if it can.

        An empty text is right if the provider reports at most one completion token, which is
        the end of the text. More tokens need an explanation: another part, a stop string, or a
        text that was cut off or refused. Without one, the answer was not understood.
        """
        model = completion.model
        if self.expected.logprobs and completion.text and completion.completion_tokens is None:
            # Some providers leave them out although OpenRouter required them to honour all fields.
            return Unsupported(
                f"the provider of {model} returned no log-probabilities",
                field="returns.top_logprobs",
            )
        message = completion.message
        if message.text or message.tool_calls or message.refusal:
            return None
        if self.extras.media:
            return Unsupported(f"{model} answered with {self.extras.media[0][:100]} and no text")
        if self.extras.has_text and not (message.reasoning or self._thoughts.found):
            return UnreadableAnswer(
                f"the answer of {model} has a text in another format than its provider's"
            )
        usage = completion.usage
        tokens = (usage.completion_tokens or 0) - (usage.reasoning_tokens or 0)
        cut = completion.finish_reason in _CUT
        explained = message.parts or self.reasoned or cut or self.expected.stops
        if tokens > 1 and not explained:
            return UnreadableAnswer(
                f"the provider of {model} reports {tokens} completion tokens, but its "
                "answer holds no text"
            )
        return None


def _correct_finish(completion: Completion) -> Completion:
    """Return the completion with the finish reason that its parts show.

    Some providers say "stop" for tool calls and refusals.
    """
    message, reason = completion.message, completion.finish_reason
    if message.tool_calls:
        if reason not in _CUT:
            reason = FinishReason.TOOL_CALLS
    elif message.refusal:
        reason = FinishReason.REFUSAL
    elif reason is FinishReason.TOOL_CALLS:
        reason = FinishReason.UNKNOWN
    return (
        completion
        if reason is completion.finish_reason
        else replace(completion, finish_reason=reason)
    )
