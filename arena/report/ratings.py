"""Ratings of the players of competitive games, from their episodes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import NamedTuple, TypeVar

import numpy as np

from arena.report.units import Units
from arena.results.rows import PLAYED, EpisodeRow
from arena.statistics.ratings import Difference, Matches, SeatEffect, Strength, rate

K = TypeVar("K")


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


def compare_players(episode: EpisodeRow) -> Iterator[Comparison]:
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
    episodes: Sequence[EpisodeRow], units: Units, anchor: str | None = None
) -> Ratings:
    """Rate all players who met another player in these episodes.

    anchor: the player whose rating is 1500; without it the mean of each group is.
    """
    agents = sorted({agent for episode in episodes for agent in episode.agents})
    index = {agent: number for number, agent in enumerate(agents)}
    number: _Numbers[object] = _Numbers()
    seats: _Numbers[tuple[str, int]] = _Numbers()
    rows = []
    for episode in episodes:
        last = len(episode.agents) - 1
        for found in compare_players(episode):
            pair = tuple(sorted((found.first, found.second)))
            rows.append(
                (
                    index[found.first],
                    index[found.second],
                    found.score,
                    *(
                        -1 if seat == last else seats[episode.game, seat]
                        for seat in (found.first_seat, found.second_seat)
                    ),
                    number["unit", units.lineup(episode), pair],
                    number["cluster", units.cluster(episode)],
                    units.weight(episode),
                )
            )
    if not rows:
        return Ratings(agents)
    first, second, score, first_seat, second_seat, unit, cluster, weight = map(
        np.array, zip(*rows, strict=True)
    )
    unit, cluster = (np.unique(values, return_inverse=True)[1] for values in (unit, cluster))
    matches = Matches(
        first,
        second,
        score,
        first_seat,
        second_seat,
        unit,
        cluster,
        weight,
        any(len(episode.agents) > 2 for episode in episodes),
    )
    rated = rate(matches, len(agents), None if anchor is None else index.get(anchor))
    keys = list(seats)
    return Ratings(
        agents,
        rated.strengths,
        rated.differences,
        {keys[effect.seat]: effect for effect in rated.seats},
        one_deal=len(rows) > 1 and int(cluster.max()) == 0 and int(unit.max()) > 0,
        anchor=anchor if anchor in index else None,
    )


class _Numbers(dict[K, int]):
    """Numbers keys in the order of their first use."""

    def __missing__(self, key: K) -> int:
        self[key] = number = len(self)
        return number
