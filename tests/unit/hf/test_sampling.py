"""Drawing one token from a row of logits: distribution, truncation, random numbers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from arena_llm.types import DEFAULT_RETURNS, LogprobKind, ReturnOptions, Sampling
from services.hf.forward import Floats, log_softmax
from services.hf.sampling import Sampled, TokenSampler, sample

LOGITS = np.array([1.0, 3.0, 2.0, 0.0, -1.0], np.float32)
DRAWS = 4000
INF = math.inf


def draw(samplers: list[TokenSampler], logits: Floats = LOGITS) -> list[Sampled]:
    drawn = sample(np.tile(logits, (len(samplers), 1)), samplers, "hf_tiny")
    return [token for token in drawn if isinstance(token, Sampled)]


def sampler(
    returns: ReturnOptions = DEFAULT_RETURNS, prompt: Sequence[int] = (), **sampling: Any
) -> TokenSampler:
    return TokenSampler(Sampling(**sampling), None, returns, prompt, ends=(3,))


def frequencies(**sampling: Any) -> dict[int, float]:
    """How often each token is drawn, over many seeds."""
    drawn = draw([sampler(seed=seed, **sampling) for seed in range(DRAWS)])
    return {t: count / DRAWS for t, count in Counter(token.token for token in drawn).items()}


def softmax(logits: Floats, *kept: int) -> dict[int, float]:
    kept = kept or tuple(range(len(logits)))
    weights = {token: math.exp(logits[token]) for token in kept}
    return {token: weight / sum(weights.values()) for token, weight in weights.items()}


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        ({}, softmax(LOGITS)),
        ({"temperature": 1.0}, softmax(LOGITS)),
        ({"temperature": 2.0}, softmax(LOGITS / 2)),
        ({"temperature": 0.5}, softmax(LOGITS / 0.5)),
        ({"temperature": 100.0}, softmax(LOGITS / 100)),
        ({"temperature": 0.0}, {1: 1.0}),
        ({"temperature": 1e-9}, {1: 1.0}),
        ({"temperature": 1e-4}, {1: 1.0}),
        ({"top_k": 1}, {1: 1.0}),
        ({"top_k": 2}, softmax(LOGITS, 1, 2)),
        ({"top_k": 3, "temperature": 2.0}, softmax(LOGITS / 2, 0, 1, 2)),
        ({"top_k": 0}, softmax(LOGITS)),
        ({"top_k": 99}, softmax(LOGITS)),
        # The probabilities of the 1, 2 and 3 likeliest sum to 0.636, 0.870 and 0.956.
        ({"top_p": 0.5}, {1: 1.0}),
        ({"top_p": 0.7}, softmax(LOGITS, 1, 2)),
        ({"top_p": 0.9}, softmax(LOGITS, 0, 1, 2)),
        ({"top_p": 1.0}, softmax(LOGITS)),
        ({"top_p": 1e-9}, {1: 1.0}),
        # Among the two likeliest alone, the first has 0.73.
        ({"top_k": 2, "top_p": 0.7}, {1: 1.0}),
        # The second token has 0.37 of the first one's probability, the third 0.14.
        ({"min_p": 1.0}, {1: 1.0}),
        ({"min_p": 0.3}, softmax(LOGITS, 1, 2)),
        ({"min_p": 0.1}, softmax(LOGITS, 0, 1, 2)),
        ({"min_p": 0.3, "temperature": 2.0}, softmax(LOGITS / 2, 0, 1, 2)),
        ({"min_p": 0.0}, softmax(LOGITS)),
        (
            {"logit_bias": {0: 3.0, 1: -2.0}},
            softmax(np.array([4.0, 1.0, 2.0, 0.0, -1.0], np.float32)),
        ),
        ({"logit_bias": {4: 100.0}}, {4: 1.0}),
    ],
    ids=str,
)
def test_distribution(sampling: dict[str, Any], expected: dict[int, float]) -> None:
    shares = frequencies(**sampling)
    assert shares.keys() <= expected.keys()
    assert shares == pytest.approx(
        {token: p for token, p in expected.items() if token in shares}, abs=0.03
    )
    assert sum(p for token, p in expected.items() if token not in shares) < 0.005


def test_a_nucleus_larger_than_the_first_search_is_complete() -> None:
    """top_p keeps all of 1,000 equally likely tokens, and each can be drawn."""
    drawn = draw([sampler(seed=s, top_p=0.99) for s in range(500)], np.zeros(1000, np.float32))
    assert len({token.token for token in drawn}) > 350
    assert max(token.token for token in drawn) > 900


@pytest.mark.parametrize(
    ("sampling", "taken", "adjusted"),
    [
        ({"presence_penalty": 1.5}, [1, 1, 1, 2], [1.0, 1.5, 0.5, 0.0, -1.0]),
        ({"frequency_penalty": 0.5}, [1, 1, 1, 2], [1.0, 1.5, 1.5, 0.0, -1.0]),
        ({"presence_penalty": -2, "frequency_penalty": 2}, [4, 4], [1.0, 3.0, 2.0, 0.0, -3.0]),
        ({"repetition_penalty": 2.0}, [1, 1, 4], [1.0, 1.5, 2.0, 0.0, -2.0]),
        ({"repetition_penalty": 0.5}, [1], [1.0, 6.0, 2.0, 0.0, -1.0]),
        ({"repetition_penalty": 2.0, "logit_bias": {4: 3.0}}, [4], [1.0, 3.0, 2.0, 0.0, 1.0]),
        ({"min_tokens": 2}, [1], [1.0, 3.0, 2.0, -INF, -1.0]),
        ({"min_tokens": 2}, [1, 1], LOGITS.tolist()),
        ({}, [1, 1, 1], LOGITS.tolist()),
        ({"presence_penalty": 2}, [], LOGITS.tolist()),
    ],
    ids=str,
)
def test_penalties(sampling: dict[str, Any], taken: list[int], adjusted: list[float]) -> None:
    penalized = sampler(**sampling)
    for token in taken:
        penalized.record_token(token)
    logits = LOGITS.copy()
    penalized.adjust(logits)
    assert logits.tolist() == adjusted


def test_repetition_penalty_counts_the_prompt_but_the_others_do_not() -> None:
    settings: dict[str, Any] = {"repetition_penalty": 2.0, "presence_penalty": 1.0}
    penalized = sampler(prompt=(2, 2), **settings)
    penalized.record_token(1)
    logits = LOGITS.copy()
    penalized.adjust(logits)
    assert logits.tolist() == [1.0, 0.5, 1.0, 0.0, -1.0]


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        ({}, softmax(LOGITS)),
        ({"temperature": 2.0}, softmax(LOGITS / 2)),
        ({"top_k": 2}, softmax(LOGITS, 1, 2)),
        (
            {"min_p": 0.3, "logit_bias": {0: 1.5}},
            softmax(np.add(LOGITS, [1.5, 0, 0, 0, 0]), 0, 1, 2),
        ),
        ({"temperature": 0.0}, {1: 1.0}),
    ],
    ids=str,
)
def test_sampled_logprobs_are_those_of_the_drawn_distribution(
    sampling: dict[str, Any], expected: dict[int, float]
) -> None:
    returns = ReturnOptions(top_logprobs=5, logprob_kind=LogprobKind.SAMPLED)
    [drawn] = draw([sampler(returns, seed=1, **sampling)])
    assert drawn.scored is not None
    shares = {token: math.exp(logprob) for token, logprob in drawn.scored.top}
    assert {token for token, share in shares.items() if share} == expected.keys()
    assert {t: share for t, share in shares.items() if share} == pytest.approx(expected, abs=1e-5)
    assert drawn.scored.logprob == dict(drawn.scored.top)[drawn.token]


def test_the_requested_tokens_follow_the_likeliest_ones() -> None:
    returns = ReturnOptions(top_logprobs=2, logprob_token_ids=(4, 1))
    [drawn] = draw([sampler(returns, temperature=0.0)])
    assert drawn.scored is not None
    assert [token for token, _ in drawn.scored.top] == [1, 2, 4, 1]
    raw = log_softmax(LOGITS).tolist()
    assert [logprob for _, logprob in drawn.scored.top] == pytest.approx(
        [raw[i] for i in (1, 2, 4, 1)]
    )


def test_logprobs_are_taken_before_temperature_and_penalties() -> None:
    logprobs_before = log_softmax(LOGITS)
    penalized = sampler(ReturnOptions(top_logprobs=2), temperature=0.0, presence_penalty=2)
    penalized.record_token(1)
    penalized.record_token(1)
    [drawn] = draw([penalized])
    assert drawn.token == 2, "the penalty holds for the draw"
    assert drawn.scored is not None
    assert drawn.scored.logprob == pytest.approx(float(logprobs_before[2]))
    assert [token for token, _ in drawn.scored.top] == [1, 2]
    assert [logprob for _, logprob in drawn.scored.top] == pytest.approx(
        [float(logprobs_before[1]), float(logprobs_before[2])]
    )


@pytest.mark.parametrize(("requested", "alternatives"), [(None, 0), (0, 0), (1, 1), (20, 5)])
def test_the_requested_number_of_alternatives(requested: int | None, alternatives: int) -> None:
    [drawn] = draw([sampler(ReturnOptions(top_logprobs=requested), temperature=0.0)])
    assert (drawn.scored is not None) == (requested is not None)
    assert len(drawn.scored.top if drawn.scored else ()) == alternatives


def test_a_row_draws_the_same_alone_and_in_a_batch() -> None:
    settings = [{"seed": s, "temperature": 0.5 + s / 10, "top_k": s % 4} for s in range(32)]
    together = draw([sampler(**options) for options in settings])
    assert together == [draw([sampler(**options)])[0] for options in settings]


def test_a_seed_repeats_its_random_numbers() -> None:
    def tokens(**sampling: Any) -> list[int]:
        drawing = sampler(**sampling)
        return [draw([drawing])[0].token for _ in range(40)]

    assert tokens(seed=7) == tokens(seed=7)
    assert len({tuple(tokens(seed=seed)) for seed in (7, 8, 2**62)}) == 3
    assert tokens() != tokens()
