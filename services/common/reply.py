"""Checks of a backend's replies before they are sent.

A reply that breaks the contract raises ContractError, which the caller gets as INTERNAL. Text
that cannot be sent and impossible numbers are replaced, because the rest of such a reply is
good, and it may have been paid for.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

import structlog

from arena_llm.types import (
    Choices,
    Completion,
    Delta,
    FinishReason,
    GenerationRequest,
    JsonSchema,
    Model,
    Scoring,
    ScoringRequest,
    TokenLogprob,
    TopLogprob,
    Usage,
)
from services.common.errors import ContractError, InvalidRequest, repair_text

log = structlog.get_logger()

_COUNTS = ("prompt_tokens", "completion_tokens", "reasoning_tokens", "cached_tokens")
_MAX_COUNT = 2**31 - 1  # int32 on the wire

T = TypeVar("T")


def check_type(value: object, expected: type[T], source: str) -> T:
    """Return the value. Raises ContractError if it has another type.

    source: what returned it, for the message, such as "generate_response".
    """
    if not isinstance(value, expected):
        raise ContractError(f"{source} returned a {type(value).__name__}, not {expected.__name__}")
    return value


def check_completion(completion: Completion, request: GenerationRequest, prefix: str) -> Completion:
    """Return a completion that can be sent.

    Raises ContractError if it does not fit the request, and InvalidRequest if max_tokens ended
    it before its constraint was met. Log-probabilities that were not requested are removed,
    because some providers always return them.
    """
    if not completion.model.startswith(prefix):
        raise ContractError(f"the completion's model does not start with {prefix!r}")
    _check_constraint(completion, request)
    usage = repair_usage(completion.usage)
    texts = completion.text + completion.reasoning + completion.model + completion.id
    if texts.isascii() and usage is completion.usage and not completion.logprobs:
        return completion  # the usual case: a copy takes 10 us
    logprobs = () if request.sampling.logprobs is None else completion.logprobs
    return replace(
        completion,
        text=repair_text(completion.text),
        reasoning=repair_text(completion.reasoning),
        model=repair_text(completion.model),
        id=repair_text(completion.id),
        logprobs=tuple(map(_repair_token, logprobs)),
        usage=usage,
    )


def _check_constraint(completion: Completion, request: GenerationRequest) -> None:
    match request.constraint:
        case Choices(values) if completion.text not in values:
            if completion.finish_reason is FinishReason.LENGTH:
                raise InvalidRequest(
                    "config.max_tokens was reached before the reply was one of the choices",
                    field="config.max_tokens",
                    metadata=spent_metadata(completion),
                )
            raise ContractError("the text is not one of the choices")
        case JsonSchema() if completion.finish_reason is FinishReason.STOP:
            # A stop string may cut the text. The backend checks the schema, because that may
            # take seconds.
            if not request.sampling.stop and not _is_json(completion.text):
                raise ContractError("the text is not JSON, although json_schema was requested")


def spent_metadata(completion: Completion) -> dict[str, str]:
    """Return the tokens and cost of a refused completion, as the metadata of its error."""
    usage = completion.usage
    spent = {
        "attempts": str(completion.attempts),
        "prompt_tokens": str(usage.prompt_tokens),
        "completion_tokens": str(usage.completion_tokens),
    }
    if usage.cost_usd is not None:
        spent["cost_usd"] = repr(usage.cost_usd)
    return spent


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except RecursionError:
        return True  # too deep for this parser
    except ValueError:
        return False
    return True


def repair_delta(delta: Delta) -> Delta:
    """Return the delta with text that can be sent."""
    if delta.text.isascii() and delta.reasoning.isascii():
        return delta
    return Delta(repair_text(delta.text), repair_text(delta.reasoning))


def check_stream(deltas: Iterable[str], completion: Completion) -> None:
    """Raise ContractError if the texts of the deltas do not add up to the completion's text."""
    if "".join(deltas) != completion.text:
        raise ContractError("the texts of the deltas do not add up to the completion's text")


def check_scoring(scoring: Scoring, request: ScoringRequest) -> Scoring:
    """Return scores that can be sent. Raises ContractError if they do not fit the request."""
    if tuple(score.text for score in scoring.scores) != request.continuations:
        raise ContractError("the scores are not those of the continuations, in their order")
    if any(math.isnan(score.logprob) for score in scoring.scores):
        raise ContractError("a log-probability is NaN")
    return replace(scoring, usage=repair_usage(scoring.usage))


def check_models(models: Sequence[Model], prefix: str) -> Sequence[Model]:
    """Return the models. Raises ContractError for a name without the prefix or a duplicate."""
    names = [check_type(model, Model, "get_available_models").name for model in models]
    for name in names:
        if not name.startswith(prefix):
            raise ContractError(f"the listed model {name!r} does not start with {prefix!r}")
    if len(set(names)) < len(names):
        raise ContractError("a model is listed twice")
    return models


def repair_usage(usage: Usage) -> Usage:
    """Return the usage. An impossible number becomes unknown, and the log names it."""
    odd = [name for name in _COUNTS if not 0 <= getattr(usage, name) <= _MAX_COUNT]
    cost = usage.cost_usd
    if cost is not None and not 0 <= cost < float("inf"):  # NaN, too
        odd.append("cost_usd")
    if not odd:
        return usage
    log.warning("a backend's usage is impossible", fields=", ".join(odd))
    unknown = Usage()
    return replace(usage, **{name: getattr(unknown, name) for name in odd})


def _repair_token(token: TokenLogprob) -> TokenLogprob:
    if token.token.isascii() and all(other.token.isascii() for other in token.top):
        return token
    top = tuple(TopLogprob(repair_text(other.token), other.logprob) for other in token.top)
    return TokenLogprob(repair_text(token.token), token.logprob, top)
