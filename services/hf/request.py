"""Turns requests into the Sequences and ScoringJobs of the engine."""

from __future__ import annotations

from arena_llm.types import GenerationRequest, ScoringRequest
from services.hf.loading import LoadedModel
from services.hf.sampling import TokenSampler
from services.hf.sequence import ScoringJob, ScoringSink, Sequence, Sink
from services.hf.text import TextStream


def prepare_generation(
    model: LoadedModel, request: GenerationRequest, default_max_tokens: int, sink: Sink
) -> Sequence:
    """The request as a Sequence. Raises InvalidRequest and ContextTooLong."""
    prompt, max_tokens = model.reader.read_generation(request, default_max_tokens)
    constraint, sampling = request.constraint, request.sampling
    matcher = None if constraint is None else model.grammars.compile(constraint)
    return Sequence(
        model=model.name,
        prompt=prompt,
        max_tokens=max_tokens,
        eos=model.eos,
        vocabulary=model.vocabulary,
        sampler=TokenSampler(sampling, matcher),
        text=TextStream(sampling.stop, strip_space=model.vocabulary.spaced and matcher is None),
        sink=sink,
    )


def prepare_scoring(model: LoadedModel, request: ScoringRequest, sink: ScoringSink) -> ScoringJob:
    """The request as a ScoringJob. Raises InvalidRequest and ContextTooLong."""
    prompt, continuations = model.reader.read_scoring(request)
    return ScoringJob(prompt, continuations, sink)
