"""Turns what litellm returns, whole or in chunks, into completions.

https://docs.litellm.ai/docs/completion/output
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog

from arena_llm.types import Completion, CostBasis, Delta, FinishReason, ServedBy, Usage
from services.common.errors import UpstreamUnavailable, repair_text
from services.common.hosted.completion import CompletionBuilder, Expectation, parse_finish_reason
from services.common.hosted.parts import CallPiece
from services.common.hosted.response import plain_text
from services.common.hosted.tokens import TokenRow, parse_logprobs
from services.common.hosted.values import count, label, picousd
from services.litellm.config import PREFIX
from services.litellm.rewriting import RawAnswer

if TYPE_CHECKING:
    from services.litellm.catalogue import ProviderModel

log = structlog.get_logger()

#: Finish reasons that litellm turns into "stop" after it has made JSON of a tool call.
_TOOL_REASONS = ("tool_use", "tool_calls")


class LiteLlmBuilder(CompletionBuilder):
    """Builds a completion from litellm's response or chunks.

    answer: what the provider sent, of which litellm loses a part.
    """

    def __init__(self, model: ProviderModel, answer: RawAnswer, expected: Expectation) -> None:
        super().__init__(expected, "")
        self.extras = answer.extras
        self._known_model = model
        self._answer = answer
        self._model = ""
        self._usage: Any = None

    def feed(self, chunk: Any) -> list[Delta]:
        self.id = self._answer.id if self._answer.has_known_format else self.id or label(chunk.id)
        self._model = label(chunk.model) or self._model
        self._usage = getattr(chunk, "usage", None) or self._usage
        if not chunk.choices:
            return []
        choice = chunk.choices[0]
        whole = hasattr(choice, "message")
        message = choice.message if whole else choice.delta
        self.finish_word = label(choice.finish_reason) or self.finish_word
        self.add_rows(_read_logprobs(choice))
        parts = self.message
        parts.add_text("reasoning", plain_text(getattr(message, "reasoning_content", None)))
        parts.add_text("text", plain_text(message.content))
        parts.add_text("refusal", self._answer.take_refusal())
        for call in getattr(message, "tool_calls", None) or ():
            parts.add_call(_read_call(call), whole)
        return parts.take()

    def flush(self) -> list[Delta]:
        self.message.add_text("refusal", self._answer.take_refusal())
        return [*self.message.take(), *super().flush()]

    def completion(self) -> Completion:
        model = self._known_model
        served_by = ServedBy(
            model=_full_name(self._model, model),
            provider=model.provider,
            system_fingerprint=self._answer.fingerprint,
        )
        self.native_finish = self._answer.finish_word
        return self.finish(_read_usage(self._usage, model, self._answer), served_by, {})

    def _finish_reason(self) -> FinishReason:
        """Use the provider's own word where it is known. litellm writes "stop" for a missing or an
        unknown one, and after it has made JSON of a tool call."""
        word = self._answer.finish_word
        if self._answer.has_known_format and word not in _TOOL_REASONS:
            return parse_finish_reason(word)
        return parse_finish_reason(self.finish_word)


def parse_completion(
    response: Any, model: ProviderModel, answer: RawAnswer, expected: Expectation
) -> Completion:
    """Turn a whole ModelResponse into a completion.

    Raises UpstreamUnavailable if the response has no choice.
    """
    if not response.choices:
        raise UpstreamUnavailable(f"{model.provider} answered without any choice")
    builder = LiteLlmBuilder(model, answer, expected)
    builder.feed(response)
    builder.flush()
    return builder.completion()


def _read_call(call: Any) -> CallPiece:
    """Read a tool call of litellm's, or a piece of one."""
    function = call.function
    return CallPiece(
        count(getattr(call, "index", None)),
        label(call.id),
        label(function.name),
        repair_text(function.arguments or ""),
    )


def _full_name(name: str, model: ProviderModel) -> str:
    """The full name of the model that answered."""
    if not name:
        return model.full_name
    return f"{PREFIX}{model.provider}/{name.removeprefix(f'{model.provider}/')}"


def _read_logprobs(choice: Any) -> tuple[TokenRow, ...]:
    value: Any = getattr(choice, "logprobs", None)
    # litellm has objects for some providers and mappings for others.
    return parse_logprobs(value.model_dump() if hasattr(value, "model_dump") else value) or ()


def _read_usage(usage: Any, model: ProviderModel, answer: RawAnswer) -> Usage:
    if usage is None or not answer.counted:
        return Usage()
    cost = _compute_cost(usage, model, answer)
    prompt, completion = "prompt_tokens_details", "completion_tokens_details"
    return Usage(
        prompt_tokens=count(usage.prompt_tokens) if answer.knows_prompt else None,
        completion_tokens=count(usage.completion_tokens) if answer.knows_completion else None,
        reasoning_tokens=_read_detail(usage, completion, "reasoning_tokens"),
        cached_tokens=_read_detail(usage, prompt, "cached_tokens"),
        cache_write_tokens=_read_detail(usage, prompt, "cache_creation_tokens"),
        image_tokens=_read_detail(usage, prompt, "image_tokens"),
        cost_picousd=cost,
        cost_basis=None if cost is None else CostBasis.PRICE_LIST,
    )


def _compute_cost(usage: Any, model: ProviderModel, answer: RawAnswer) -> int | None:
    """10^-12 US dollars; None if the provider reported no readable counts."""
    if not answer.priced:
        return None
    try:
        return picousd(model.cost(usage))
    except Exception as error:  # litellm computes with any provider's usage
        log.warning("litellm cannot compute a cost", type=type(error).__qualname__)
        return None


def _read_detail(usage: Any, details: str, name: str) -> int | None:
    return count(getattr(getattr(usage, details, None), name, None))
