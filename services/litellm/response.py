"""Turns what litellm returns, whole or in chunks, into completions.

https://docs.litellm.ai/docs/completion/output
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from arena_llm.types import CallReport, Completion, CostBasis, Delta, FinishReason, ServedBy, Usage
from services.common.hosted.completion import (
    CompletionBuilder,
    Expectation,
    no_choice,
    parse_finish_reason,
)
from services.common.hosted.parts import CallPiece
from services.common.hosted.response import plain_text
from services.common.hosted.tokens import TokenRow, parse_logprobs
from services.common.hosted.values import count, label, picousd
from services.common.log import log
from services.litellm.config import PREFIX
from services.litellm.parts import ThoughtReader, find_form, make_origin, read_call
from services.litellm.raw_answer import RawAnswer

if TYPE_CHECKING:
    from services.litellm.catalogue import ProviderModel


#: Characters of the names of counts in the log.
_MAX_NAMES = 200

#: Finish reasons that litellm turns into "stop" after it has made JSON of a tool call.
_TOOL_REASONS = ("tool_use", "tool_calls")


class LiteLlmBuilder(CompletionBuilder):
    """Builds a completion from litellm's response or chunks.

    answer: what the provider sent, of which litellm loses a part.
    """

    def __init__(self, model: ProviderModel, answer: RawAnswer, expected: Expectation) -> None:
        super().__init__(expected)
        self.extras = answer.extras
        self.provider = model.provider
        self._known_model = model
        self._answer = answer
        self._model = ""
        self._usage: Any = None
        self._states = ThoughtReader()
        self._signatures: set[str] = set()

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
        self._states.add(message)
        parts = self.message
        self.add_reasoning(plain_text(getattr(message, "reasoning_content", None)))
        self.add_content(plain_text(message.content))
        parts.add_text("refusal", self._answer.take_refusal())
        for call in getattr(message, "tool_calls", None) or ():
            piece = read_call(call)
            self._signatures.update(_find_signatures(piece))
            parts.add_call(piece, whole)
        return parts.take()

    def flush(self) -> list[Delta]:
        self.message.add_text("refusal", self._answer.take_refusal())
        return [*self.message.take(), *super().flush()]

    def completion(self) -> Completion:
        model = self._known_model
        served_by = ServedBy(
            model=_full_name(self._model, model),
            provider=model.provider,
            region=self._answer.region,
            system_fingerprint=self._answer.fingerprint,
        )
        self.native_finish = self._answer.finish_word
        self.add_stop(self._answer.stop)
        usage, thoughts = _read_usage(self._usage, model, self._answer), self._states
        reasoning_state = thoughts.reasoning_state(model, self.reasoned)
        text_state = thoughts.text_state(self._signatures)
        if text_state and not self.message.add_text_state(text_state):
            reasoning_state = {**reasoning_state, **text_state}
        return self.finish(usage, served_by, make_origin(model), reasoning_state, find_form(model))

    def _finish_reason(self) -> FinishReason:
        """Use the provider's own word where it is known. litellm writes "stop" for a missing or an
        unknown one, and after it has made JSON of a tool call."""
        reason, word = parse_finish_reason(self.finish_word), self._answer.finish_word
        filtered = reason is FinishReason.CONTENT_FILTER and not word
        if not self._answer.has_known_format or word in _TOOL_REASONS or filtered:
            return reason
        return parse_finish_reason(word)


def parse_completion(
    response: Any, model: ProviderModel, answer: RawAnswer, expected: Expectation
) -> Completion:
    """Turn a whole ModelResponse into a completion.

    Raises the error of `no_choice`.
    """
    if not response.choices:
        usage = _read_usage(getattr(response, "usage", None), model, answer)
        raise no_choice(model.provider, CallReport(usage=usage))
    builder = LiteLlmBuilder(model, answer, expected)
    builder.feed(response)
    builder.flush()
    return builder.completion()


def _find_signatures(piece: CallPiece) -> Iterator[str]:
    """Yield the signature in the state of a tool call."""
    if piece.state:
        yield piece.state["thought_signature"]


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
    if answer.unreadable:
        names = ", ".join(dict.fromkeys(answer.unreadable))
        log.warning("a provider's usage cannot be read", fields=names[:_MAX_NAMES])
    knows_cache = answer.knows_part("cach")
    # A Claude model's prompt is the sum of three counts.
    knows_prompt = answer.knows_prompt and (knows_cache or not model.is_claude)
    knows_reasoning = answer.knows_part("reasoning") and answer.knows_part("thought")
    return Usage(
        prompt_tokens=count(usage.prompt_tokens) if knows_prompt else None,
        completion_tokens=count(usage.completion_tokens) if answer.knows_completion else None,
        reasoning_tokens=_read_detail(usage, completion, "reasoning_tokens")
        if knows_reasoning
        else None,
        cached_tokens=_read_detail(usage, prompt, "cached_tokens") if knows_cache else None,
        cache_write_tokens=_read_detail(usage, prompt, "cache_creation_tokens")
        if knows_cache
        else None,
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
