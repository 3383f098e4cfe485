"""Builds a completion from a provider's answer, whole or in chunks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from arena_llm.types import Completion, Delta, FinishReason, TokenLogprob, Usage
from services.common.errors import BackendError, RefusedByProvider, UnreadableAnswer, Unsupported
from services.common.hosted.answers import Answer, Message
from services.common.hosted.values import HalfPairs
from services.common.text import utf8

#: The providers' words, in lower case; all others are UNKNOWN.
_FINISH = {
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

#: Characters of a refusal that its error repeats.
_REFUSAL = 300


def finish_reason(word: str) -> FinishReason:
    """The provider's word for it as ours."""
    return _FINISH.get(word.lower(), FinishReason.UNKNOWN)


@dataclass(slots=True)
class Extras:
    """Parts of an answer that a completion has no field for. has_text: whether there is text."""

    refusal: str = ""
    tools: list[str] = field(default_factory=list)
    media: list[str] = field(default_factory=list)
    has_text: bool = False

    def add(self, message: Message) -> None:
        """Add those of a message, or of its next piece."""
        self.has_text = self.has_text or bool(message.text.strip())
        self.refusal += message.refusal
        self.tools += message.tools
        self.media += message.media

    def check(self, completion: Completion, stops: bool) -> Completion:
        """Return the completion; raise an error if it has no text and should have one.

        An empty text is right if the provider reports no completion tokens, or one, which is
        the end of the text. More tokens need an explanation: reasoning, a stop string (stops:
        the request has some), or a text that was cut (FinishReason.LENGTH, CONTENT_FILTER).
        Without one the answer was not understood.
        """
        if completion.text:
            return completion
        if (error := self._error(completion.model)) is not None:
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
                f"the provider of {completion.model} reports {tokens} completion tokens, and no "
                "text was found in its answer"
            )
        return completion

    def _error(self, model: str) -> BackendError | None:
        if self.refusal:
            return RefusedByProvider(f"{model} refuses: {self.refusal[:_REFUSAL]}")
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


class Assembly(ABC):
    """A streamed completion, put together from its chunks.

    id: the provider's. finish: its finish_reason; empty until it has come. stops: whether
    the request has stop strings.
    """

    def __init__(self, stops: bool = False) -> None:
        self.id = ""
        self.finish = ""
        self.extras = Extras()
        self._stops = stops
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._logprobs: list[TokenLogprob] = []
        self._text_pairs, self._reasoning_pairs = HalfPairs(), HalfPairs()

    @abstractmethod
    def add(self, chunk: Any) -> Delta | None:
        """Take the next chunk; what is new in it, if anything is."""

    @abstractmethod
    def completion(self) -> Completion:
        """The whole; raises UpstreamUnavailable where the stream broke off before its end."""

    def grow(
        self, text: str, reasoning: str, logprobs: Iterable[TokenLogprob] = ()
    ) -> Delta | None:
        """Take what a chunk adds, as a delta if there is any text."""
        self._logprobs.extend(logprobs)
        return self._grown(self._text_pairs.join(text), self._reasoning_pairs.join(reasoning))

    def rest(self) -> Delta | None:
        """What still waits for its other half, after the last chunk."""
        return self._grown(self._text_pairs.rest(), self._reasoning_pairs.rest())

    def _grown(self, text: str, reasoning: str) -> Delta | None:
        if not text and not reasoning:
            return None
        self._text.append(text)
        self._reasoning.append(reasoning)
        return Delta(text, reasoning)

    def whole(self, model: str, usage: Usage) -> Completion:
        """The completion, checked. model: the full name of the one that answered."""
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
        return finish_reason(self.finish)


def whole_completion(
    answer: Answer, message: Message, finish: str, model: str, usage: Usage, stops: bool
) -> Completion:
    """The completion of an answer that came whole, checked."""
    extras = Extras()
    extras.add(message)
    logprobs = answer.choice.logprobs if answer.choice else None
    completion = Completion(
        text=utf8(message.text),
        reasoning=utf8(message.reasoning),
        finish_reason=finish_reason(finish),
        usage=usage,
        model=model,
        id=answer.id,
        logprobs=logprobs or (),
    )
    return extras.check(completion, stops)
