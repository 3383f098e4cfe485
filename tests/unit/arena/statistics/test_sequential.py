"""Stopping rules keep their promise, and chosen pairs tell more than a round robin."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.integrate import quad
from scipy.special import expit
from scipy.stats import beta

from arena.statistics.bradley_terry import Design, fit
from arena.statistics.intervals import bounded_interval
from arena.statistics.sequential import ENOUGH, choose_pairs, e_value, should_stop

Floats = NDArray[np.float64]


@pytest.mark.parametrize(("won", "lost"), [(0, 0), (3, 1), (10, 10), (40, 12.5)])
def test_an_e_value_is_the_mixtures_likelihood_over_that_of_equal_players(
    won: float, lost: float
) -> None:
    def mixture(score: float) -> float:
        return float((2 * score) ** won * (2 * (1 - score)) ** lost * beta.pdf(score, 20, 20))

    assert e_value(won, lost) == pytest.approx(quad(mixture, 0, 1)[0])
    assert e_value(won, lost) == e_value(lost, won)


def test_an_e_value_of_many_games_is_finite() -> None:
    assert math.isfinite(e_value(1e6, 0))
    with pytest.raises(ValueError, match="negative"):
        e_value(-1, 0)


def looks(score: float, runs: int, seed: int) -> tuple[Floats, Floats]:
    """The wins of runs of up to 800 games, after every ten games."""
    rng = np.random.default_rng(seed)
    wins = np.cumsum(rng.random((runs, 800)) < score, axis=1)[:, 9::10]
    return wins, np.arange(10, 801, 10)


def test_equal_players_are_rarely_called_different_however_often_one_looks() -> None:
    """A 95 % test after every ten games errs in a third of the runs; the e-value in under 5 %."""
    wins, n = looks(0.5, 400, 0)
    evidence = np.vectorize(e_value)(wins, n - wins)
    assert (evidence >= ENOUGH).any(axis=1).mean() < 0.05
    distance = np.abs(wins - n / 2) / np.sqrt(n / 4)
    assert (distance > 1.96).any(axis=1).mean() > 0.25


@pytest.mark.parametrize(("score", "most"), [(0.7, 110), (0.8, 60)])
def test_a_clear_difference_is_found_with_a_fraction_of_800_games(score: float, most: int) -> None:
    wins, n = looks(score, 200, 1)
    found = np.vectorize(e_value)(wins, n - wins) >= ENOUGH
    assert found.any(axis=1).all()
    assert n[found.argmax(axis=1)].mean() < most


def test_stopping_at_a_width_keeps_the_intervals_promise() -> None:
    wins, n = looks(0.7, 800, 2)
    low, high = bounded_interval(n, wins, 0 * wins)
    stop = (high - low < 0.2).argmax(axis=1)
    rows = np.arange(len(stop))
    covered = (low[rows, stop] <= 0.7) & (high[rows, stop] >= 0.7)
    assert covered.mean() >= 0.93


def test_when_to_stop() -> None:
    assert not should_stop([(5, 5)])
    assert should_stop([(60, 10)]).reason == "decided"
    # Three claims need three times the evidence.
    enough = next(won for won in range(8, 99) if e_value(won, 8) >= ENOUGH)
    assert should_stop([(enough, 8)])
    assert not should_stop([(enough, 8)] * 3)
    narrow = [(1480.0, 1520.0), (1490.0, 1530.0)]
    assert should_stop([(5, 5)], narrow, width=50).reason == "narrow"
    assert not should_stop([(5, 5)], [*narrow, (1400.0, math.inf)], width=50)
    assert not should_stop([])


def test_every_pair_plays_twice_before_any_choice() -> None:
    games = np.zeros((4, 4))
    chosen = choose_pairs(games, games, 12)
    assert sorted(chosen) == sorted([*combinations(range(4), 2)] * 2)


def test_chosen_pairs_lower_the_variance_of_all_ratings_more_than_a_round_robin() -> None:
    size, rng = 8, np.random.default_rng(3)
    strengths = np.linspace(0, 800, size) * math.log(10) / 400
    pairs = list(combinations(range(size), 2))

    def play(counts: Floats, games: Floats, points: Floats) -> None:
        for (a, b), count in zip(pairs, counts, strict=True):
            won = rng.binomial(count, expit(strengths[a] - strengths[b]))
            for place, value in (((a, b), won), ((b, a), count - won)):
                games[place] += count
                points[place] += value

    def variance(games: Floats, points: Floats) -> float:
        rows = np.zeros((len(pairs), size))
        for number, (a, b) in enumerate(pairs):
            rows[number, a], rows[number, b] = 1, -1
        found = fit(
            Design(rows[:, :-1]),
            np.array([games[pair] for pair in pairs]),
            np.array([points[pair] for pair in pairs]),
        ).covariance[0]
        full = np.zeros((size, size))
        full[:-1, :-1] = found
        centred = np.eye(size) - 1 / size
        return float(np.trace(centred @ full @ centred))

    games, points = np.zeros((size, size)), np.zeros((size, size))
    play(np.full(len(pairs), 4), games, points)
    even_games, even_points = games.copy(), points.copy()
    for _ in range(10):
        chosen = choose_pairs(games, points, 28)
        play(np.array([chosen.count(pair) for pair in pairs]), games, points)
        play(np.full(len(pairs), 1), even_games, even_points)
    assert games.sum() == even_games.sum()
    assert variance(games, points) < 0.95 * variance(even_games, even_points)


def test_the_choice_does_not_depend_on_the_players_numbers() -> None:
    games = np.array([[0, 6, 2], [6, 0, 3], [2, 3, 0]], float)
    points = np.array([[0, 5, 2], [1, 0, 2], [0, 1, 0]], float)
    order = [2, 0, 1]
    renamed = choose_pairs(games[np.ix_(order, order)], points[np.ix_(order, order)], 3)
    back = [tuple(sorted((order[a], order[b]))) for a, b in renamed]
    assert back == choose_pairs(games, points, 3)
