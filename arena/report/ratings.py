"""Ratings of the players: the Bradley-Terry model on Elo's scale."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from arena.results.rows import PLAYED, EpisodeRow

#: The mean of each group. A difference of 400 points means odds of ten to one.
MEAN = 1500.0
POINTS = 400.0 / np.log(10.0)
RESAMPLES = 400
SEED = 0
#: Tolerances of a fit, as natural logarithms of strength. ROUGH is for resamples: 0.02 points.
EXACT, ROUGH = 1e-8, 1e-4


@dataclass(frozen=True, slots=True)
class Rating:
    """A player's rating.

    low, high: the 95 % interval, from percentiles of the bootstrap. group: its number; the
    ratings of players of different groups cannot be compared, because they never met. games:
    number of comparisons with another player.
    """

    agent: str
    rating: float
    low: float
    high: float
    group: int
    games: int


def compare_players(episode: EpisodeRow) -> Iterator[tuple[str, str, float]]:
    """Yield for each pair of seats the agents, and the first one's score (1, 0.5 or 0).

    A player who forfeits loses to each of the others, who are not compared with each other.
    A failed episode gives no comparison, and an agent is not compared with itself.
    """
    for a, b in combinations(range(len(episode.agents)), 2):
        agents = episode.agents[a], episode.agents[b]
        if agents[0] == agents[1]:
            continue
        if episode.status == "forfeited" and episode.loser in (a, b):
            yield *agents, float(episode.loser == b)
        elif episode.status in PLAYED and episode.returns is not None:
            first, second = episode.returns[a], episode.returns[b]
            yield *agents, 0.5 if first == second else float(first > second)


def rate(episodes: Iterable[EpisodeRow], resamples: int = RESAMPLES) -> list[Rating]:
    """Rate all players who met another player, strongest first within each group.

    The Bradley-Terry model (Bradley and Terry 1952), fitted by choix's I-LSR. A draw counts
    as half a win for both. Each pair that met gets one additional draw, so that a player who
    lost every game has a rating too, and few games do not lead to extremes. For the
    intervals, whole episodes are drawn with replacement, from a fixed seed.
    """
    compared = [pairs for episode in episodes if (pairs := list(compare_players(episode)))]
    agents = sorted({agent for pairs in compared for pair in pairs for agent in pair[:2]})
    index = {agent: number for number, agent in enumerate(agents)}
    rows = [
        (number, index[first], index[second], score)
        for number, pairs in enumerate(compared)
        for first, second, score in pairs
    ]
    if not rows:
        return []
    episode_number, first, second = (np.array([row[i] for row in rows]) for i in range(3))
    score = np.array([row[3] for row in rows])
    size = len(agents)

    def count_wins(copies: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return how often i beat j in [i, j], if each episode is counted `copies` times."""
        table = np.zeros((size, size))
        np.add.at(table, (first, second), copies[episode_number] * score)
        np.add.at(table, (second, first), copies[episode_number] * (1 - score))
        return table

    table = count_wins(np.ones(len(compared)))
    games = table + table.T
    prior = np.where(games > 0, 0.5, 0.0)
    _, groups = connected_components(prior, directed=False)
    random = np.random.default_rng(SEED)
    even = np.full(len(compared), 1 / len(compared))
    rated = _fit_elo(table + prior, groups, EXACT)
    resampled = []
    for _ in range(resamples):
        copies = random.multinomial(len(compared), even).astype(float)
        resampled.append(_fit_elo(count_wins(copies) + prior, groups, ROUGH))
    low, high = np.percentile(resampled, [2.5, 97.5], axis=0)
    ratings = [
        Rating(
            agent=agent,
            rating=float(rated[i]),
            low=float(low[i]),
            high=float(high[i]),
            group=int(groups[i]),
            games=int(games[i].sum()),
        )
        for agent, i in index.items()
    ]
    return sorted(ratings, key=lambda rating: (rating.group, -rating.rating, rating.agent))


def _fit_elo(
    table: NDArray[np.float64], groups: Sequence[int], tolerance: float
) -> NDArray[np.float64]:
    # Imported here because the import takes longer than most commands.
    import choix

    elo = np.full(len(table), MEAN)
    for group in range(max(groups) + 1):
        (members,) = np.nonzero(np.equal(groups, group))
        strengths = choix.ilsr_pairwise_dense(table[np.ix_(members, members)], tol=tolerance)
        elo[members] += POINTS * (strengths - strengths.mean())
    return elo
