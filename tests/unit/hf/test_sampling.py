"""One token from one row of logits: the distribution, the bounds, the numbers."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch

from arena_llm.types import Sampling
from services.hf.sampling import Sampled, TokenSampler, sample

LOGITS = torch.tensor([1.0, 3.0, 2.0, 0.0, -1.0])
DRAWS = 4000


def draw(samplers: list[TokenSampler], logits: torch.Tensor = LOGITS) -> list[Sampled]:
    drawn = sample(logits.repeat(len(samplers), 1), samplers, "hf_tiny")
    return [token for token in drawn if isinstance(token, Sampled)]


def sampler(**sampling: Any) -> TokenSampler:
    return TokenSampler(Sampling(**sampling), None)


def frequencies(**sampling: Any) -> dict[int, float]:
    """How often each token comes, over many seeds."""
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
        # The likeliest has 0.636, the two likeliest 0.870, the three 0.956.
        ({"top_p": 0.5}, {1: 1.0}),
        ({"top_p": 0.7}, softmax(LOGITS, 1, 2)),
        ({"top_p": 0.9}, softmax(LOGITS, 0, 1, 2)),
        ({"top_p": 1.0}, softmax(LOGITS)),
        ({"top_p": 1e-9}, {1: 1.0}),
        # Of the two likeliest alone, the first has 0.73.
        ({"top_k": 2, "top_p": 0.7}, {1: 1.0}),
    ],
    ids=str,
)
def test_distribution(sampling: dict[str, Any], expected: dict[int, float]) -> None:
    found = frequencies(**sampling)
    assert found.keys() <= expected.keys()
    assert found == pytest.approx(
        {token: p for token, p in expected.items() if token in found}, abs=0.03
    )
    assert sum(p for token, p in expected.items() if token not in found) < 0.005


def test_a_nucleus_wider_than_the_first_look_is_whole() -> None:
    """1,000 equal tokens, of which top_p keeps them all: none of them is favoured."""
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
        penalized.took(token)
    logits = LOGITS.clone()
    penalized.adjust(logits)
    assert logits.tolist() == adjusted


def test_logprobs_are_those_before_temperature_and_penalties() -> None:
    told = LOGITS.log_softmax(-1)
    asked = sampler(logprobs=2, temperature=0.0, presence_penalty=2)
    asked.took(1)
    asked.took(1)
    [drawn] = draw([asked])
    assert drawn.token == 2, "the penalty holds for the draw"
    assert drawn.logprob == pytest.approx(float(told[2]))
    assert [token for token, _ in drawn.top] == [1, 2]
    assert [logprob for _, logprob in drawn.top] == pytest.approx([float(told[1]), float(told[2])])


@pytest.mark.parametrize(("wanted", "alternatives"), [(None, 0), (0, 0), (1, 1), (20, 5)])
def test_as_many_alternatives_as_asked_for(wanted: int | None, alternatives: int) -> None:
    [drawn] = draw([sampler(logprobs=wanted, temperature=0.0)])
    assert len(drawn.top) == alternatives
    assert (drawn.logprob != 0) == (wanted is not None)


def test_a_row_draws_the_same_alone_and_among_others() -> None:
    settings = [{"seed": s, "temperature": 0.5 + s / 10, "top_k": s % 4} for s in range(32)]
    together = draw([sampler(**one) for one in settings])
    assert together == [draw([sampler(**one)])[0] for one in settings]


def test_a_seed_gives_the_same_numbers_and_none_gives_others() -> None:
    def tokens(**sampling: Any) -> list[int]:
        drawing = sampler(**sampling)
        return [draw([drawing])[0].token for _ in range(40)]

    assert tokens(seed=7) == tokens(seed=7)
    assert len({tuple(tokens(seed=seed)) for seed in (7, 8, 2**62)}) == 3
    assert tokens() != tokens()
