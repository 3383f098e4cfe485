"""What litellm returns, whole or in chunks, as a completion.

https://docs.litellm.ai/docs/completion/output
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from arena_llm.types import Completion, Delta, TokenLogprob, Usage
from services.common.errors import UpstreamUnavailable
from services.common.hosted.assembly import Assembly, WireLogprobs, finish_reason
from services.litellm.config import PREFIX

if TYPE_CHECKING:
    from services.litellm.catalogue import Known


def completion_of(reply: Any, known: Known) -> Completion:
    """A whole ModelResponse; raises UpstreamUnavailable where it holds no choice."""
    if not reply.choices:
        raise UpstreamUnavailable(f"{known.provider} answered without any choice")
    choice = reply.choices[0]
    usage = getattr(reply, "usage", None)
    return Completion(
        text=choice.message.content or "",
        reasoning=_reasoning(choice.message),
        finish_reason=finish_reason(choice.finish_reason),
        usage=_usage(usage, known),
        model=_answered(reply.model, known),
        id=reply.id or "",
        logprobs=tuple(_tokens(choice)),
    )


class Stream(Assembly):
    """A streamed completion, put together from its chunks."""

    def __init__(self, known: Known) -> None:
        super().__init__()
        self._known = known
        self._model = ""
        self._usage: Any = None

    def add(self, chunk: Any) -> Delta | None:
        self.id = self.id or chunk.id or ""
        self._model = chunk.model or self._model
        self._usage = getattr(chunk, "usage", None) or self._usage
        if not chunk.choices:
            return None
        choice = chunk.choices[0]
        self.finish = choice.finish_reason or self.finish
        return self.grow(choice.delta.content or "", _reasoning(choice.delta), _tokens(choice))

    def completion(self) -> Completion:
        return self.whole(_answered(self._model, self._known), _usage(self._usage, self._known))


def _answered(model: str | None, known: Known) -> str:
    """The model that answered, under its full name."""
    if not model:
        return known.full_name
    return f"{PREFIX}{known.provider}/{model.removeprefix(f'{known.provider}/')}"


def _reasoning(message: Any) -> str:
    return getattr(message, "reasoning_content", None) or ""


def _tokens(choice: Any) -> Iterable[TokenLogprob]:
    given = getattr(choice, "logprobs", None)
    return () if given is None else WireLogprobs.model_validate(given).tokens()


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
