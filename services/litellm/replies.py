"""What litellm returns, whole or in chunks, as a completion.

https://docs.litellm.ai/docs/completion/output
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog

from arena_llm.types import Completion, Delta, FinishReason, TokenLogprob, Usage
from services.common.errors import UpstreamUnavailable
from services.common.hosted.answers import plain_text, read_logprobs
from services.common.hosted.assembly import Assembly, finish_reason
from services.common.hosted.values import amount, count, label
from services.common.text import utf8
from services.litellm.config import PREFIX
from services.litellm.wire import Wire

if TYPE_CHECKING:
    from services.litellm.catalogue import Known

log = structlog.get_logger()

#: Ends that litellm calls "stop" where it has made JSON of a tool's call.
_TOOL_ENDS = ("tool_use", "tool_calls")


def completion_of(reply: Any, known: Known, wire: Wire, stops: bool) -> Completion:
    """A whole ModelResponse; raises UpstreamUnavailable where it holds no choice.

    stops: whether the request has stop strings.
    """
    if not reply.choices:
        raise UpstreamUnavailable(f"{known.provider} answered without any choice")
    choice = reply.choices[0]
    completion = Completion(
        text=utf8(plain_text(choice.message.content)),
        reasoning=utf8(_reasoning(choice.message)),
        finish_reason=_finish(label(choice.finish_reason), wire),
        usage=_usage(getattr(reply, "usage", None), known, wire),
        model=_answered(label(reply.model), known),
        id=wire.id if wire.known else label(reply.id),
        logprobs=_tokens(choice),
    )
    return wire.extras.check(completion, stops)


class Stream(Assembly):
    """A streamed completion, put together from its chunks."""

    def __init__(self, known: Known, wire: Wire, stops: bool) -> None:
        super().__init__(stops)
        self.extras = wire.extras
        self._known = known
        self._wire = wire
        self._model = ""
        self._usage: Any = None

    def add(self, chunk: Any) -> Delta | None:
        self.id = self._wire.id if self._wire.known else self.id or label(chunk.id)
        self._model = label(chunk.model) or self._model
        self._usage = getattr(chunk, "usage", None) or self._usage
        if not chunk.choices:
            return None
        choice = chunk.choices[0]
        self.finish = label(choice.finish_reason) or self.finish
        text = plain_text(choice.delta.content)
        return self.grow(text, _reasoning(choice.delta), _tokens(choice))

    def completion(self) -> Completion:
        usage = _usage(self._usage, self._known, self._wire)
        return self.whole(_answered(self._model, self._known), usage)

    def _finish_reason(self) -> FinishReason:
        return _finish(self.finish, self._wire)


def _answered(model: str, known: Known) -> str:
    """The model that answered, under its full name."""
    if not model:
        return known.full_name
    return f"{PREFIX}{known.provider}/{model.removeprefix(f'{known.provider}/')}"


def _finish(word: str, wire: Wire) -> FinishReason:
    """litellm says "stop" for no word, and for every word that it does not know."""
    if word == "stop" and wire.known and wire.finish not in _TOOL_ENDS:
        return finish_reason(wire.finish)
    return finish_reason(word)


def _reasoning(message: Any) -> str:
    return plain_text(getattr(message, "reasoning_content", None))


def _tokens(choice: Any) -> tuple[TokenLogprob, ...]:
    given: Any = getattr(choice, "logprobs", None)
    # litellm has objects for some providers and mappings for others.
    return read_logprobs(given.model_dump() if hasattr(given, "model_dump") else given) or ()


def _usage(usage: Any, known: Known, wire: Wire) -> Usage:
    if usage is None or not wire.counted:
        return Usage()
    return Usage(
        prompt_tokens=count(usage.prompt_tokens) or 0,
        completion_tokens=count(usage.completion_tokens) or 0,
        reasoning_tokens=_detail(usage, "completion_tokens_details", "reasoning_tokens"),
        cached_tokens=_detail(usage, "prompt_tokens_details", "cached_tokens"),
        cost_usd=_cost(usage, known, wire),
    )


def _cost(usage: Any, known: Known, wire: Wire) -> float | None:
    """Of counts that the provider did not report, or not readably, no cost follows."""
    if not wire.priced:
        return None
    try:
        return amount(known.cost(usage))
    except Exception as error:  # litellm's own arithmetic, over any provider's usage
        log.warning("litellm knows no cost of a usage", type=type(error).__qualname__)
        return None


def _detail(usage: Any, details: str, name: str) -> int:
    return count(getattr(getattr(usage, details, None), name, None)) or 0
