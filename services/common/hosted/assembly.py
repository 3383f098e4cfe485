"""A completion out of what providers send, which is OpenAI's format in the end.

https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ConfigDict

from arena_llm.types import Completion, Delta, FinishReason, TokenLogprob, TopLogprob, Usage

_FINISH = {
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "content_filter": FinishReason.CONTENT_FILTER,
}


def finish_reason(told: str | None) -> FinishReason:
    """The provider's word for it as ours."""
    return _FINISH.get(told or "", FinishReason.UNKNOWN)


class _Wire(BaseModel):
    # litellm has objects for some providers and mappings for others.
    model_config = ConfigDict(extra="ignore", frozen=True, from_attributes=True)


class _Top(_Wire):
    token: str
    logprob: float


class _Token(_Top):
    top_logprobs: list[_Top] | None = None


class WireLogprobs(_Wire):
    """The log-probabilities of a choice."""

    content: list[_Token] | None = None

    def tokens(self) -> Iterable[TokenLogprob]:
        """Each token with its alternatives, in natural logarithms."""
        for token in self.content or ():
            top = tuple(
                TopLogprob(other.token, other.logprob) for other in token.top_logprobs or ()
            )
            yield TokenLogprob(token.token, token.logprob, top)


class Assembly(ABC):
    """A streamed completion, put together from its chunks.

    id: the provider's. finish: its finish_reason; empty until it has come.
    """

    def __init__(self) -> None:
        self.id = ""
        self.finish = ""
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._logprobs: list[TokenLogprob] = []

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
        if not text and not reasoning:
            return None
        self._text.append(text)
        self._reasoning.append(reasoning)
        return Delta(text, reasoning)

    def whole(self, model: str, usage: Usage) -> Completion:
        """The completion. model: the full name of the one that answered."""
        return Completion(
            text="".join(self._text),
            reasoning="".join(self._reasoning),
            finish_reason=finish_reason(self.finish),
            usage=usage,
            model=model,
            id=self.id,
            logprobs=tuple(self._logprobs),
        )
