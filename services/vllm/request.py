"""From a request to what the engine takes."""

from __future__ import annotations

import re
from typing import Any

from vllm.sampling_params import RequestOutputKind, SamplingParams, StructuredOutputsParams

from arena_llm.types import (
    Choices,
    Constraint,
    GenerationRequest,
    JsonSchema,
    Regex,
    Sampling,
    ScoringRequest,
)
from services.common.errors import Unsupported
from services.common.local.constraints import check_schema_cost
from services.common.local.prompt import PromptReader
from services.vllm.reasoning import ReasoningSplitter

#: vLLM refuses more.
_HOTTEST = 2.0
#: Choices that are compared with each other, which takes 0.3 ms.
_MOST_COMPARED = 64


def prepare(
    reader: PromptReader,
    request: GenerationRequest,
    default_max_tokens: int,
    splitter: ReasoningSplitter | None,
    *,
    stream: bool,
) -> tuple[list[int], Any]:
    """The request as the engine takes it: its tokens and its SamplingParams.

    Raises InvalidRequest, ContextTooLong and Unsupported; nothing is ever truncated.

    splitter: given where the model writes its reasoning before the answer.
    """
    sampling, constraint = request.sampling, request.constraint
    if (sampling.temperature or 0.0) > _HOTTEST:
        raise Unsupported(
            f"config.temperature must be at most {_HOTTEST} for a vllm model",
            field="config.temperature",
        )
    prompt = reader.read(request.input)
    ends: list[int] = []
    if isinstance(constraint, Choices) and splitter is None:
        reader.check_choices(constraint, sampling.stop, sampling.max_tokens)
        # Bytes bound tokens: a choice always ends of itself.
        wanted = max(len(value.encode()) for value in constraint.values)
        cause = "constraint.choices"
        ends = _ending_tokens(reader, constraint.values) if wanted > 1 else []
    else:
        room = reader.context_length - len(prompt)
        wanted = sampling.max_tokens or max(1, min(default_max_tokens, room))
        cause = "config.max_tokens"
    reader.check_room(request.input, len(prompt), wanted, cause)
    # The parser of reasoning wants to see it grow.
    pieces = stream or splitter is not None
    params = _params(sampling, constraint, wanted, ends, stream=pieces)
    if splitter is not None:
        params.skip_special_tokens = splitter.skip_special_tokens
    return prompt, params


def prepare_scoring(
    reader: PromptReader, request: ScoringRequest
) -> tuple[list[int], list[list[int]]]:
    """The prompt's tokens and each continuation's. Raises InvalidRequest, ContextTooLong."""
    prompt = reader.read(request.input)
    continuations = reader.read_continuations(request.continuations)
    longest = max(map(len, continuations))
    reader.check_room(request.input, len(prompt), longest, "continuations")
    return prompt, continuations


def _ending_tokens(reader: PromptReader, choices: tuple[str, ...]) -> list[int]:
    """Tokens that are a choice by themselves and after which nothing can follow.

    Without them the engine takes another step, for the end token.
    """
    if len(choices) > _MOST_COMPARED:
        return []
    # A token that another choice goes on after would cut that one.
    if any(one in other[:-1] for one in choices for other in choices):
        return []
    encoded = map(reader.encoded_choice, choices)
    return [tokens[0] for tokens in encoded if len(tokens) == 1]


def _params(
    sampling: Sampling,
    constraint: Constraint | None,
    max_tokens: int,
    ends: list[int],
    *,
    stream: bool,
) -> Any:
    return SamplingParams(
        temperature=1.0 if sampling.temperature is None else sampling.temperature,
        top_p=1.0 if sampling.top_p is None else sampling.top_p,
        top_k=sampling.top_k or 0,
        max_tokens=max_tokens,
        seed=sampling.seed,
        stop=list(sampling.stop),
        stop_token_ids=ends,
        include_stop_str_in_output=bool(ends),
        presence_penalty=sampling.presence_penalty or 0.0,
        frequency_penalty=sampling.frequency_penalty or 0.0,
        # Under a constraint vLLM tells them after it; see Engine.
        logprobs=sampling.logprobs if constraint is None else None,
        structured_outputs=None if constraint is None else _structured(constraint),
        output_kind=RequestOutputKind.DELTA if stream else RequestOutputKind.FINAL_ONLY,
        skip_clone=True,  # it is this request's alone
    )


def _structured(constraint: Constraint) -> Any:
    match constraint:
        case Choices(values):
            # As a pattern, because a list of them has a bound of 2000.
            return StructuredOutputsParams(regex="|".join(map(re.escape, values)))
        case JsonSchema(schema):
            check_schema_cost(schema)
            return StructuredOutputsParams(json=schema)
        case Regex(pattern):
            return StructuredOutputsParams(regex=pattern)


def next_token(tokens: list[int]) -> Any:
    """SamplingParams for one step that tells these tokens' log-probabilities."""
    return SamplingParams(
        max_tokens=1,
        temperature=0.0,
        logprob_token_ids=tokens,
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
        skip_clone=True,
    )


def this_token(token: int, most: int) -> Any:
    """SamplingParams for one step that takes this token, and tells its log-probability and
    those of as many likeliest."""
    return SamplingParams(
        max_tokens=1,
        temperature=0.0,
        allowed_token_ids=[token],
        logprobs=most,
        output_kind=RequestOutputKind.FINAL_ONLY,
        skip_clone=True,
    )
