"""Ends a run when its results are enough: the experiment's `until:`."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence

from arena.experiment.file import Experiment
from arena.games.scale import describe_game
from arena.report.ratings import compare_players, rate_episodes
from arena.report.units import Course, Units
from arena.results.rows import EpisodeRow, MoveRow
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

    def __init__(
        self, experiment: Experiment, earlier: Iterable[tuple[EpisodeRow, Sequence[MoveRow]]]
    ) -> None:
        """earlier: the episodes that have ended before, with their moves."""
        self._until = experiment.settings.until
        scales = {game.spec: describe_game(game.spec) for game in experiment.games}
        self._scales = {game: scale for game, scale in scales.items() if scale is not None}
        self._lineups = {
            game.spec: len(game.lineups)
            for game in experiment.games
            if game.spec in self._scales and self._scales[game.spec].competitive
        }
        self._participants = {row.agent: row for row in experiment.models}
        self._deals: defaultdict[tuple[str, int], list[EpisodeRow]] = defaultdict(list)
        self._courses: dict[str, Course] = {}
        self._complete: list[EpisodeRow] = []
        self._number = 0
        self._next_look = _LEAST
        for row, moves in earlier:
            self.add(row, moves)

    def add(self, row: EpisodeRow, moves: Sequence[MoveRow]) -> None:
        """Count an episode that has ended. Failed ones are played again, so they do not count."""
        if row.status == "failed" or row.game not in self._lineups:
            return
        self._courses[row.episode] = Course.of(moves)
        deal = self._deals[row.game, row.number]
        deal.append(row)
        if len(deal) == self._lineups[row.game]:
            self._complete += deal
            self._number += 1

    def look(self) -> str:
        """Return why the run can end; empty if more is needed, or if nothing is new."""
        if self._until is None or self._number < self._next_look:
            return ""
        self._next_look = max(self._number + 1, math.ceil(self._number * _GROWTH))
        units = Units(self._complete, self._courses, self._scales, self._participants)
        points = self._count_points(units) if self._until.decided else []
        width, intervals = self._until.width, []
        if width is not None:
            found = rate_episodes(self._complete, units).strengths
            intervals = [(one.low, one.high) for one in found]
        reason = should_stop(points, intervals, width).reason
        if reason == "narrow":
            return f"all ratings are known within {width:g} points, after {self._number} deals"
        return (
            f"the better player of every pair is known, after {self._number} deals"
            if reason
            else ""
        )

    def _count_points(self, units: Units) -> list[tuple[float, float]]:
        """Return what each pair of players won and lost, in independent units."""
        scores: defaultdict[tuple[str, str], defaultdict[object, list[float]]]
        scores = defaultdict(lambda: defaultdict(list))
        for row in self._complete:
            for found in compare_players(row):
                turned = found.first > found.second
                pair = (found.second, found.first) if turned else (found.first, found.second)
                score = 1 - found.score if turned else found.score
                scores[pair][units.lineup(row)].append(score)
        points = []
        for by_unit in scores.values():
            won = sum(sum(values) / len(values) for values in by_unit.values())
            points.append((won, len(by_unit) - won))
        return points
