"""Builds and checks a completion from a provider's answer, whole or in chunks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from arena_llm.types import Completion, Delta, FinishReason, TokenLogprob, Usage
from services.common.errors import (
    BackendError,
    RefusedByProvider,
    UnreadableAnswer,
    Unsupported,
    repair_text,
)
from services.common.hosted.response import ProviderAnswer, ProviderMessage

#: The providers' finish reasons, in lower case. All others are UNKNOWN.
_FINISH_REASONS = {
    **dict.fromkeys(
        ("stop", "end_turn", "stop_sequence", "eos", "eos_token", "complete", "completed"),
        FinishReason.STOP,
    ),
    **dict.fromkeys(("length", "max_tokens", "max_length", "model_length"), FinishReason.LENGTH),
    **dict.fromkeys(
        ("content_filter", "content_filtered", "safety", "recitation", "refusal"),
        FinishReason.CONTENT_FILTER,
    ),
}

#: Characters of a refusal that the error repeats.
_MAX_REFUSAL = 300


def parse_finish_reason(word: str) -> FinishReason:
    """Return the FinishReason for a provider's word."""
    return _FINISH_REASONS.get(word.lower(), FinishReason.UNKNOWN)


@dataclass(slots=True)
class Extras:
    """Parts of an answer that a completion has no field for.

    tools: names of the called tools. media: kinds of content other than text.
    has_text: whether the answer has text.
    """

    refusal: str = ""
    tools: list[str] = field(default_factory=list)
    media: list[str] = field(default_factory=list)
    has_text: bool = False

    def add(self, message: ProviderMessage) -> None:
        """Add the extras of a message, or of the next piece of a streamed one."""
        self.has_text = self.has_text or bool(message.text.strip())
        self.refusal += message.refusal
        self.tools += message.tools
        self.media += message.media

    def check(self, completion: Completion, stops: bool) -> Completion:
        """Return the completion; raise an error if it has no text but should have one.

        An empty text is right if the provider reports at most one completion token, which is
        the end of the text. More tokens need an explanation: reasoning, a stop string (stops:
        the request has some), or a text that was cut off (LENGTH, CONTENT_FILTER). Without one,
        the answer was not understood.
        """
        if completion.text:
            return completion
        if (error := self._explain(completion.model)) is not None:
            raise error
        if self.has_text and not completion.reasoning:
            raise UnreadableAnswer(
                f"the answer of {completion.model} has a text in another format than its provider's"
            )
        usage = completion.usage
        tokens = usage.completion_tokens - usage.reasoning_tokens
        cut = completion.finish_reason in (FinishReason.LENGTH, FinishReason.CONTENT_FILTER)
        if tokens > 1 and not (completion.reasoning or cut or stops):
            raise UnreadableAnswer(
                f"the provider of {completion.model} reports {tokens} completion tokens, but its "
                "answer holds no text"
            )
        return completion

    def _explain(self, model: str) -> BackendError | None:
        """The error for content that came in place of text; None if there is no such content."""
        if self.refusal:
            return RefusedByProvider(f"{model} refuses: {self.refusal[:_MAX_REFUSAL]}")
        if self.tools:
            names = ", ".join(dict.fromkeys(filter(None, self.tools))) or "without a name"
            return Unsupported(
                f"{model} called a tool ({names[:200]}) and wrote no text; tool calls are not "
                "supported: leave tools out of provider_options",
                field="provider_options.tools",
            )
        if self.media:
            return Unsupported(f"{model} answered with {self.media[0][:100]} and no text")
        return None


class SurrogateJoiner:
    """Joins a character that a provider splits over two pieces of a text.

    JSON may escape an emoji as two surrogates, and some servers send each with its own token.
    The first one waits for the next piece. A surrogate without its other half becomes U+FFFD.
    """

    def __init__(self) -> None:
        self._half = ""

    def join(self, text: str) -> str:
        """Return the next piece of text, without a half character at its end."""
        if not text or (not self._half and text.isascii()):
            return text
        text = self._half + text
        self._half = text[-1] if "\ud800" <= text[-1] <= "\udbff" else ""
        return repair_text(text[:-1] if self._half else text)

    def flush(self) -> str:
        """Return the half that still waits when the text ends."""
        half, self._half = self._half, ""
        return repair_text(half)


class CompletionBuilder(ABC):
    """Builds a streamed completion from its chunks.

    id: the provider's. finish_word: its finish reason, "" until it arrives.
    stops: whether the request has stop strings.
    """

    def __init__(self, stops: bool = False) -> None:
        self.id = ""
        self.finish_word = ""
        self.extras = Extras()
        self._stops = stops
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._logprobs: list[TokenLogprob] = []
        self._text_joiner, self._reasoning_joiner = SurrogateJoiner(), SurrogateJoiner()

    @abstractmethod
    def feed(self, chunk: Any) -> Delta | None:
        """Take the next chunk. Return its new text as a delta, if it has any."""

    @abstractmethod
    def completion(self) -> Completion:
        """Return the completion. Raises UpstreamUnavailable if the stream broke off."""

    def append(
        self, text: str, reasoning: str, logprobs: Iterable[TokenLogprob] = ()
    ) -> Delta | None:
        """Add the content of a chunk. Return it as a delta if there is any text."""
        self._logprobs.extend(logprobs)
        return self._append(self._text_joiner.join(text), self._reasoning_joiner.join(reasoning))

    def flush(self) -> Delta | None:
        """Return the text that still waits for its other half, after the last chunk."""
        return self._append(self._text_joiner.flush(), self._reasoning_joiner.flush())

    def _append(self, text: str, reasoning: str) -> Delta | None:
        if not text and not reasoning:
            return None
        self._text.append(text)
        self._reasoning.append(reasoning)
        return Delta(text, reasoning)

    def finish(self, model: str, usage: Usage) -> Completion:
        """Return the checked completion. model: the full name of the model that answered."""
        completion = Completion(
            text="".join(self._text),
            reasoning="".join(self._reasoning),
            finish_reason=self._finish_reason(),
            usage=usage,
            model=model,
            id=self.id,
            logprobs=tuple(self._logprobs),
        )
        return self.extras.check(completion, self._stops)

    def _finish_reason(self) -> FinishReason:
        return parse_finish_reason(self.finish_word)


def build_completion(
    answer: ProviderAnswer,
    message: ProviderMessage,
    finish: str,
    model: str,
    usage: Usage,
    stops: bool,
) -> Completion:
    """Build and check the completion of an answer that came whole."""
    extras = Extras()
    extras.add(message)
    logprobs = answer.choice.logprobs if answer.choice else None
    completion = Completion(
        text=repair_text(message.text),
        reasoning=repair_text(message.reasoning),
        finish_reason=parse_finish_reason(finish),
        usage=usage,
        model=model,
        id=answer.id,
        logprobs=logprobs or (),
    )
    return extras.check(completion, stops)
