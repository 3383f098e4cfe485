"""Chooses who plays whom next: the experiment's `pairing: adaptive`.

A round robin gives every pair equally many games, also pairs whose result is clear. Here each unit
(a pair on a deal, in all seat orders) goes where it narrows the ratings most. All pairs play twice
before anything is chosen.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Collection, Iterable, Iterator, Sequence

import numpy as np

from arena.experiment.schedule import EpisodeSpec
from arena.report.ratings import compare_players
from arena.results.columns import Ended
from arena.statistics.sequential import choose_pairs

_Pair = tuple[str, str]
#: A pair in a game, on the deal with this seed.
_Unit = tuple[str, _Pair, int]


class AdaptivePairing:
    """Gives out the episodes of a run in batches of units.

    It chooses only among games in which players can win. All other games are played.
    """

    def __init__(
        self,
        specs: Sequence[EpisodeSpec],
        missing: Sequence[EpisodeSpec],
        games: Collection[str],
        earlier: Iterable[Ended],
    ) -> None:
        """specs: all episodes of the experiment. missing: those to play, in the order in which a
        pair plays them. games: those in which players can win. earlier: the episodes that have
        ended before.
        """
        self._games = games
        rated = [spec for spec in specs if spec.game in games]
        self._players = sorted({agent for spec in rated for agent in spec.agents})
        self._index = {name: number for number, name in enumerate(self._players)}
        self._orders = Counter(map(_find_unit, rated))
        size = len(self._players)
        self._given, self._ended, self._points = (np.zeros((size, size)) for _ in range(3))
        self._others = [spec for spec in missing if spec.game not in games]
        self._units: defaultdict[_Unit, list[EpisodeSpec]] = defaultdict(list)
        for spec in missing:
            if spec.game in games:
                self._units[_find_unit(spec)].append(spec)
        self._waiting: defaultdict[_Pair, deque[_Unit]] = defaultdict(deque)
        for unit, rest in self._units.items():
            if len(rest) < self._orders[unit]:
                # It has begun, so its other seat orders come first.
                self._others += rest
                self._give(unit)
            else:
                self._waiting[unit[1]].append(unit)
        for ended in earlier:
            self.add(ended)

    def add(self, ended: Ended) -> None:
        """Count an episode that has ended."""
        if ended.kind.game not in self._games:
            return
        for found in compare_players(ended.kind):
            pair = found.first, found.second
            orders = self._orders[ended.kind.game, _sort(pair), ended.deal]
            if not orders:
                continue  # of another experiment
            for (one, two), score in ((pair, found.score), (pair[::-1], 1 - found.score)):
                place = self._index[one], self._index[two]
                self._ended[place] += 1 / orders
                self._points[place] += score / orders

    def next(self) -> list[EpisodeSpec]:
        """Return the next episodes to play; empty if all have been given out."""
        if self._others:
            others, self._others = self._others, []
            return others
        return [spec for unit in self._choose() for spec in self._units[unit]]

    def _choose(self) -> Iterator[_Unit]:
        # What is in play counts as if it ended like the games before it.
        playing = np.maximum(self._given - self._ended, 0)
        share = (self._points + 0.5) / (self._ended + 1)
        points = self._points + playing * share
        games = self._ended + playing
        chosen = choose_pairs(games, points, len(self._players))
        pairs = [_sort((self._players[one], self._players[two])) for one, two in chosen]
        if not any(self._waiting[pair] for pair in pairs):
            # All deals of the best pairs (`episodes:` limits them) have been given out.
            pairs = [pair for pair, waiting in self._waiting.items() if waiting]
        for pair in pairs:
            if self._waiting[pair]:
                unit = self._waiting[pair].popleft()
                self._give(unit)
                yield unit

    def _give(self, unit: _Unit) -> None:
        one, two = (self._index[name] for name in unit[1])
        self._given[one, two] += 1
        self._given[two, one] += 1


def _find_unit(spec: EpisodeSpec) -> _Unit:
    return spec.game, _sort(spec.agents), spec.seed


def _sort(agents: Sequence[str]) -> _Pair:
    first, last = min(agents), max(agents)
    return first, last
