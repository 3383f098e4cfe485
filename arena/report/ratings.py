"""Ratings of the players of competitive games, from their episodes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import NamedTuple

import numpy as np

from arena.report.units import Units
from arena.results.columns import Episodes, Kind
from arena.results.rows import PLAYED, EpisodeRow
from arena.statistics.ratings import Difference, Matches, SeatEffect, Strength, rate


class Comparison(NamedTuple):
    """Two players of an episode, and the first one's score (1, 0.5 or 0), with their seats."""

    first: str
    second: str
    score: float
    first_seat: int
    second_seat: int


@dataclass(frozen=True, slots=True)
class Ratings:
    """Ratings of agents.

    agents: their names, by the numbers in strengths and differences. seats: what a seat is
    worth, by game and seat; in a game with n seats, against seat n - 1. one_deal: all games
    have the same deal, so the intervals hold for it alone. anchor: the player whose rating is
    1500.
    """

    agents: Sequence[str] = ()
    strengths: Sequence[Strength] = ()
    differences: Sequence[Difference] = ()
    seats: dict[tuple[str, int], SeatEffect] = field(default_factory=dict)
    one_deal: bool = False
    anchor: str | None = None

    def __bool__(self) -> bool:
        return bool(self.strengths)

    def name(self, player: int) -> str:
        """Return an agent's name."""
        return self.agents[player]


def compare_players(episode: EpisodeRow | Kind) -> Iterator[Comparison]:
    """Yield each pair of seats with their agents and the first one's score.

    A player who forfeits loses to each of the others, who are not compared with each other.
    A failed episode gives no comparison, and an agent is not compared with itself.
    """
    for a, b in combinations(range(len(episode.agents)), 2):
        agents = episode.agents[a], episode.agents[b]
        if agents[0] == agents[1]:
            continue
        if episode.status == "forfeited" and episode.loser in (a, b):
            yield Comparison(*agents, float(episode.loser == b), a, b)
        elif episode.status in PLAYED and episode.returns is not None:
            first, second = episode.returns[a], episode.returns[b]
            score = 0.5 if first == second else float(first > second)
            yield Comparison(*agents, score, a, b)


def rate_episodes(
    episodes: Episodes, units: Units, games: Collection[str], anchor: str | None = None
) -> Ratings:
    """Rate all players who met another player in these games.

    units: of the episodes. anchor: the player whose rating is 1500; without it the mean of each
    group is.
    """
    played = [kind for kind in episodes.kinds if kind.game in games]
    agents = sorted({agent for kind in played for agent in kind.agents})
    index = {agent: number for number, agent in enumerate(agents)}
    seats: dict[tuple[str, int], int] = {}
    several_seats = any(len(kind.agents) > 2 for kind in played)
    cells, scores, parts = [], [], []
    for kind, places in episodes.by_kind():
        if kind.game not in games:
            continue
        last = len(kind.agents) - 1
        for found in compare_players(kind):
            one, two = index[found.first], index[found.second]
            effects = (
                -1 if seat == last else seats.setdefault((kind.game, seat), len(seats))
                for seat in (found.first_seat, found.second_seat)
            )
            cells.append((one, two, *effects))
            scores.append(found.score)
            pair = min(one, two) * len(agents) + max(one, two)
            unit = units.lineup[places]
            if several_seats:  # each pair is a separate unit
                unit = unit * len(agents) ** 2 + pair
            parts.append((unit, units.cluster[places], units.weight[places]))
    if not parts:
        return Ratings(agents)
    times = [len(unit) for unit, _, _ in parts]
    first, second, first_seat, second_seat = np.repeat(np.array(cells), times, axis=0).T
    score = np.repeat(np.array(scores), times)
    unit, cluster, weight = (np.concatenate(column) for column in zip(*parts, strict=True))
    matches = Matches(
        first,
        second,
        score,
        first_seat,
        second_seat,
        unit,
        cluster,
        weight,
        several_seats,
    )
    rated = rate(matches, len(agents), None if anchor is None else index.get(anchor))
    keys = list(seats)
    return Ratings(
        agents,
        rated.strengths,
        rated.differences,
        {keys[effect.seat]: effect for effect in rated.seats},
        one_deal=bool(cluster.min() == cluster.max() and unit.min() != unit.max()),
        anchor=anchor if anchor in index else None,
    )
