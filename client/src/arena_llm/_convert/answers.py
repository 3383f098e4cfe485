"""Completions and scores to and from the wire."""

from __future__ import annotations

from arena_llm.types import (
    Completion,
    FinishReason,
    Score,
    Scoring,
    Timings,
    TokenLogprob,
    TopLogprob,
    Usage,
)
from arena_llm.v1 import generate_pb2, score_pb2

_FINISH = {
    FinishReason.UNKNOWN: generate_pb2.FINISH_REASON_UNSPECIFIED,
    FinishReason.STOP: generate_pb2.FINISH_REASON_STOP,
    FinishReason.LENGTH: generate_pb2.FINISH_REASON_LENGTH,
    FinishReason.CONTENT_FILTER: generate_pb2.FINISH_REASON_CONTENT_FILTER,
}
_FINISH_NAMES = {number: reason for reason, number in _FINISH.items()}


def _usage_to_proto(usage: Usage) -> generate_pb2.Usage:
    return generate_pb2.Usage(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        cached_tokens=usage.cached_tokens,
        cost_usd=usage.cost_usd,
    )


def _usage_from_proto(proto: generate_pb2.Usage) -> Usage:
    return Usage(
        prompt_tokens=proto.prompt_tokens,
        completion_tokens=proto.completion_tokens,
        reasoning_tokens=proto.reasoning_tokens,
        cached_tokens=proto.cached_tokens,
        cost_usd=proto.cost_usd if proto.HasField("cost_usd") else None,
    )


def completion_to_proto(completion: Completion) -> generate_pb2.GenerateResponse:
    """One whole completion to the wire."""
    timings = completion.timings
    return generate_pb2.GenerateResponse(
        text=completion.text,
        reasoning=completion.reasoning,
        finish_reason=_FINISH[completion.finish_reason],
        usage=_usage_to_proto(completion.usage),
        model=completion.model,
        backend=completion.backend,
        id=completion.id,
        timings=generate_pb2.Timings(
            queue_seconds=timings.queue_seconds,
            first_token_seconds=timings.first_token_seconds,
            total_seconds=timings.total_seconds,
        ),
        logprobs=[
            generate_pb2.TokenLogprob(
                token=t.token,
                logprob=t.logprob,
                top=[generate_pb2.TopLogprob(token=a.token, logprob=a.logprob) for a in t.top],
            )
            for t in completion.logprobs
        ],
        attempts=completion.attempts,
    )


def completion_from_proto(proto: generate_pb2.GenerateResponse) -> Completion:
    """One whole completion from the wire."""
    timings = proto.timings
    return Completion(
        text=proto.text,
        reasoning=proto.reasoning,
        finish_reason=_FINISH_NAMES.get(proto.finish_reason, FinishReason.UNKNOWN),
        usage=_usage_from_proto(proto.usage),
        model=proto.model,
        backend=proto.backend,
        id=proto.id,
        timings=Timings(timings.queue_seconds, timings.first_token_seconds, timings.total_seconds),
        logprobs=tuple(
            TokenLogprob(t.token, t.logprob, tuple(TopLogprob(a.token, a.logprob) for a in t.top))
            for t in proto.logprobs
        ),
        attempts=proto.attempts,
    )


def scoring_to_proto(scoring: Scoring) -> score_pb2.ScoreResponse:
    """Scores to the wire."""
    return score_pb2.ScoreResponse(
        scores=[
            score_pb2.ContinuationScore(continuation=s.text, logprob=s.logprob, tokens=s.tokens)
            for s in scoring.scores
        ],
        model=scoring.model,
        backend=scoring.backend,
        usage=_usage_to_proto(scoring.usage),
    )


def scoring_from_proto(proto: score_pb2.ScoreResponse) -> Scoring:
    """Scores from the wire."""
    return Scoring(
        scores=tuple(Score(s.continuation, s.logprob, s.tokens) for s in proto.scores),
        usage=_usage_from_proto(proto.usage),
        model=proto.model,
        backend=proto.backend,
    )
