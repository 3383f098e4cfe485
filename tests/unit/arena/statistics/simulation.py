"""Simulated tournaments, to see how often an interval contains the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import chi2, multinomial

from arena.statistics.bradley_terry import Design, fit, profile
from arena.statistics.dependence import Games, cluster_factor, unit_factor
from arena.statistics.elo import POINTS
from arena.statistics.intervals import bounded_interval

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Table:
    """The games of one simulated tournament, and what was true.

    games: (first, second, unit, cluster) of each game; strengths and the seat's effect in
    points. draws: share of drawn games among even players. deal_effect: how much deals favour
    the first player: a standard deviation in points. ranked: a cluster is an episode that ranks
    several players (Plackett 1975, Luce 1959).
    """

    games: Sequence[tuple[int, int, int, int]]
    strengths: Sequence[float]
    seat: float | None = None
    draws: float = 0.0
    deal_effect: float = 0.0
    ranked: bool = False

    def scores(self, rng: np.random.Generator, runs: int) -> Floats:
        """Draw the scores of all games: (runs, games)."""
        first, second, _, cluster = np.array(self.games).T
        strengths = np.array(self.strengths)
        if self.ranked:
            place = strengths / POINTS + rng.gumbel(size=(runs, cluster.max() + 1, len(strengths)))
            return (place[:, cluster, first] > place[:, cluster, second]).astype(float)
        odds = (strengths[first] - strengths[second] + (self.seat or 0.0)) / POINTS
        deals = rng.normal(0, self.deal_effect / POINTS, (runs, cluster.max() + 1))
        chance = expit(odds + deals[:, cluster])
        won = (rng.random(chance.shape) < chance).astype(float)
        if not self.draws:
            return won
        # A game is drawn with a chance that leaves the expected score as it was.
        draws = self.draws * 4 * chance * (1 - chance)
        won = rng.random(chance.shape) < (chance - draws / 2) / (1 - draws)
        return np.where(rng.random(chance.shape) < draws, 0.5, won.astype(float))


def coverage(table: Table, runs: int, rng: np.random.Generator) -> tuple[float, float]:
    """How often the intervals of the best player's rating and of a difference hold the truth."""
    first, second, unit, cluster = np.array(table.games).T
    size = len(table.strengths)
    keys, cell = np.unique(np.stack([first, second]), axis=1, return_inverse=True)
    cell = cell.ravel()
    rows = np.zeros((keys.shape[1], size))
    rows[np.arange(len(rows)), keys[0]] += 1
    rows[np.arange(len(rows)), keys[1]] -= 1
    rows = rows[:, :-1]
    if table.seat is not None:
        rows = np.column_stack([rows, np.ones(len(rows))])
    design = Design(rows)
    scores = table.scores(rng, runs)
    games = Games(cell, unit, cluster, np.ones(len(cell)))
    join = np.zeros((len(cell), len(rows)))
    join[np.arange(len(cell)), cell] = 1
    fitted = fit(design, np.tile(join.sum(axis=0), (runs, 1)), scores @ join)
    order = np.argsort(table.strengths)
    contrasts = np.zeros((2, size))
    contrasts[0, order[-1]], contrasts[1, order[-1]] = 1, 1
    contrasts[0] -= 1 / size
    contrasts[1, order[0]] -= 1
    full = np.zeros((2, design.effects))
    full[:, : size - 1] = contrasts[:, :-1]
    factor = unit_factor(fitted, games, scores)[:, None]
    if table.ranked:
        factor = np.maximum(factor, 1.0)
    if table.ranked or cluster.max() < unit.max():
        factor = np.maximum(factor, cluster_factor(fitted, games, scores, full))
    low, high = profile(fitted, full, chi2.ppf(0.95, 1) * factor)
    truth = full @ _true_effects(table, design, join.sum(axis=0), keys)
    rating, difference = ((low <= truth) & (truth <= high)).mean(axis=0)
    return float(rating), float(difference)


def _true_effects(table: Table, design: Design, games: Floats, keys: NDArray[np.int64]) -> Floats:
    """The effects that endless games would show: deals flatten the differences a little."""
    strengths = np.array(table.strengths)
    odds = (strengths[keys[0]] - strengths[keys[1]] + (table.seat or 0.0)) / POINTS
    places, weights = np.polynomial.hermite_e.hermegauss(41)
    deals = places[:, None] * table.deal_effect / POINTS
    chance = (weights[:, None] * expit(odds + deals)).sum(axis=0) / weights.sum()
    many = 1e7 * games
    return np.asarray(fit(design, many, many * chance).effects[0])


def score_coverage(n: int, score: float, draws: float) -> float:
    """How often the interval of a score holds the truth: an exact sum over all results."""
    outcomes = [
        (won, drawn, n - won - drawn) for won in range(n + 1) for drawn in range(n + 1 - won)
    ]
    won, drawn, _ = np.array(outcomes).T
    low, high = bounded_interval(n, won + drawn / 2, drawn / 4)
    chance = multinomial.pmf(outcomes, n, [score - draws / 2, draws, 1 - score - draws / 2])
    return float(chance[(low <= score) & (score <= high)].sum())


def mean_coverage(values: Floats, truth: float, floor: float) -> float:
    """How often the interval of a mean holds the truth. values: (runs, units), from 0 to 1."""
    ends = bounded_interval(
        values.shape[1], values.sum(axis=1), (values * (1 - values)).sum(axis=1), floor
    )
    return float(((ends[0] <= truth) & (truth <= ends[1])).mean())
