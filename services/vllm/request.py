"""Turns requests into tokens and vLLM's SamplingParams."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from vllm.sampling_params import RequestOutputKind, SamplingParams, StructuredOutputsParams

from arena_llm.types import (
    AnyJsonObject,
    Choices,
    Constraint,
    GenerationRequest,
    Grammar,
    JsonSchema,
    LogprobKind,
    Regex,
    ReturnOptions,
    StopMatch,
)
from services.common.errors import Unsupported
from services.common.local.grammars import ANY_OBJECT, check_schema_cost, read_grammar
from services.common.local.sampling import sampling_settings
from services.common.local.vocabulary import Vocabulary
from services.vllm.parsing import VllmReplyParser
from services.vllm.start import StartedEngine
from services.vllm.text import AnswerEnd

#: vLLM refuses a higher temperature.
_MAX_TEMPERATURE = 2.0
#: Most choices that are compared with each other, which takes 0.3 ms.
_MAX_COMPARED = 64


@dataclass(frozen=True)
class PreparedGeneration:
    """A request as the engine takes it.

    prompt: its tokens. params: vLLM's SamplingParams. parser: of the reply; None if it can have
    only text. choice_ends: tokens that end the completion and are a choice. stop, stop_tokens: what
    ends the answer, but not the reasoning; the engine does not know them. min_tokens: as in the
    request.
    """

    prompt: list[int]
    params: Any
    parser: VllmReplyParser | None
    choice_ends: frozenset[int]
    stop: tuple[str, ...]
    stop_tokens: tuple[int, ...]
    min_tokens: int

    def make_end(self, vocabulary: Vocabulary | None) -> AnswerEnd:
        """What ends the answer before the model does."""
        special = {} if vocabulary is None else vocabulary.find_special(self.stop)
        tokens = {token: StopMatch(token_id=token) for token in self.stop_tokens}
        tokens |= {token: StopMatch(text=text) for token, text in special.items()}
        return AnswerEnd(self.stop, tokens, self.min_tokens)


def prepare_generation(
    started: StartedEngine,
    request: GenerationRequest,
    default_max_tokens: int,
    *,
    stream: bool,
) -> PreparedGeneration:
    """The request's prompt, SamplingParams and parser.

    Raises InvalidRequest, ContextTooLong and Unsupported; nothing is ever truncated.
    """
    settings, constraint = sampling_settings(request.sampling), request.constraint
    reader, returns = started.reader, request.returns
    _check_returns(started, returns)
    if settings["temperature"] > _MAX_TEMPERATURE:
        raise Unsupported(
            f"config.temperature must be at most {_MAX_TEMPERATURE} for a vllm model",
            field="config.temperature",
        )
    prompt, settings["max_tokens"] = reader.read_generation(
        request, default_max_tokens, reasons=started.parsers.reasons
    )
    stop, stop_tokens = settings.pop("stop"), settings["stop_token_ids"]
    settings["stop_token_ids"] = [] if started.parsers.reasons else [*stop_tokens]
    settings["logit_bias"] = dict(settings["logit_bias"]) or None
    choice_ends: list[int] = []
    if constraint is not None:
        settings["structured_outputs"] = _structured_outputs(constraint)
        if isinstance(constraint, Choices) and settings["max_tokens"] > 1:
            choice_ends = _find_choice_ends(started, constraint.values)
        # Otherwise a token of the text that is among the end tokens would cut it.
        settings["ignore_eos"] = True
        settings["stop_token_ids"] = [*started.end_tokens, *choice_ends]
    elif (calls := started.parsers.make_structure(request)) is not None:
        for tool in request.tools:
            check_schema_cost(tool.parameters_json_schema or "{}", "tools")
        settings["structured_outputs"] = StructuredOutputsParams(**calls)
    settings["thinking_token_budget"] = request.reasoning.budget_tokens
    if _can_return_logprobs(started, request):
        settings["logprobs"] = None if returns.logprob_token_ids else returns.top_logprobs
        settings["logprob_token_ids"] = list(returns.logprob_token_ids) or None
    parser = started.parsers.make(request, prompt)
    if parser is not None:
        settings["skip_special_tokens"] = parser.skip_special_tokens
    settings["detokenize"] = started.vocabulary is None
    settings["include_stop_str_in_output"] = bool(choice_ends)
    # Parsers and stop strings need to see the text grow.
    in_pieces = stream or parser is not None or bool(stop or stop_tokens)
    output_kind = RequestOutputKind.DELTA if in_pieces else RequestOutputKind.FINAL_ONLY
    return PreparedGeneration(
        prompt,
        # skip_clone: no other request uses this object.
        SamplingParams(**settings, output_kind=output_kind, skip_clone=True),
        parser,
        frozenset(choice_ends),
        stop,
        stop_tokens if started.parsers.reasons else (),
        settings["min_tokens"],
    )


def _find_choice_ends(started: StartedEngine, choices: tuple[str, ...]) -> list[int]:
    """Tokens that are a whole choice, and after which no other choice continues.

    They end the text without another step of the engine for the end token. Not for a model that
    may write such a token in its reasoning.
    """
    if started.parsers.reasons or len(choices) > _MAX_COMPARED:
        return []
    # A token that begins another choice would cut that choice.
    if any(choice in other[:-1] for choice in choices for other in choices):
        return []
    encoded = map(started.reader.encode_choice, choices)
    return [tokens[0] for tokens in encoded if len(tokens) == 1]


def _structured_outputs(constraint: Constraint) -> Any:
    match constraint:
        case Choices(values):
            # As a pattern, because vLLM allows at most 2000 choices in a list.
            return StructuredOutputsParams(regex="|".join(map(re.escape, values)))
        case JsonSchema(schema):
            check_schema_cost(schema)
            return StructuredOutputsParams(json=schema)
        case AnyJsonObject():
            return StructuredOutputsParams(json=ANY_OBJECT)
        case Grammar():
            return StructuredOutputsParams(grammar=read_grammar(constraint))
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


def make_top_params(top: int) -> Any:
    """SamplingParams for one step that returns the likeliest tokens."""
    return SamplingParams(
        max_tokens=1,
        temperature=0.0,
        logprobs=top,
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
        skip_clone=True,
    )


def make_replay_params(token: int, returns: ReturnOptions) -> list[Any]:
    """SamplingParams of the steps that return a token's log-probability, and the alternatives."""
    replay = SamplingParams(
        max_tokens=1,
        temperature=0.0,
        allowed_token_ids=[token],
        logprobs=returns.top_logprobs or 0,
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
        skip_clone=True,
    )
    others = [*returns.logprob_token_ids]
    return [make_scoring_params(others), replay] if others else [replay]


def wants_logprobs(returns: ReturnOptions) -> bool:
    """True if the request asks for log-probabilities."""
    return returns.top_logprobs is not None or bool(returns.logprob_token_ids)


def returns_logprobs(params: Any) -> bool:
    """True if vLLM returns the log-probabilities of these SamplingParams' request itself."""
    return params.logprobs is not None or bool(params.logprob_token_ids)


def name_group(params: Any) -> str:
    """The group of a request for GroupGate; empty if it goes with all others."""
    if params.logprob_token_ids:
        return "chosen"
    return "likeliest" if params.logprobs else ""


def _can_return_logprobs(started: StartedEngine, request: GenerationRequest) -> bool:
    """True if vLLM's own log-probabilities are those that the request asks for.

    It computes RAW ones after the constraint, and returns either the likeliest tokens or chosen
    ones. VllmEngine asks for the others step by step.
    """
    returns = request.returns
    calls = started.parsers.make_structure(request)
    if (
        request.constraint is not None or calls is not None
    ) and started.logprob_kind is LogprobKind.RAW:
        return False
    return not (returns.top_logprobs and returns.logprob_token_ids)


def _check_returns(started: StartedEngine, returns: ReturnOptions) -> None:
    """Raise Unsupported for what this engine cannot return."""
    name = started.reader.name
    wanted = returns.logprob_kind or LogprobKind.RAW
    if wants_logprobs(returns) and wanted is not started.logprob_kind:
        mode = "processed_logprobs" if wanted is LogprobKind.SAMPLED else "raw_logprobs"
        raise Unsupported(
            f"the engine of {name} does not return {wanted} log-probabilities: leave "
            f"returns.logprob_kind out, or set engine_args.logprobs_mode to {mode}",
            field="returns.logprob_kind",
        )
    if returns.raw_text and started.vocabulary is None:
        raise Unsupported(
            f"the tokenizer of {name} does not give the bytes of its tokens: leave "
            "returns.raw_text out",
            field="returns.raw_text",
        )
