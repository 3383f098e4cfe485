"""Turns what litellm returns, whole or in chunks, into completions.

https://docs.litellm.ai/docs/completion/output
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog

from arena_llm.types import Completion, Delta, FinishReason, TokenLogprob, Usage
from services.common.errors import UpstreamUnavailable, repair_text
from services.common.hosted.completion import CompletionBuilder, parse_finish_reason
from services.common.hosted.response import parse_logprobs, plain_text
from services.common.hosted.values import amount, count, label
from services.litellm.config import PREFIX
from services.litellm.rewriting import RawAnswer

if TYPE_CHECKING:
    from services.litellm.catalogue import ProviderModel

log = structlog.get_logger()

#: Finish reasons that litellm turns into "stop" after it has made JSON of a tool call.
_TOOL_REASONS = ("tool_use", "tool_calls")


def parse_completion(
    response: Any, model: ProviderModel, answer: RawAnswer, stops: bool
) -> Completion:
    """Turn a whole ModelResponse into a completion.

    answer: what the provider sent. stops: whether the request has stop strings.
    Raises UpstreamUnavailable if the response has no choice.
    """
    if not response.choices:
        raise UpstreamUnavailable(f"{model.provider} answered without any choice")
    choice = response.choices[0]
    completion = Completion(
        text=repair_text(plain_text(choice.message.content)),
        reasoning=repair_text(_read_reasoning(choice.message)),
        finish_reason=_read_finish_reason(label(choice.finish_reason), answer),
        usage=_read_usage(getattr(response, "usage", None), model, answer),
        model=_full_name(label(response.model), model),
        id=answer.id if answer.has_known_format else label(response.id),
        logprobs=_read_logprobs(choice),
    )
    return answer.extras.check(completion, stops)


class LiteLlmStreamBuilder(CompletionBuilder):
    """Builds a completion from litellm's chunks."""

    def __init__(self, model: ProviderModel, answer: RawAnswer, stops: bool) -> None:
        super().__init__(stops)
        self.extras = answer.extras
        self._known_model = model
        self._answer = answer
        self._model = ""
        self._usage: Any = None

    def feed(self, chunk: Any) -> Delta | None:
        self.id = self._answer.id if self._answer.has_known_format else self.id or label(chunk.id)
        self._model = label(chunk.model) or self._model
        self._usage = getattr(chunk, "usage", None) or self._usage
        if not chunk.choices:
            return None
        choice = chunk.choices[0]
        self.finish_word = label(choice.finish_reason) or self.finish_word
        text = plain_text(choice.delta.content)
        return self.append(text, _read_reasoning(choice.delta), _read_logprobs(choice))

    def completion(self) -> Completion:
        usage = _read_usage(self._usage, self._known_model, self._answer)
        return self.finish(_full_name(self._model, self._known_model), usage)

    def _finish_reason(self) -> FinishReason:
        return _read_finish_reason(self.finish_word, self._answer)


def _full_name(name: str, model: ProviderModel) -> str:
    """The full name of the model that answered."""
    if not name:
        return model.full_name
    return f"{PREFIX}{model.provider}/{name.removeprefix(f'{model.provider}/')}"


def _read_finish_reason(word: str, answer: RawAnswer) -> FinishReason:
    """Use the provider's own word where litellm's is "stop", which it also writes for a missing or
    an unknown finish reason."""
    if word == "stop" and answer.has_known_format and answer.finish_word not in _TOOL_REASONS:
        return parse_finish_reason(answer.finish_word)
    return parse_finish_reason(word)


def _read_reasoning(message: Any) -> str:
    return plain_text(getattr(message, "reasoning_content", None))


def _read_logprobs(choice: Any) -> tuple[TokenLogprob, ...]:
    value: Any = getattr(choice, "logprobs", None)
    # litellm has objects for some providers and mappings for others.
    return parse_logprobs(value.model_dump() if hasattr(value, "model_dump") else value) or ()


def _read_usage(usage: Any, model: ProviderModel, answer: RawAnswer) -> Usage:
    if usage is None or not answer.counted:
        return Usage()
    return Usage(
        prompt_tokens=count(usage.prompt_tokens) or 0,
        completion_tokens=count(usage.completion_tokens) or 0,
        reasoning_tokens=_read_detail(usage, "completion_tokens_details", "reasoning_tokens"),
        cached_tokens=_read_detail(usage, "prompt_tokens_details", "cached_tokens"),
        cost_usd=_compute_cost(usage, model, answer),
    )


def _compute_cost(usage: Any, model: ProviderModel, answer: RawAnswer) -> float | None:
    """US dollars; None if the provider reported no readable counts."""
    if not answer.priced:
        return None
    try:
        return amount(model.cost(usage))
    except Exception as error:  # litellm computes with any provider's usage
        log.warning("litellm cannot compute a cost", type=type(error).__qualname__)
        return None


def _read_detail(usage: Any, details: str, name: str) -> int:
    return count(getattr(getattr(usage, details, None), name, None)) or 0
