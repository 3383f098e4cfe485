"""Ends a run when its results are enough: the experiment's `until:`."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

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
    """Looks at the deals that all line-ups have played, in the order of their numbers.

    So a run that stops early has the first deals of a run that does not. Only competitive games
    count: see GameScale.
    """

    def __init__(self, experiment: Experiment, earlier: Episodes) -> None:
        """earlier: the episodes that have ended before."""
        self._until = experiment.settings.until
        scales = {game.spec: describe_game(game.spec) for game in experiment.games}
        self._scales = {game: scale for game, scale in scales.items() if scale is not None}
        self._lineups = {
            game.spec: len(game.lineups)
            for game in experiment.games
            if game.spec in self._scales and self._scales[game.spec].competitive
        }
        self._participants = {row.agent: row for row in experiment.models}
        self._deals: defaultdict[tuple[str, int], list[Ended]] = defaultdict(list)
        self._complete: list[Ended] = []
        self._number = 0
        self._next_look = _LEAST
        for ended in earlier:
            self._add(ended)

    def add(self, row: EpisodeRow, moves: Sequence[MoveRow]) -> None:
        """Count an episode that has ended. Failed ones are played again, so they do not count."""
        kind = Kind(row.game, row.agents, row.status, row.loser, row.returns)
        replaced = any(move.policy == "random" for move in moves)
        self._add(Ended(kind, row.seed, hash_trajectory(moves), replaced))

    def _add(self, ended: Ended) -> None:
        game = ended.kind.game
        if ended.kind.status == "failed" or game not in self._lineups:
            return
        deal = self._deals[game, ended.deal]
        deal.append(ended)
        if len(deal) == self._lineups[game]:
            self._complete += deal
            self._number += 1

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
            found = rate_episodes(episodes, units, self._lineups).strengths
            intervals = [(one.low, one.high) for one in found]
        reason = should_stop(points, intervals, width).reason
        if reason == "narrow":
            return f"all ratings are known within {width:g} points, after {self._number} deals"
        return (
            f"the better player of every pair is known, after {self._number} deals"
            if reason
            else ""
        )


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
