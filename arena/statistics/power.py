"""How many games a question needs."""

from __future__ import annotations

from functools import cache

from arena.statistics.intervals import LEVEL

#: The share of experiments of the computed size that find the difference.
POWER = 0.8
_HALF = 0.5


def games_needed(score: float, draws: float = 0.0) -> int:
    """Return how many independent games tell an expected score from 50 %, with a power of 80 %.

    score: the true one. draws: the share of drawn games. Exact for the test that the report
    uses, if no game is drawn; else by the variance. Raises ValueError if the score is 0.5, is not
    between 0 and 1, or cannot have this share of draws.
    """
    if not (0 <= score <= 1 and score != _HALF):
        raise ValueError("the score must be between 0 and 1, and not 0.5")
    variance = score * (1 - score) - draws / 4
    if not 0 <= draws <= 2 * min(score, 1 - score):
        raise ValueError(f"a score of {score:g} cannot have {draws:.0%} of draws")
    if not draws:
        return _exact(max(score, 1 - score))
    from scipy.stats import norm

    width = float(norm.ppf((1 + LEVEL) / 2) + norm.ppf(POWER))
    return -int(-(width**2) * variance // (score - _HALF) ** 2)


@cache
def _exact(score: float) -> int:
    """Return the least n from which on the exact binomial test always has the power."""
    import numpy as np
    from scipy.stats import binom

    n = np.arange(1, int(20 * score * (1 - score) / (score - _HALF) ** 2) + 60)
    # The most losses that are still significant, and the chance of no more than these.
    losses = binom.ppf((1 - LEVEL) / 2, n, _HALF)
    losses -= binom.cdf(losses, n, _HALF) > (1 - LEVEL) / 2
    power = np.where(losses < 0, 0.0, binom.cdf(losses, n, 1 - score))
    return int(n[power < POWER].max(initial=0)) + 1
