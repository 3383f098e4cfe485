"""Elo's scale: natural log odds of an expected score, in points."""

from __future__ import annotations

import math

#: The mean of each group of players. A difference of 400 points means odds of ten to one.
MEAN = 1500.0
POINTS = 400.0 / math.log(10.0)


def to_elo(score: float) -> float:
    """Return the difference in points that an expected score stands for; infinite at 0 and 1."""
    if score <= 0:
        return -math.inf
    return math.inf if score >= 1 else POINTS * math.log(score / (1 - score))


def to_score(points: float) -> float:
    """Return the expected score, from 0 to 1, of a player who is stronger by `points`."""
    return 1 / (1 + math.exp(-points / POINTS))
