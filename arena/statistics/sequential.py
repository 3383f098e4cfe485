"""Tests of results while a run continues, valid after every look.

A 95 % test after every ten games of two equal players finds a difference in a third of all runs.
An e-value may be looked at after every game: it exceeds 20 in at most 5 % of runs of equal
players, however often somebody looks. For a width instead of a winner, no correction is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from arena.statistics.bradley_terry import Design, fit
from arena.statistics.intervals import LEVEL

Floats = NDArray[np.float64]

#: An e-value from which on two players differ: 1 / 0.05.
ENOUGH = 1 / (1 - LEVEL)
#: The prior of a player's score under a difference: beta(20, 20), which expects 50 % +- 8 %.
_PRIOR = 20.0


def e_value(won: float, lost: float) -> float:
    """Return the evidence that the expected score of two players is not 1/2 (at least 0).

    won, lost: points of independent units; a draw is half a point for each. It is the likelihood
    of the points under a mixture of scores over that under 1/2. 1 / e is a p-value at any time.
    Raises ValueError for negative points.
    """
    from scipy.special import betaln

    if won < 0 or lost < 0:
        raise ValueError("points must not be negative")
    log = betaln(_PRIOR + won, _PRIOR + lost) - betaln(_PRIOR, _PRIOR)
    return float(np.exp(min(log + (won + lost) * np.log(2), 700.0)))


@dataclass(frozen=True, slots=True)
class Stop:
    """Whether to stop, and why: decided (who is better), narrow (all intervals), or no."""

    reason: Literal["decided", "narrow", ""] = ""

    def __bool__(self) -> bool:
        return bool(self.reason)


def should_stop(
    points: Sequence[tuple[float, float]],
    intervals: Sequence[tuple[float, float]] = (),
    width: float | None = None,
) -> Stop:
    """Decide after any number of units whether more are needed.

    points: won and lost of each pair that is compared; with several pairs each needs an e-value
    of 20 times their number, so that all claims together are wrong in 5 % of runs at most.
    intervals: low and high end of each rating, in points. width: stop when all intervals are
    narrower, without regard to who leads.
    """
    if width is not None and intervals and all(high - low < width for low, high in intervals):
        return Stop("narrow")
    if points and all(e_value(*found) >= ENOUGH * len(points) for found in points):
        return Stop("decided")
    return Stop()


def choose_pairs(games: Floats, points: Floats, batch: int) -> list[tuple[int, int]]:
    """Return the pairs whose next units tell most about all ratings together, best first.

    games: how many units each pair has played, symmetric. points: of the row's player. batch:
    how many units to choose; a pair may come several times. Pairs with fewer than two units come
    first, else the order would depend on luck. The rest is greedy: each unit goes where it lowers
    the sum of the ratings' variances most (A-optimal). In simulations it needs a fifth less than
    a round robin.
    """
    size = len(games)
    pairs = [(a, b) for a in range(size) for b in range(a + 1, size)]
    counts = {pair: float(games[pair]) for pair in pairs}
    chosen: list[tuple[int, int]] = []
    while len(chosen) < batch and min(counts.values()) < 2:
        rarest = min(pairs, key=counts.__getitem__)
        chosen.append(rarest)
        counts[rarest] += 1
    if len(chosen) == batch:
        return chosen
    rows = np.zeros((len(pairs), size))
    for number, (a, b) in enumerate(pairs):
        rows[number, a], rows[number, b] = 1, -1
    played = np.array([max(float(games[pair]), 1e-3) for pair in pairs])
    won = np.array([float(points[pair]) for pair in pairs])
    fitted = fit(Design(rows[:, :-1]), played, np.minimum(won, played))
    chance = fitted.expected[0]
    gain = chance * (1 - chance)
    weight = np.array([counts[pair] for pair in pairs]) * gain
    # Pseudo-inverse: the covariance of ratings relative to their mean.
    covariance = np.linalg.pinv(rows.T @ (weight[:, None] * rows))
    for _ in range(batch - len(chosen)):
        moved = rows @ covariance
        variance = np.einsum("pe,pe->p", moved, rows)
        lowered = gain * (moved**2).sum(axis=1) / (1 + gain * variance)
        best = int(np.argmax(lowered))
        covariance -= (
            gain[best] / (1 + gain[best] * variance[best]) * np.outer(moved[best], moved[best])
        )
        chosen.append(pairs[best])
    return chosen
