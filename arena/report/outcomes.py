"""Who won: what an episode means for each of its seats."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import combinations

from arena.results.rows import PLAYED, EpisodeRow


class Outcome(StrEnum):
    """Of one seat. A draw is also a tie for the first place among more than two."""

    WIN = "win"
    DRAW = "draw"
    LOSS = "loss"
    FAILED = "failed"


def outcome(episode: EpisodeRow, seat: int) -> Outcome | None:
    """A seat's outcome: by the returns, or by who forfeited. None for a game for one.

    Where several forfeited at once (loser is None) nobody won: all lose.
    """
    if episode.status == "failed":
        return Outcome.FAILED
    if len(episode.agents) == 1:
        return Outcome.LOSS if episode.status == "forfeited" else None
    if episode.status == "forfeited":
        return Outcome.LOSS if episode.loser in (seat, None) else Outcome.WIN
    returns = episode.returns or ()
    mine, others = returns[seat], returns[:seat] + returns[seat + 1 :]
    if mine > max(others):
        return Outcome.WIN
    return Outcome.LOSS if mine < max(others) else Outcome.DRAW


def comparisons(episode: EpisodeRow) -> Iterator[tuple[str, str, float]]:
    """(agent, agent, what the first scored: 1, 0.5 or 0) for each pair of seats.

    Who forfeits loses to each of the others, who are not compared among themselves;
    an episode that failed compares nobody, and nobody is compared with itself.
    """
    for one, two in combinations(range(len(episode.agents)), 2):
        agents = episode.agents[one], episode.agents[two]
        if agents[0] == agents[1]:
            continue
        if episode.status == "forfeited" and episode.loser in (one, two):
            yield *agents, float(episode.loser == two)
        elif episode.status in PLAYED and episode.returns is not None:
            a, b = episode.returns[one], episode.returns[two]
            yield *agents, 0.5 if a == b else float(a > b)


@dataclass(slots=True)
class Tally:
    """Outcomes counted. returns: of the episodes that have any; forfeits are among the losses."""

    wins: int = 0
    draws: int = 0
    losses: int = 0
    forfeits: int = 0
    failed: int = 0
    returns: list[float] = field(default_factory=list)

    def add(self, episode: EpisodeRow, seat: int) -> None:
        match outcome(episode, seat):
            case Outcome.WIN:
                self.wins += 1
            case Outcome.DRAW:
                self.draws += 1
            case Outcome.LOSS:
                self.losses += 1
            case Outcome.FAILED:
                self.failed += 1
        self.forfeits += episode.status == "forfeited" and episode.loser in (seat, None)
        if episode.status in PLAYED and episode.returns is not None:
            self.returns.append(episode.returns[seat])

    @property
    def games(self) -> int:
        """Those with an outcome: a failed episode has none."""
        return self.wins + self.draws + self.losses

    @property
    def score(self) -> float | None:
        """Wins and half the draws, as a share of the games."""
        return (self.wins + self.draws / 2) / self.games if self.games else None

    @property
    def mean_return(self) -> float | None:
        return sum(self.returns) / len(self.returns) if self.returns else None


@dataclass(frozen=True, slots=True)
class Share:
    """`count` of `total`, with a 95 % interval.

    Wilson's score interval (Wilson 1927), which also holds for few games and near 0 or 1.
    """

    count: int
    total: int

    @property
    def value(self) -> float | None:
        return self.count / self.total if self.total else None

    @property
    def interval(self) -> tuple[float, float] | None:
        if not self.total:
            return None
        # Imported here, as it takes longer than most commands of the arena.
        from scipy.stats import binomtest

        low, high = binomtest(self.count, self.total).proportion_ci(method="wilson")
        return float(low), float(high)
