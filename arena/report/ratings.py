"""How strong the players are: Bradley-Terry ratings on Elo's scale."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from arena.report.outcomes import comparisons
from arena.results.rows import EpisodeRow

#: Each group's mean. 400 points more are ten times the odds.
MEAN = 1500.0
POINTS = 400.0 / np.log(10.0)
RESAMPLES = 400
SEED = 0
#: How exactly a fit is found, in natural logarithms of strength: of a resample, 0.02 points.
EXACT, ROUGH = 1e-8, 1e-4


@dataclass(frozen=True, slots=True)
class Rating:
    """A player's rating.

    low, high: 95 % interval, the percentiles of the bootstrap. group: ratings of
    different groups cannot be compared, for nobody of one met anybody of the other.
    games: comparisons with another player.
    """

    agent: str
    rating: float
    low: float
    high: float
    group: int
    games: int


def rate(episodes: Iterable[EpisodeRow], resamples: int = RESAMPLES) -> list[Rating]:
    """Ratings of all who met another player, strongest first within each group.

    The Bradley-Terry model (Bradley and Terry 1952), fitted by choix's I-LSR. A draw is
    half a win for each. Each pair that met is given one more draw, so that who lost all
    has a rating too, and few games do not make extremes. Intervals: whole episodes drawn
    with replacement, from a fixed seed.
    """
    played = [found for episode in episodes if (found := list(comparisons(episode)))]
    agents = sorted({agent for found in played for pair in found for agent in pair[:2]})
    place = {agent: index for index, agent in enumerate(agents)}
    rows = [
        (number, place[one], place[two], score)
        for number, found in enumerate(played)
        for one, two, score in found
    ]
    if not rows:
        return []
    number, one, two = (np.array([row[i] for row in rows]) for i in range(3))
    score = np.array([row[3] for row in rows])
    size = len(agents)

    def wins(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """[i, j]: how often i beat j, with so many copies of each episode."""
        table = np.zeros((size, size))
        np.add.at(table, (one, two), weights[number] * score)
        np.add.at(table, (two, one), weights[number] * (1 - score))
        return table

    table = wins(np.ones(len(played)))
    games = table + table.T
    prior = np.where(games > 0, 0.5, 0.0)
    _, groups = connected_components(prior, directed=False)
    random = np.random.default_rng(SEED)
    even = np.full(len(played), 1 / len(played))
    rated = _elo(table + prior, groups, EXACT)
    drawn = [
        _elo(wins(random.multinomial(len(played), even).astype(float)) + prior, groups, ROUGH)
        for _ in range(resamples)
    ]
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    ratings = [
        Rating(
            agent=agent,
            rating=float(rated[i]),
            low=float(low[i]),
            high=float(high[i]),
            group=int(groups[i]),
            games=int(games[i].sum()),
        )
        for agent, i in place.items()
    ]
    return sorted(ratings, key=lambda rating: (rating.group, -rating.rating, rating.agent))


def _elo(
    table: NDArray[np.float64], groups: Sequence[int], tolerance: float
) -> NDArray[np.float64]:
    # Imported here, as it takes longer than most commands of the arena.
    import choix

    elo = np.full(len(table), MEAN)
    for group in range(max(groups) + 1):
        (members,) = np.nonzero(np.equal(groups, group))
        strengths = choix.ilsr_pairwise_dense(table[np.ix_(members, members)], tol=tolerance)
        elo[members] += POINTS * (strengths - strengths.mean())
    return elo
