"""Ratings of players from the scores of single games, with intervals and comparisons."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components, shortest_path
from scipy.special import chdtrc, chdtri

from arena.statistics.bradley_terry import Design, Fit, drop_at_zero, fit, profile
from arena.statistics.dependence import Games, cluster_factor, unit_factor
from arena.statistics.elo import MEAN, POINTS, to_elo, to_score
from arena.statistics.groups import renumber
from arena.statistics.intervals import LEVEL, bounded_interval, holm, two_sided_p

Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]

#: By how much twice the log likelihood falls at the ends of an interval.
_CHI_SQUARE = float(chdtri(1, 1 - LEVEL))

#: In a larger group, each player is compared only with the next one in the order of the ratings.
MAX_ALL_PAIRS = 8


@dataclass(frozen=True, slots=True)
class Matches:
    """Comparisons of two players each; all arrays have one value for each comparison.

    first, second: numbers of players. score: of the first, from 0 to 1. first_seat,
    second_seat: numbers of seat effects, -1 for none, which is the last seat of each game.
    unit: comparisons of one pair on one deal, in all seat orders, have one number. cluster:
    comparisons that may err together. weight: 1, or less for one of several copies that
    together count once. several_seats: whether one episode gave several comparisons.
    """

    first: Numbers
    second: Numbers
    score: Floats
    first_seat: Numbers
    second_seat: Numbers
    unit: Numbers
    cluster: Numbers
    weight: Floats
    several_seats: bool = False

    def pick(self, chosen: NDArray[np.bool_]) -> Matches:
        """Return some of the comparisons, with units and clusters numbered from 0."""
        arrays = (getattr(self, name)[chosen] for name in self.__slots__[:-1])
        picked = dict(zip(self.__slots__[:-1], arrays, strict=True))
        for name in ("unit", "cluster"):
            picked[name] = renumber(picked[name])
        return Matches(**picked, several_seats=self.several_seats)


@dataclass(frozen=True, slots=True)
class Strength:
    """A player's rating.

    low, high: the 95 % interval; infinite where nobody took a point. group: its number; ratings
    of different groups cannot be compared. games: number of comparisons.
    """

    player: int
    rating: float
    low: float
    high: float
    group: int
    games: int


@dataclass(frozen=True, slots=True)
class Difference:
    """The first player's rating less the second's, in points.

    low, high: the 95 % interval; infinite where no points lead from one player to the other.
    score: the expected one of the first player against the second. p: of no difference;
    adjusted: the same for all differences together.
    """

    first: int
    second: int
    points: float
    low: float
    high: float
    score: float
    p: float
    adjusted: float = 1.0


@dataclass(frozen=True, slots=True)
class SeatEffect:
    """What a seat is worth, in points, against the last seat of its game.

    known: False if the same players always had it, so that seat and player cannot be
    separated; then the ratings contain it.
    """

    seat: int
    points: float = 0.0
    low: float = -np.inf
    high: float = np.inf
    known: bool = False


@dataclass(frozen=True, slots=True)
class Rated:
    """All ratings, strongest first in each group, with the differences and seat effects."""

    strengths: Sequence[Strength] = ()
    differences: Sequence[Difference] = ()
    seats: Sequence[SeatEffect] = ()


def rate(matches: Matches, players: int, anchor: int | None = None) -> Rated:
    """Rate the players who met another one. players: their number.

    anchor: the player whose rating is 1500, and exact; without it the mean of each group is.
    A pair that met nobody else is rated by the interval of its score. Larger groups are rated
    by penalised profile likelihood. p-values are adjusted over all groups.
    """
    if not len(matches.first):
        return Rated()
    met = np.zeros((players, players))
    np.add.at(met, (matches.first, matches.second), 1)
    met += met.T
    _, labels = connected_components(met, directed=False)
    groups = [
        np.nonzero(labels == label)[0]
        for label in dict.fromkeys(labels.tolist())
        if np.count_nonzero(labels == label) > 1
    ]
    rated = [
        _Group(matches.pick(np.isin(matches.first, members)), members, number, anchor)
        for number, members in enumerate(groups)
    ]
    differences = [found for group in rated for found in group.differences()]
    adjusted = holm([found.p for found in differences])
    return Rated(
        tuple(strength for group in rated for strength in group.strengths(met)),
        tuple(
            Difference(
                found.first, found.second, found.points, found.low, found.high,
                found.score, found.p, together,
            )
            for found, together in zip(differences, adjusted, strict=True)
        ),
        tuple(effect for group in rated for effect in group.seats()),
    )  # fmt: skip


class _Group:
    """Players who met each other, directly or through others."""

    def __init__(self, matches: Matches, members: Numbers, number: int, anchor: int | None) -> None:
        self._matches = matches
        self._members = [int(player) for player in members]
        self._number = number
        self._anchor = anchor if anchor in self._members else None
        self._place = {player: place for place, player in enumerate(self._members)}
        self._build()
        self._fit = fit(self._design, self._cell_games, self._cell_points)
        self._is_pair = len(self._members) == 2 and self._is_even()
        self._bounded = self._find_bounds()

    def _build(self) -> None:
        """Join equal comparisons to cells, and make the design."""
        matches = self._matches
        keys = (matches.first, matches.second, matches.first_seat + 1, matches.second_seat + 1)
        sizes = [int(key.max()) + 1 for key in keys]
        # As one number, because columns take ten times as long to sort.
        found, cell = np.unique(np.ravel_multi_index(keys, sizes), return_inverse=True)
        cells = np.stack(np.unravel_index(found, sizes))
        cells[2:] -= 1
        number = cells.shape[1]
        self._cell_games = _total(cell, matches.weight, number)
        self._cell_points = _total(cell, matches.weight * matches.score, number)
        self._games = Games(cell, matches.unit, matches.cluster, matches.weight)
        strengths = np.zeros((number, len(self._members)))
        self._cell_players = np.vectorize(self._place.__getitem__)(cells[:2])
        rows = np.arange(number)
        strengths[rows, self._cell_players[0]] += 1
        strengths[rows, self._cell_players[1]] -= 1
        columns = strengths[:, :-1]  # the last player is the origin
        self._seat_columns: dict[int, int] = {}
        self._unknown_seats: list[int] = []
        for seat in sorted({*cells[2].tolist(), *cells[3].tolist()} - {-1}):
            column = (cells[2] == seat).astype(float) - (cells[3] == seat)
            wider = np.column_stack([columns, column])
            if np.linalg.matrix_rank(wider) == wider.shape[1]:
                self._seat_columns[seat] = columns.shape[1]
                columns = wider
            else:
                self._unknown_seats.append(seat)
        self._design = Design(columns)

    def _is_even(self) -> bool:
        """Whether each of two players had each seat equally often, or only one."""
        if not self._seat_columns:
            return True
        matches = self._matches
        own = np.where(matches.first == self._members[0], matches.first_seat, matches.second_seat)
        other = np.where(matches.first == self._members[0], matches.second_seat, matches.first_seat)
        return all(
            abs(matches.weight[own == seat].sum() - matches.weight[other == seat].sum()) < 1e-9
            for seat in self._seat_columns
        )

    def _find_bounds(self) -> NDArray[np.bool_]:
        """Return in [i, j] whether i less j has an upper end: j took points that lead to i."""
        took = np.zeros((len(self._members),) * 2)
        score = self._matches.score
        for from_, to, points in ((0, 1, score), (1, 0, 1 - score)):
            pairs = self._cell_players[from_], self._cell_players[to]
            np.add.at(took, pairs, _total(self._games.cell, points))
        return np.asarray(np.isfinite(shortest_path(took > 0, unweighted=True)).T)

    def strengths(self, met: Floats) -> list[Strength]:
        """Return the ratings, strongest first."""
        games = np.bincount(
            np.concatenate([self._matches.first, self._matches.second]),
            minlength=len(met),
        )
        found = [
            Strength(
                player, MEAN + value, MEAN + low, MEAN + high, self._number, int(games[player])
            )
            for player, (value, low, high) in zip(self._members, self._ends(), strict=True)
        ]
        return sorted(found, key=lambda strength: (-strength.rating, strength.player))

    def _ends(self) -> Iterator[tuple[float, float, float]]:
        """Yield each member's rating with its ends, relative to the anchor or the mean."""
        if self._is_pair:
            value, low, high = self._pair()
            for member, ends in zip(
                self._members, ((value, low, high), (-value, -high, -low)), strict=True
            ):
                share = 0.5 if self._anchor is None else float(self._anchor != member)
                # An anchor is exact, also where the difference is open.
                found, lowest, highest = (share * end if share else 0.0 for end in ends)
                yield found, lowest, highest
            return
        size = len(self._members)
        if self._anchor is None:
            contrasts = np.eye(size) - 1 / size
            # Nobody took a point from the player, or the player took none.
            others = ~np.eye(size, dtype=bool)
            bounded_above = (self._bounded & others).any(axis=1)
            bounded_below = (self._bounded & others).any(axis=0)
        else:
            origin = self._place[self._anchor]
            contrasts = np.eye(size) - np.eye(size)[origin]
            bounded_above, bounded_below = self._bounded[:, origin], self._bounded[origin]
        moving = np.abs(contrasts).max(axis=1) > 0
        table = np.zeros((3, size))
        table[:, moving] = self._profile(contrasts[moving])
        table[1, moving & ~bounded_below] = -np.inf
        table[2, moving & ~bounded_above] = np.inf
        for rating, lowest, highest in table.T.tolist():
            yield rating, lowest, highest

    def _pair(self) -> tuple[float, float, float]:
        """Return the difference of the only two players, with its ends."""
        n, total, spread = self._pair_units()
        low, high = bounded_interval(n, total, spread)
        return to_elo((total + 0.5) / (n + 1)), to_elo(float(low)), to_elo(float(high))

    def _pair_units(self) -> tuple[float, float, float]:
        matches = self._matches
        own = np.where(matches.first == self._members[0], matches.score, 1 - matches.score)
        means = _total(matches.unit, matches.weight * own) / _total(matches.unit, matches.weight)
        return len(means), float(means.sum()), float((means * (1 - means)).sum())

    def differences(self) -> list[Difference]:
        """Return the differences, stronger players first; p-values are not adjusted yet."""
        if self._is_pair:
            value, low, high = self._pair()
            first, second = self._members
            p = two_sided_p(*self._pair_units())
            found = Difference(first, second, value, low, high, to_score(value), p)
            return [found if value >= 0 else _turned(found)]
        strengths = np.append(self._fit.effects[0][: len(self._members) - 1], 0.0)
        order = sorted(range(len(strengths)), key=lambda place: (-strengths[place], place))
        all_pairs = len(order) <= MAX_ALL_PAIRS
        pairs = list(combinations(order, 2) if all_pairs else pairwise(order))
        unit = np.eye(len(order))
        contrasts = np.array([unit[first] - unit[second] for first, second in pairs])
        values, lowest, highest = self._profile(contrasts)
        drop = drop_at_zero(self._fit, self._full(contrasts)) / self._factor(contrasts)
        return [
            Difference(
                self._members[first],
                self._members[second],
                float(values[number]),
                float(lowest[number]) if self._bounded[second, first] else -np.inf,
                float(highest[number]) if self._bounded[first, second] else np.inf,
                to_score(float(values[number])),
                float(chdtrc(1, drop[0, number])),
            )
            for number, (first, second) in enumerate(pairs)
        ]

    def seats(self) -> Iterator[SeatEffect]:
        """Yield the effect of each seat but the last."""
        for seat in self._unknown_seats:
            yield SeatEffect(seat)
        if not self._seat_columns:
            return
        columns = list(self._seat_columns.values())
        contrasts = np.eye(self._design.effects)[columns]
        ends = self._profile_of(contrasts)
        for seat, value, low, high in zip(self._seat_columns, *ends, strict=True):
            yield SeatEffect(seat, float(value), float(low), float(high), known=True)

    def _full(self, contrasts: Floats) -> Floats:
        """Return contrasts of the players as contrasts of all effects."""
        full = np.zeros((len(contrasts), self._design.effects))
        full[:, : len(self._members) - 1] = contrasts[:, :-1]
        return full

    def _profile(self, contrasts: Floats) -> tuple[Floats, Floats, Floats]:
        return self._profile_of(self._full(contrasts))

    def _profile_of(self, full: Floats) -> tuple[Floats, Floats, Floats]:
        """Return the values and ends of contrasts, in points."""
        drop = _CHI_SQUARE * factor(self._fit, self._games, self._matches, full)
        low, high = profile(self._fit, full, drop)
        return (POINTS * (full @ self._fit.effects[0]), POINTS * low[0], POINTS * high[0])

    def _factor(self, contrasts: Floats) -> Floats:
        return factor(self._fit, self._games, self._matches, self._full(contrasts))


def factor(fitted: Fit, games: Games, matches: Matches, contrasts: Floats) -> Floats:
    """Return the variance factor of each contrast; see dependence.py."""
    scores = matches.score[None, :]
    base = unit_factor(fitted, games, scores)[:, None]
    if matches.several_seats:
        base = np.maximum(base, 1.0)
    elif games.cluster.max() == games.unit.max():
        return np.broadcast_to(base, (1, len(contrasts)))
    return np.maximum(base, cluster_factor(fitted, games, scores, contrasts))


def _total(group: Numbers, values: Floats, groups: int = 0) -> Floats:
    """Return the sum of the values of each group."""
    return np.asarray(np.bincount(group, values, groups), float)


def _turned(found: Difference) -> Difference:
    return Difference(
        found.second, found.first, -found.points, -found.high, -found.low, 1 - found.score, found.p
    )
