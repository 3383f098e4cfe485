"""Turns requests into the Sequences and ScoringJobs of the engine."""

from __future__ import annotations

from arena_llm.types import GenerationRequest, ScoringRequest
from services.common.errors import Unsupported
from services.common.local.features import calls_tools, hides_reasoning
from services.hf.loading import LoadedModel
from services.hf.parsing import ReplyParser
from services.hf.sampling import TokenSampler
from services.hf.sequence import ScoringJob, ScoringSink, Sequence, Sink
from services.hf.text import TextStream

#: Tokens at the end of a prompt that are searched for the beginning of reasoning.
_END_TOKENS = 16


def prepare_generation(
    model: LoadedModel, request: GenerationRequest, default_max_tokens: int, sink: Sink
) -> Sequence:
    """The request as a Sequence. Raises InvalidRequest, ContextTooLong and Unsupported."""
    prompt, max_tokens = model.reader.read_generation(request, default_max_tokens)
    constraint, sampling = request.constraint, request.sampling
    matcher = None if constraint is None else model.grammars.compile(constraint)
    stop_ids = frozenset(sampling.stop_token_ids)
    # An end token with a text of its own would cut a text that has it.
    eos = model.eos if matcher is None else model.grammars.ends
    if sampling.ignore_eos:
        eos = frozenset()
    sampler = TokenSampler(
        sampling, matcher, request.returns, prompt, eos | stop_ids, model.suppressed
    )
    return Sequence(
        served_by=model.served_by,
        prompt=prompt,
        max_tokens=max_tokens,
        eos=eos,
        vocabulary=model.vocabulary,
        sampler=sampler,
        text=TextStream(
            sampling.stop,
            strip_space=model.vocabulary.spaced,
            strip_end=model.vocabulary.trails,
            specials=model.vocabulary.specials,
        ),
        sink=sink,
        stop_ids=stop_ids,
        min_tokens=sampling.min_tokens or 0,
        returns=request.returns,
        fills_context=model.reader.fills_context(request, len(prompt), max_tokens),
        parser=_make_parser(model, request, prompt),
    )


def _make_parser(
    model: LoadedModel, request: GenerationRequest, prompt: list[int]
) -> ReplyParser | None:
    """What separates the reply's parts; None if it can have only text.

    A constraint decides the whole reply, so it leaves no room for reasoning.
    """
    tools = model.entry.tool_parser if calls_tools(request) else None
    reasons = model.reader.features.reasoning and request.constraint is None
    if tools is None and not reasons:
        return None
    end = model.tokenizer.decode(prompt[-_END_TOKENS:])
    return ReplyParser(end, reasons=reasons, hides=hides_reasoning(request), tools=tools)


def prepare_scoring(model: LoadedModel, request: ScoringRequest, sink: ScoringSink) -> ScoringJob:
    """The request as a ScoringJob. Raises InvalidRequest, ContextTooLong and Unsupported."""
    if request.prompt_logprobs and model.reader.encoder_decoder:
        raise Unsupported(
            f"{model.name} is an encoder-decoder model, which gives the tokens of its prompt no "
            "probability: leave prompt_logprobs out",
            field="prompt_logprobs",
        )
    prompt, continuations = model.reader.read_scoring(request)
    return ScoringJob(
        prompt, continuations, sink, request.top_logprobs or 0, request.prompt_logprobs
    )
