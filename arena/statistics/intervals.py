"""Intervals for the mean of values that lie between two bounds.

A unit is what is independent: all games of one line-up on one deal, in all seat orders. Its
value is the mean of its games. Functions take many samples together: arguments broadcast.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betainc, betaincc, betaincinv, stdtrit

Floats = NDArray[np.float64]

#: The promised coverage.
LEVEL = 0.95
#: The least variance of scores, as a share of the variance of wins and losses alone.
SCORES = 1 / 3
#: The same for returns, which can fill a small part of their range.
RETURNS = 1 / 10
#: Student's interval replaces the bounded one if returns fill less than a fifth of their range,
#: and there are this many units.
_NARROW, _MANY = 5, 30


class Mean(NamedTuple):
    """A mean with its 95 % interval. n: number of units. method: of the interval.

    exact: every deal was counted, so the interval has no width.
    """

    value: float
    low: float
    high: float
    n: int
    method: Literal["bounded", "student", "exact"] = "bounded"


def bounded_interval(
    n: ArrayLike, total: ArrayLike, spread: ArrayLike, floor: float = SCORES, level: float = LEVEL
) -> tuple[Floats, Floats]:
    """Return the ends of the interval for the mean of n units with values from 0 to 1.

    total: the sum of the values. spread: the sum of value x (1 - value), which is 0 if every
    value is 0 or 1. floor: the least share of the variance of 0-or-1 values that is assumed.
    The interval is that of Clopper and Pearson (1934), for as many units as have the variance
    of the values. It covers at least 0.95 in simulations of 3 to 100 units.
    """
    n, total, spread = np.broadcast_arrays(
        *(np.asarray(values, float) for values in (n, total, spread))
    )
    size = n / variance_share(n, total, spread, floor)
    hits = np.clip(total / n, 0, 1) * size
    tail = (1 - level) / 2
    with np.errstate(invalid="ignore"):
        low = np.where(hits <= 0, 0.0, betaincinv(hits, size - hits + 1, tail))
        high = np.where(hits >= size, 1.0, betaincinv(hits + 1, size - hits, 1 - tail))
    return low, high


def variance_share(n: ArrayLike, total: ArrayLike, spread: ArrayLike, floor: float) -> Floats:
    """Return the variance of the units as a share of that of wins and losses alone.

    Half a won and half a lost unit are added, so a sweep never looks certain.
    """
    n, total, spread = (np.asarray(values, float) for values in (n, total, spread))
    mean = (total + 0.5) / (n + 1)
    return np.asarray(np.maximum(1 - spread / ((n + 1) * mean * (1 - mean)), floor))


def mean_interval(
    values: Sequence[float] | Floats, low: float, high: float, floor: float = SCORES
) -> Mean:
    """Return the mean of units whose values lie between two bounds, with its interval.

    Returns that fill less than a fifth of their range get Student's interval from 30 units on,
    because the bounded one would be several times too wide. Raises ValueError without values.
    """
    found = np.asarray(values, float)
    if not len(found):
        raise ValueError("the mean of no values is unknown")
    low, high = min(low, float(found.min())), max(high, float(found.max()))
    mean, n, width = float(found.mean()), len(found), high - low
    if width == 0:
        return Mean(mean, low, high, n)
    observed = float(found.max() - found.min())
    if floor == RETURNS and n >= _MANY and 0 < observed * _NARROW < width:
        return student_interval(found)
    scaled = (found - low) / width
    lowest, highest = bounded_interval(n, scaled.sum(), (scaled * (1 - scaled)).sum(), floor)
    return Mean(mean, low + width * float(lowest), low + width * float(highest), n)


def student_interval(values: Sequence[float] | Floats, population: int | None = None) -> Mean:
    """Return the mean of at least two units without bounds, with Student's interval.

    population: the number of all units, if these were drawn from it without replacement; with all
    of them the mean is exact.
    """
    found = np.asarray(values, float)
    n, mean = len(found), float(found.mean())
    if population is not None and n >= population:
        return Mean(mean, mean, mean, n, "exact")
    error = float(found.std(ddof=1)) / n**0.5
    if population is not None:
        error *= (1 - n / population) ** 0.5
    half = float(stdtrit(n - 1, (1 + LEVEL) / 2)) * error
    return Mean(mean, mean - half, mean + half, n, "student")


def subtract(first: Mean, second: Mean) -> Mean:
    """Return the difference of two independent means with its interval.

    Each end of it is as far from the difference as the ends of both intervals together, which need
    not be symmetric. Source: Zou and Donner, "Construction of confidence limits about effect
    measures" (2008).
    """
    difference = first.value - second.value
    low = math.hypot(first.value - first.low, second.high - second.value)
    high = math.hypot(first.high - first.value, second.value - second.low)
    return Mean(difference, difference - low, difference + high, min(first.n, second.n))


def two_sided_p(n: float, total: float, spread: float, floor: float = SCORES) -> float:
    """Return the p-value of a mean of 1/2: below 0.05 if and only if the interval excludes it."""
    size = n / float(variance_share(n, total, spread, floor))
    hits = total / n * size
    # The chance of at least, and of at most, this many hits, continued to fractions.
    above = 1.0 if hits <= 0 else float(betainc(hits, size - hits + 1, 0.5))
    below = 1.0 if hits >= size else float(betaincc(hits + 1, size - hits, 0.5))
    return min(1.0, 2 * min(above, below))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values that hold for all comparisons together (Holm 1979).

    A claim for each one below 0.05 makes a false claim in at most 5 % of such tables.
    """
    order = sorted(range(len(p_values)), key=lambda number: p_values[number])
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, number in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[number]))
        adjusted[number] = highest
    return adjusted
