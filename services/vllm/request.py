"""Turns requests into tokens and vLLM's SamplingParams."""

from __future__ import annotations

import re
from typing import Any

from vllm.sampling_params import RequestOutputKind, SamplingParams, StructuredOutputsParams

from arena_llm.types import Choices, Constraint, GenerationRequest, JsonSchema, Regex
from services.common.errors import Unsupported
from services.common.local.checks import check_schema_cost
from services.common.local.request import PromptReader, sampling_settings
from services.vllm.response import ReasoningSplitter

#: vLLM refuses a higher temperature.
_MAX_TEMPERATURE = 2.0
#: Most choices that are compared with each other, which takes 0.3 ms.
_MAX_COMPARED = 64


def prepare_generation(
    reader: PromptReader,
    request: GenerationRequest,
    default_max_tokens: int,
    splitter: ReasoningSplitter | None,
    *,
    stream: bool,
) -> tuple[list[int], Any]:
    """The prompt's tokens and the request's SamplingParams.

    splitter: set if the model writes its reasoning before the answer. Raises InvalidRequest,
    ContextTooLong and Unsupported; nothing is ever truncated.
    """
    settings, constraint = sampling_settings(request.sampling), request.constraint
    if settings["temperature"] > _MAX_TEMPERATURE:
        raise Unsupported(
            f"config.temperature must be at most {_MAX_TEMPERATURE} for a vllm model",
            field="config.temperature",
        )
    prompt, settings["max_tokens"] = reader.read_generation(
        request, default_max_tokens, reasons=splitter is not None
    )
    settings["stop"] = list(settings["stop"])
    if constraint is not None:
        settings["structured_outputs"] = _structured_outputs(constraint)
        # vLLM would return them after the constraint; VllmEngine computes those before it.
        settings["logprobs"] = None
    if isinstance(constraint, Choices) and splitter is None and settings["max_tokens"] > 1:
        settings["stop_token_ids"] = _find_ending_tokens(reader, constraint.values)
        settings["include_stop_str_in_output"] = bool(settings["stop_token_ids"])
    if splitter is not None:
        settings["skip_special_tokens"] = splitter.skip_special_tokens
    # The parser of the reasoning needs to see the text grow.
    in_pieces = stream or splitter is not None
    output_kind = RequestOutputKind.DELTA if in_pieces else RequestOutputKind.FINAL_ONLY
    # skip_clone: no other request uses this object.
    return prompt, SamplingParams(**settings, output_kind=output_kind, skip_clone=True)


def _find_ending_tokens(reader: PromptReader, choices: tuple[str, ...]) -> list[int]:
    """Tokens that are a whole choice, and after which no other choice continues.

    They end the text without another step of the engine for the end token.
    """
    if len(choices) > _MAX_COMPARED:
        return []
    # A token that begins another choice would cut that choice.
    if any(choice in other[:-1] for choice in choices for other in choices):
        return []
    encoded = map(reader.encode_choice, choices)
    return [tokens[0] for tokens in encoded if len(tokens) == 1]


def _structured_outputs(constraint: Constraint) -> Any:
    match constraint:
        case Choices(values):
            # As a pattern, because vLLM allows at most 2000 choices in a list.
            return StructuredOutputsParams(regex="|".join(map(re.escape, values)))
        case JsonSchema(schema):
            check_schema_cost(schema)
            return StructuredOutputsParams(json=schema)
        case Regex(pattern):
            return StructuredOutputsParams(regex=pattern)


def make_scoring_params(tokens: list[int]) -> Any:
    """SamplingParams for one step that returns the log-probabilities of these tokens."""
    return SamplingParams(
        max_tokens=1,
        temperature=0.0,
        logprob_token_ids=tokens,
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
        skip_clone=True,
    )


def make_replay_params(token: int, top: int) -> Any:
    """SamplingParams for one step that takes this token.

    It returns the token's log-probability and those of the `top` likeliest tokens.
    """
    return SamplingParams(
        max_tokens=1,
        temperature=0.0,
        allowed_token_ids=[token],
        logprobs=top,
        output_kind=RequestOutputKind.FINAL_ONLY,
        skip_clone=True,
    )
