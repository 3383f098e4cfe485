"""How often 95 % intervals contain the truth, in the settings that are hardest for them.

The seed is fixed. With 1,000 runs the standard error is 0.007. A rating of a difference of more
than 800 points from fewer than ten games covers 0.92, which no setting here contains.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pytest

from arena.statistics.intervals import RETURNS, SCORES
from tests.unit.arena.statistics.simulation import (
    Table,
    coverage,
    mean_coverage,
    score_coverage,
)

RUNS = 1000
LEAST = 0.93


def spread(players: int, points: float) -> list[float]:
    return [points * number / (players - 1) for number in range(players)]


def listed(pairs: Sequence[tuple[int, int, int]]) -> list[tuple[int, int, int, int]]:
    """So many independent games of each pair."""
    games = [(first, second) for first, second, count in pairs for _ in range(count)]
    return [(first, second, number, number) for number, (first, second) in enumerate(games)]


def round_robin(players: int, count: int) -> list[tuple[int, int, int, int]]:
    return listed([(*pair, count) for pair in combinations(range(players), 2)])


def on_shared_deals(players: int, deals: int) -> list[tuple[int, int, int, int]]:
    """Every pair plays every deal in both seats."""
    units = [(pair, deal) for pair in combinations(range(players), 2) for deal in range(deals)]
    return [
        (*seats, number, deal)
        for number, ((first, second), deal) in enumerate(units)
        for seats in ((first, second), (second, first))
    ]


def ranked(players: int, seats: int, episodes: int) -> list[tuple[int, int, int, int]]:
    tables = list(combinations(range(players), seats))
    pairs = [
        (*pair, episode)
        for episode in range(episodes)
        for pair in combinations(tables[episode % len(tables)], 2)
    ]
    return [
        (first, second, number, episode) for number, (first, second, episode) in enumerate(pairs)
    ]


SIX = spread(6, 400)
UNEVEN = [0, 3, 5, 12, 20, 60]
TABLES = {
    "3 models, 4 games a pair, 1000 points": Table(round_robin(3, 4), spread(3, 1000)),
    "6 models, 4 games a pair, 1000 points": Table(round_robin(6, 4), spread(6, 1000)),
    "6 models, 10 games a pair": Table(round_robin(6, 10), SIX),
    "6 models, 30 % draws": Table(round_robin(6, 10), SIX, draws=0.3),
    "12 models, 4 games a pair, 1000 points": Table(round_robin(12, 4), spread(12, 1000)),
    "a chain": Table(listed([(0, 1, 5), (1, 2, 5)]), [0, 200, 400]),
    "two groups and a bridge": Table(
        listed([(0, 1, 4), (0, 2, 4), (1, 2, 4), (3, 4, 4), (3, 5, 4), (4, 5, 4), (2, 3, 4)]),
        [0, 100, 200, 300, 400, 500],
    ),
    "a star": Table(listed([(4, other, 10) for other in range(4)]), [0, 100, 300, 400, 200]),
    "uneven numbers of games": Table(
        listed([(a, b, UNEVEN[(5 * a + 3 * b) % 6]) for a, b in combinations(range(6), 2)]),
        spread(6, 500),
    ),
    "one seat nine times of ten": Table(
        listed([row for a, b in combinations(range(6), 2) for row in ((a, b, 9), (b, a, 1))]),
        SIX,
        seat=150,
    ),
    "shared deals": Table(on_shared_deals(6, 10), SIX, seat=100, deal_effect=300),
    "many shared deals": Table(on_shared_deals(6, 30), SIX, seat=100, deal_effect=300),
    "three seats": Table(ranked(4, 3, 12), spread(4, 300), ranked=True),
}


@pytest.mark.parametrize("name", TABLES)
def test_intervals_of_ratings_and_differences_cover(name: str) -> None:
    rating, difference = coverage(TABLES[name], RUNS, np.random.default_rng(0))
    assert rating >= LEAST
    assert difference >= LEAST


@pytest.mark.parametrize("points", [0, 400, 800])
@pytest.mark.parametrize(("n", "draws"), [(5, 0.0), (10, 0.0), (10, 0.3)])
def test_intervals_of_two_players_cover(n: int, draws: float, points: float) -> None:
    """5 games at 400 points covered 0.39 with the bootstrap."""
    score = 1 / (1 + 10 ** (-points / 400))
    assert score_coverage(n, score, min(draws, 2 * (1 - score))) >= LEAST


@pytest.mark.parametrize("episodes", [5, 10, 30, 100])
def test_intervals_of_illegal_moves_cover_if_they_cluster(episodes: int) -> None:
    """By move, errors that come together in episodes covered 0.08."""
    rng = np.random.default_rng(0)
    rate, agreement, moves = 0.05, 0.5, 10
    own = rng.beta(
        *(share * (1 - agreement) / agreement for share in (rate, 1 - rate)), (RUNS, episodes)
    )
    shares = rng.binomial(moves, own) / moves
    assert mean_coverage(shares, rate, SCORES) >= LEAST


@pytest.mark.parametrize("n", [10, 100])
def test_intervals_of_returns_cover_if_a_big_win_is_rare(n: int) -> None:
    """Student's interval of 10 such returns covers 0.40."""
    rng = np.random.default_rng(0)
    won = rng.random((RUNS, n)) < 0.05
    # 0 or +20, on a scale from -20 to 20.
    assert mean_coverage(np.where(won, 1.0, 0.5), 0.525, RETURNS) >= LEAST
