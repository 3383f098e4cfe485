"""How much wider intervals are, or narrower, because games are drawn, paired or share deals.

A variance factor multiplies the variance that the Bradley-Terry model assumes for independent
games that are won or lost.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.special import ndtri, stdtrit

from arena.statistics.bradley_terry import Fit
from arena.statistics.intervals import LEVEL, SCORES

Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Games:
    """Single games; all arrays have one value for each game.

    cell: its cell of the design. unit: games of one pair on one deal, in all seat orders,
    have one number. cluster: games that may err together, such as all games on one deal.
    weight: 1; less for one of several copies that together count once.
    """

    cell: Numbers
    unit: Numbers
    cluster: Numbers
    weight: Floats


def unit_factor(fitted: Fit, games: Games, scores: Floats) -> Floats:
    """Return the factor for units that are independent of each other, for each table.

    scores: of the first player, (tables, games). The factor of independent games without draws
    is 1; draws make it smaller. Games on one deal with swapped seats make it smaller if the
    deal decides them, and larger if they repeat each other.
    """
    members = _membership(games.unit, games.weight)
    size = members.sum(axis=1)
    score = (members @ np.atleast_2d(scores).T / size[:, None]).T
    chance = fitted.expected[:, games.cell]
    expected = (members @ chance.T / size[:, None]).T
    variance = expected * (1 - expected)
    virtual = (fitted.virtual * fitted.expected * (1 - fitted.expected)).sum(axis=1)
    spread = (score * (1 - score)).sum(axis=1)
    share = np.maximum(1 - spread / (variance.sum(axis=1) + virtual), SCORES)
    assumed = (games.weight * chance * (1 - chance)).sum(axis=1)
    return np.asarray(share * (size**2 * variance).sum(axis=1) / assumed)


def cluster_factor(fitted: Fit, games: Games, scores: Floats, contrasts: Floats) -> Floats:
    """Return the factor of each contrast if clusters are independent: (tables, contrasts).

    It compares the variance of the clusters' sums with that of the model, with Student's
    quantile for few clusters. 0 with one cluster: then intervals hold for that cluster only.
    """
    clusters = int(games.cluster.max()) + 1
    if clusters < 2:
        return np.zeros((len(fitted.effects), len(contrasts)))
    rows = fitted.design.rows[games.cell].tocoo()
    effects = fitted.design.effects
    # From the residual of each game to the sum for each cluster and effect.
    sums = csr_array(
        (
            rows.data * games.weight[rows.coords[0]],
            (games.cluster[rows.coords[0]] * effects + rows.coords[1], rows.coords[0]),
        ),
        shape=(clusters * effects, len(games.cell)),
    )
    residual = np.atleast_2d(scores) - fitted.expected[:, games.cell]
    gradient = (sums @ residual.T).T.reshape(-1, clusters, effects)
    influence = contrasts @ fitted.covariance  # (tables, contrasts, effects)
    found = ((gradient @ influence.swapaxes(1, 2)) ** 2).sum(axis=1) * clusters / (clusters - 1)
    assumed = np.einsum("tke,ke->tk", influence, contrasts)
    quantile = stdtrit(clusters - 1, (1 + LEVEL) / 2) / ndtri((1 + LEVEL) / 2)
    return np.asarray(quantile**2 * found / assumed)


def _membership(groups: Numbers, weights: Floats) -> csr_array:
    number = int(groups.max()) + 1
    return csr_array((weights, (groups, np.arange(len(groups)))), shape=(number, len(groups)))
