"""Intervals of means, tests of several comparisons, and numbers of games."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from arena.statistics.intervals import (
    RETURNS,
    SCORES,
    bounded_interval,
    holm,
    mean_interval,
    student_interval,
    two_sided_p,
    variance_share,
)
from arena.statistics.power import games_needed


@pytest.mark.parametrize(("wins", "n"), [(0, 3), (5, 5), (7, 10), (60, 100)])
def test_wins_and_losses_have_clopper_and_pearsons_interval(wins: int, n: int) -> None:
    exact = binomtest(wins, n).proportion_ci(method="exact")
    assert bounded_interval(n, wins, 0) == (pytest.approx(exact.low), pytest.approx(exact.high))
    assert two_sided_p(n, wins, 0) == pytest.approx(binomtest(wins, n).pvalue)


def test_a_sweep_never_looks_certain() -> None:
    assert variance_share(5, 5, 0, SCORES) == 1


def test_draws_make_the_interval_narrower_but_not_without_limit() -> None:
    widths = [np.subtract(*bounded_interval(20, 10, draws / 4)[::-1]) for draws in (0, 10, 16, 20)]
    assert widths[0] > widths[1] > widths[2] == widths[3]


def test_returns_are_on_their_own_scale() -> None:
    share = mean_interval([0, 0, 1, 1, 1], 0, 1, RETURNS)
    returns = mean_interval([-13, -13, 13, 13, 13], -13, 13, RETURNS)
    assert (returns.low, returns.high) == (
        pytest.approx(26 * share.low - 13),
        pytest.approx(26 * share.high - 13),
    )


def test_returns_in_a_tenth_of_their_range_have_students_interval() -> None:
    values = [50 + number % 10 for number in range(40)]
    found = mean_interval(values, 0, 100, RETURNS)
    assert found.method == "student"
    assert found.high - found.low < 2.5
    assert mean_interval(values[:20], 0, 100, RETURNS).method == "bounded"


def test_every_deal_together_is_exact() -> None:
    some, all_deals = (student_interval([1.0, 2.0, 4.0], deals) for deals in (6, 3))
    assert (all_deals.low, all_deals.high, all_deals.method) == (7 / 3, 7 / 3, "exact")
    free = student_interval([1.0, 2.0, 4.0])
    assert some.high - some.low == pytest.approx((free.high - free.low) / 2**0.5)


def test_an_interval_contains_its_mean() -> None:
    rng = np.random.default_rng(0)
    for n in (1, 2, 3, 7, 40):
        for values in (rng.random(n), rng.integers(0, 2, n), np.zeros(n), np.full(n, 0.3)):
            found = mean_interval(values, 0, 1)
            assert -1e-12 <= found.low <= found.value + 1e-9
            assert found.value - 1e-9 <= found.high <= 1 + 1e-12


def test_holms_p_values() -> None:
    """By hand: 0.01 x 4, 0.02 x 3, 0.03 x 2 rises to 0.06, and 0.5."""
    assert holm([0.02, 0.5, 0.01, 0.03]) == pytest.approx([0.06, 0.5, 0.04, 0.06])
    assert holm([]) == []


def test_a_table_of_equal_players_makes_few_false_claims() -> None:
    rng = np.random.default_rng(0)
    false = [
        min(holm([binomtest(int(wins), 20).pvalue for wins in rng.binomial(20, 0.5, 15)])) < 0.05
        for _ in range(100)
    ]
    assert sum(false) <= 0.05 * 100


@pytest.mark.parametrize(
    ("score", "draws", "games"),
    [(0.55, 0.3, 542), (0.6, 0.3, 130), (0.55, 0.6, 307), (0.55, 0.0, 820), (0.7, 0.0, 54)],
)
def test_games_that_tell_a_score_from_50_percent(score: float, draws: float, games: int) -> None:
    assert games_needed(score, draws) == games
    assert games_needed(1 - score, draws) == games


@pytest.mark.parametrize("score", [0.7, 0.8])
def test_so_many_games_or_more_have_the_power(score: float) -> None:
    def power(n: int) -> float:
        found = [wins for wins in range(n + 1) if binomtest(wins, n).pvalue < 0.05]
        return float(binom.pmf(found, n, score).sum())

    needed = games_needed(score)
    assert all(power(needed + more) >= 0.8 for more in range(12))
    assert power(needed - 1) < 0.8


@pytest.mark.parametrize(("score", "draws"), [(0.5, 0.0), (1.2, 0.0), (0.9, 0.4)])
def test_impossible_questions_are_refused(score: float, draws: float) -> None:
    with pytest.raises(ValueError, match="score"):
        games_needed(score, draws)
