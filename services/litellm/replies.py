"""What litellm returns, whole or in chunks, as a completion.

https://docs.litellm.ai/docs/completion/output
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from arena_llm.types import Completion, Delta, FinishReason, TokenLogprob, TopLogprob, Usage
from services.common.errors import UpstreamUnavailable
from services.litellm.config import PREFIX

if TYPE_CHECKING:
    from services.litellm.catalogue import Known

_FINISH = {
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "content_filter": FinishReason.CONTENT_FILTER,
}


class _Loose(BaseModel):
    """Log-probabilities come as objects from some providers and as mappings from others."""

    model_config = ConfigDict(from_attributes=True, extra="ignore")


class _Top(_Loose):
    token: str
    logprob: float


class _Token(_Top):
    top_logprobs: list[_Top] | None = None


class _Logprobs(_Loose):
    content: list[_Token] | None = None


def completion_of(reply: Any, known: Known) -> Completion:
    """A whole ModelResponse; raises UpstreamUnavailable where it holds no choice."""
    if not reply.choices:
        raise UpstreamUnavailable(f"{known.provider} answered without any choice")
    choice = reply.choices[0]
    usage = getattr(reply, "usage", None)
    return Completion(
        text=choice.message.content or "",
        reasoning=_reasoning(choice.message),
        finish_reason=_FINISH.get(choice.finish_reason or "", FinishReason.UNKNOWN),
        usage=_usage(usage, known),
        model=_answered(reply.model, known),
        id=reply.id or "",
        logprobs=tuple(_tokens(choice)),
    )


class Assembly:
    """A streamed completion, put together from its chunks."""

    def __init__(self, known: Known) -> None:
        self._known = known
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._logprobs: list[TokenLogprob] = []
        self._finish = ""
        self._usage: Any = None
        self._model = ""
        self._id = ""

    def add(self, chunk: Any) -> Delta | None:
        """Take the next chunk; what is new in it, if anything is."""
        self._id = self._id or chunk.id or ""
        self._model = chunk.model or self._model
        self._usage = getattr(chunk, "usage", None) or self._usage
        if not chunk.choices:
            return None
        choice = chunk.choices[0]
        self._finish = choice.finish_reason or self._finish
        self._logprobs.extend(_tokens(choice))
        delta = Delta(choice.delta.content or "", _reasoning(choice.delta))
        self._text.append(delta.text)
        self._reasoning.append(delta.reasoning)
        return delta if delta.text or delta.reasoning else None

    def completion(self) -> Completion:
        """The whole."""
        return Completion(
            text="".join(self._text),
            reasoning="".join(self._reasoning),
            finish_reason=_FINISH.get(self._finish, FinishReason.UNKNOWN),
            usage=_usage(self._usage, self._known),
            model=_answered(self._model, self._known),
            id=self._id,
            logprobs=tuple(self._logprobs),
        )


def _answered(model: str | None, known: Known) -> str:
    """The model that answered, under its full name."""
    if not model:
        return known.full_name
    return f"{PREFIX}{known.provider}/{model.removeprefix(f'{known.provider}/')}"


def _reasoning(message: Any) -> str:
    return getattr(message, "reasoning_content", None) or ""


def _tokens(choice: Any) -> Iterable[TokenLogprob]:
    if (given := getattr(choice, "logprobs", None)) is None:
        return ()
    return map(_token, _Logprobs.model_validate(given).content or ())


def _token(token: _Token) -> TokenLogprob:
    top = tuple(TopLogprob(other.token, other.logprob) for other in token.top_logprobs or ())
    return TokenLogprob(token.token, token.logprob, top)


def _usage(usage: Any, known: Known) -> Usage:
    if usage is None:
        return Usage()
    return Usage(
        prompt_tokens=usage.prompt_tokens or 0,
        completion_tokens=usage.completion_tokens or 0,
        reasoning_tokens=_detail(usage, "completion_tokens_details", "reasoning_tokens"),
        cached_tokens=_detail(usage, "prompt_tokens_details", "cached_tokens"),
        cost_usd=known.cost(usage),
    )


def _detail(usage: Any, details: str, name: str) -> int:
    return getattr(getattr(usage, details, None), name, None) or 0
