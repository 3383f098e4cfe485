"""From a request to what the engine takes."""

from __future__ import annotations

from arena_llm.types import Choices, GenerationRequest, ScoringRequest
from services.hf.loading import LoadedModel
from services.hf.sampling import TokenSampler
from services.hf.scoring import ScoringJob, ScoringSink
from services.hf.sequence import Sequence, Sink
from services.hf.text import TextStream


def prepare(
    model: LoadedModel, request: GenerationRequest, default_max_tokens: int, sink: Sink
) -> Sequence:
    """The request as the engine takes it.

    Raises InvalidRequest and ContextTooLong; nothing is ever truncated.
    """
    reader = model.reader
    tokens = reader.read(request.input)
    constraint, sampling = request.constraint, request.sampling
    if isinstance(constraint, Choices):
        reader.check_choices(constraint, sampling.stop, sampling.max_tokens)
        # Bytes bound tokens: a choice always ends of itself.
        wanted = max(len(value.encode()) for value in constraint.values)
        cause = "constraint.choices"
    else:
        room = reader.context_length - (0 if reader.encoder_decoder else len(tokens))
        wanted = sampling.max_tokens or max(1, min(default_max_tokens, room))
        cause = "config.max_tokens"
    reader.check_room(request.input, len(tokens), wanted, cause)
    matcher = None if constraint is None else model.grammars.compile(constraint)
    return Sequence(
        model=model.name,
        prompt=tokens,
        max_tokens=wanted,
        eos=model.eos,
        vocabulary=model.vocabulary,
        sampler=TokenSampler(sampling, matcher),
        text=TextStream(sampling.stop, strip_space=model.vocabulary.spaced and matcher is None),
        sink=sink,
    )


def prepare_scoring(model: LoadedModel, request: ScoringRequest, sink: ScoringSink) -> ScoringJob:
    """The request as the engine takes it. Raises InvalidRequest and ContextTooLong."""
    reader = model.reader
    tokens = reader.read(request.input)
    continuations = reader.read_continuations(request.continuations)
    longest = max(map(len, continuations))
    reader.check_room(request.input, len(tokens), longest, "continuations")
    return ScoringJob(tokens, continuations, sink)
