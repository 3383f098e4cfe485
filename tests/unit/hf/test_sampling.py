"""Drawing one token from a row of logits: distribution, truncation, random numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from arena_llm.types import DEFAULT_RETURNS, ReturnOptions, Sampling
from services.hf.sampling import Sampled, TokenSampler, sample

LOGITS = torch.tensor([1.0, 3.0, 2.0, 0.0, -1.0])
DRAWS = 4000


def draw(samplers: list[TokenSampler], logits: torch.Tensor = LOGITS) -> list[Sampled]:
    drawn = sample(logits.repeat(len(samplers), 1), samplers, "hf_tiny")
    return [token for token in drawn if isinstance(token, Sampled)]


def sampler(
    returns: ReturnOptions = DEFAULT_RETURNS, prompt: Sequence[int] = (), **sampling: Any
) -> TokenSampler:
    return TokenSampler(Sampling(**sampling), None, returns, prompt, ends=(3,))


def frequencies(**sampling: Any) -> dict[int, float]:
    """How often each token is drawn, over many seeds."""
    drawn = draw([sampler(seed=seed, **sampling) for seed in range(DRAWS)])
    return {t: count / DRAWS for t, count in Counter(token.token for token in drawn).items()}


def softmax(logits: torch.Tensor, *kept: int) -> dict[int, float]:
    kept = kept or tuple(range(len(logits)))
    weights = {token: float(logits[token].exp()) for token in kept}
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
    drawn = draw([sampler(seed=s, top_p=0.99) for s in range(500)], torch.zeros(1000))
    assert len({token.token for token in drawn}) > 350
    assert max(token.token for token in drawn) > 900


@pytest.mark.parametrize(
    ("sampling", "taken", "adjusted"),
    [
        ({"presence_penalty": 1.5}, [1, 1, 1, 2], [1.0, 1.5, 0.5, 0.0, -1.0]),
        ({"frequency_penalty": 0.5}, [1, 1, 1, 2], [1.0, 1.5, 1.5, 0.0, -1.0]),
        ({"presence_penalty": -2, "frequency_penalty": 2}, [4, 4], [1.0, 3.0, 2.0, 0.0, -3.0]),
        ({}, [1, 1, 1], LOGITS.tolist()),
        ({"presence_penalty": 2}, [], LOGITS.tolist()),
    ],
    ids=str,
)
def test_penalties(sampling: dict[str, Any], taken: list[int], adjusted: list[float]) -> None:
    penalized = sampler(**sampling)
    for token in taken:
        penalized.record_token(token)
    logits = LOGITS.clone()
    penalized.adjust(logits)
    assert logits.tolist() == adjusted


def test_logprobs_are_taken_before_temperature_and_penalties() -> None:
    logprobs_before = LOGITS.log_softmax(-1)
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
