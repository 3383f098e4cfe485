"""Outcomes and returns of a player, counted by independent units."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable
from dataclasses import dataclass, field
from enum import StrEnum

from arena.games.scale import GameScale
from arena.results.rows import PLAYED, EpisodeRow
from arena.statistics.intervals import RETURNS, SCORES, Mean, mean_interval


class SeatOutcome(StrEnum):
    """The outcome of an episode for one seat.

    With more than two players, a shared first place is a draw.
    """

    WIN = "win"
    DRAW = "draw"
    LOSS = "loss"
    FAILED = "failed"


_POINTS = {SeatOutcome.WIN: 1.0, SeatOutcome.DRAW: 0.5, SeatOutcome.LOSS: 0.0}


def find_outcome(episode: EpisodeRow, seat: int, *, competitive: bool = True) -> SeatOutcome | None:
    """Return a seat's outcome, by the returns or by who forfeited.

    competitive: see GameScale. None in a game where nobody wins: with only one player, or if
    it is not competitive. If several seats forfeited at the same time (loser is None), all
    seats lose.
    """
    if episode.status == "failed":
        return SeatOutcome.FAILED
    if len(episode.agents) == 1 or not competitive:
        lost = episode.status == "forfeited" and episode.loser in (seat, None)
        return SeatOutcome.LOSS if lost else None
    if episode.status == "forfeited":
        return SeatOutcome.LOSS if episode.loser in (seat, None) else SeatOutcome.WIN
    returns = episode.returns or ()
    own, others = returns[seat], returns[:seat] + returns[seat + 1 :]
    if own > max(others):
        return SeatOutcome.WIN
    return SeatOutcome.LOSS if own < max(others) else SeatOutcome.DRAW


class Sample:
    """Values of independent units. The value of a unit is the mean of its episodes'."""

    def __init__(self) -> None:
        self._units: defaultdict[Hashable, list[float]] = defaultdict(list)

    def add(self, unit: Hashable, value: float) -> None:
        """Add the value of an episode."""
        self._units[unit].append(value)

    def __len__(self) -> int:
        return len(self._units)

    def mean(self, low: float = 0.0, high: float = 1.0, floor: float = SCORES) -> Mean | None:
        """Return the mean with its interval; None without units. low, high: bounds of a value."""
        if not self._units:
            return None
        values = [sum(found) / len(found) for found in self._units.values()]
        return mean_interval(values, low, high, floor)


@dataclass(slots=True)
class WinDrawLoss:
    """Counted outcomes of competitive games. losses include forfeits.

    scores: 1, 1/2 or 0 of each game. strict: the same with failed episodes as losses.
    """

    wins: int = 0
    draws: int = 0
    losses: int = 0
    forfeits: int = 0
    failed: int = 0
    scores: Sample = field(default_factory=Sample)
    strict: Sample = field(default_factory=Sample)

    def add(self, episode: EpisodeRow, seat: int, unit: Hashable) -> None:
        """Count an episode for one of its seats."""
        outcome = find_outcome(episode, seat)
        match outcome:
            case SeatOutcome.WIN:
                self.wins += 1
            case SeatOutcome.DRAW:
                self.draws += 1
            case SeatOutcome.LOSS:
                self.losses += 1
            case SeatOutcome.FAILED:
                self.failed += 1
        self.forfeits += episode.status == "forfeited" and episode.loser in (seat, None)
        if outcome in _POINTS:
            self.scores.add(unit, _POINTS[outcome])
        if outcome is not None:
            self.strict.add(unit, _POINTS.get(outcome, 0.0))

    def add_points(self, points: float) -> None:
        """Count a comparison with another player. points: 1, 1/2 or 0."""
        self.wins += points == 1
        self.draws += points == 0.5
        self.losses += points == 0

    @property
    def games(self) -> int:
        """The episodes with an outcome: failed episodes have none."""
        return self.wins + self.draws + self.losses

    @property
    def score(self) -> float | None:
        """Wins and half the draws, as a share of the games."""
        return (self.wins + self.draws / 2) / self.games if self.games else None


@dataclass(slots=True)
class ReturnStats:
    """A player's returns in one game.

    played: of the finished and truncated episodes. strict: the same, and the lowest return of
    the game for each forfeit. forfeited_to: episodes in which another player forfeited: nobody
    earned a return there.
    """

    scale: GameScale
    episodes: int = 0
    forfeits: int = 0
    forfeited_to: int = 0
    failed: int = 0
    played: Sample = field(default_factory=Sample)
    strict: Sample = field(default_factory=Sample)

    def add(self, episode: EpisodeRow, seat: int, unit: Hashable) -> None:
        """Count an episode for one of its seats."""
        if episode.status == "failed":
            self.failed += 1
        elif episode.status in PLAYED and episode.returns is not None:
            self.episodes += 1
            for sample in (self.played, self.strict):
                sample.add(unit, episode.returns[seat])
        elif episode.loser in (seat, None):
            self.forfeits += 1
            self.strict.add(unit, self.scale.low)
        else:
            self.forfeited_to += 1

    @property
    def mean(self) -> Mean | None:
        """The mean return of the played episodes."""
        return self.played.mean(self.scale.low, self.scale.high, RETURNS)

    @property
    def strict_mean(self) -> Mean | None:
        """The mean return if each forfeit counts as the game's lowest return."""
        return self.strict.mean(self.scale.low, self.scale.high, RETURNS)
