"""Ends a run when its results are enough: the experiment's `until:`."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence

from arena.experiment.file import Experiment
from arena.games.scale import describe_game
from arena.report.ratings import compare_players, rate_episodes
from arena.report.units import Units
from arena.results.columns import Ended, Episodes, Kind
from arena.results.rows import EpisodeRow, MoveRow
from arena.results.transcript import hash_trajectory
from arena.statistics.sequential import should_stop

#: With fewer deals nothing is enough.
_LEAST = 5
#: By how much the number of deals grows between two looks, because a look takes time.
_GROWTH = 1.1


class StoppingRule:
    """Looks at the deals that have been played in all line-ups, in the order of their numbers.

    So a run that stops early has the first deals of a run that does not. With adaptive pairing,
    each pair has its own deals. Only competitive games count: see GameScale.
    """

    def __init__(self, experiment: Experiment, earlier: Iterable[Ended]) -> None:
        """earlier: the episodes that have ended before."""
        self._until = experiment.settings.until
        self._adaptive = experiment.settings.pairing == "adaptive"
        scales = {game.spec: describe_game(game.spec) for game in experiment.games}
        self._scales = {game: scale for game, scale in scales.items() if scale is not None}
        competitive = [
            game
            for game in experiment.games
            if game.spec in self._scales and self._scales[game.spec].competitive
        ]
        #: The games in which players can win.
        self.games = frozenset(game.spec for game in competitive)
        #: How many episodes a deal has.
        self._sizes = Counter(
            self._find_group(game.spec, lineup) for game in competitive for lineup in game.lineups
        )
        self._participants = {row.agent: row for row in experiment.models}
        self._deals: defaultdict[Hashable, list[Ended]] = defaultdict(list)
        self._complete: list[Ended] = []
        self._number = 0
        self._next_look = max(_LEAST, 2 * len(self._sizes)) if self._adaptive else _LEAST
        for ended in earlier:
            self.add(ended)

    def _find_group(self, game: str, agents: Sequence[str]) -> Hashable:
        """Return the group that shares deals: a game, or a pair of players in it."""
        return (game, tuple(sorted(agents))) if self._adaptive else game

    def add(self, ended: Ended) -> None:
        """Count an episode that has ended. Failed ones are played again, so they do not count."""
        if ended.kind.status == "failed" or ended.kind.game not in self.games:
            return
        group = self._find_group(ended.kind.game, ended.kind.agents)
        deal = self._deals[group, ended.deal]
        deal.append(ended)
        if len(deal) == self._sizes[group]:
            self._complete += deal
            self._number += 1

    @staticmethod
    def describe(row: EpisodeRow, moves: Sequence[MoveRow]) -> Ended:
        """Return an episode that has just been played, as `add` needs it."""
        kind = Kind(row.game, row.agents, row.status, row.loser, row.returns)
        replaced = any(move.policy == "random" for move in moves)
        return Ended(kind, row.seed, hash_trajectory(moves), replaced)

    def look(self) -> str:
        """Return why the run can end; empty if more is needed, or if nothing is new."""
        if self._until is None or self._number < self._next_look:
            return ""
        self._next_look = max(self._number + 1, math.ceil(self._number * _GROWTH))
        episodes = Episodes.collect(self._complete)
        units = Units(episodes, self._scales, self._participants)
        points = _count_points(episodes, units) if self._until.decided else []
        width, intervals = self._until.width, []
        if width is not None:
            found = rate_episodes(episodes, units, self.games).strengths
            intervals = [(one.low, one.high) for one in found]
        reason = should_stop(points, intervals, width).reason
        deals = (
            f"{self._number} deals of two players" if self._adaptive else f"{self._number} deals"
        )
        if reason == "narrow":
            return f"all ratings are known within {width:g} points, after {deals}"
        return f"the better player of every pair is known, after {deals}" if reason else ""


def _count_points(episodes: Episodes, units: Units) -> list[tuple[float, float]]:
    """Return what each pair of players won and lost, in independent units."""
    scores: defaultdict[tuple[str, str], defaultdict[int, list[float]]]
    scores = defaultdict(lambda: defaultdict(list))
    for kind, places in episodes.by_kind():
        for found in compare_players(kind):
            turned = found.first > found.second
            pair = (found.second, found.first) if turned else (found.first, found.second)
            score = 1 - found.score if turned else found.score
            for unit in units.lineup[places].tolist():
                scores[pair][unit].append(score)
    points = []
    for by_unit in scores.values():
        won = sum(sum(values) / len(values) for values in by_unit.values())
        points.append((won, len(by_unit) - won))
    return points
