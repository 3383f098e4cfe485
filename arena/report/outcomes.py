"""Outcomes and returns of a player, counted by independent units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from arena.games.scale import GameScale
from arena.results.columns import Floats, Kind, Numbers
from arena.results.rows import PLAYED, EpisodeRow
from arena.statistics.groups import mean_by_group
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


def find_outcome(
    episode: EpisodeRow | Kind, seat: int, *, competitive: bool = True
) -> SeatOutcome | None:
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
        self._units: list[Numbers] = []
        self._values: list[Floats] = []

    def add(self, units: Numbers, values: Floats | float) -> None:
        """Add the values of episodes. units: the number of each episode's unit."""
        self._units.append(units)
        self._values.append(np.broadcast_to(np.asarray(values, float), units.shape))

    def mean(self, low: float = 0.0, high: float = 1.0, floor: float = SCORES) -> Mean | None:
        """Return the mean with its interval; None without units. low, high: bounds of a value."""
        if not sum(map(len, self._units)):
            return None
        values = mean_by_group(np.concatenate(self._units), np.concatenate(self._values))
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

    def add(self, kind: Kind, seat: int, units: Numbers) -> None:
        """Count episodes of a kind for one of its seats. units: of each episode."""
        outcome, count = find_outcome(kind, seat), len(units)
        match outcome:
            case SeatOutcome.WIN:
                self.wins += count
            case SeatOutcome.DRAW:
                self.draws += count
            case SeatOutcome.LOSS:
                self.losses += count
            case SeatOutcome.FAILED:
                self.failed += count
        if kind.status == "forfeited" and kind.loser in (seat, None):
            self.forfeits += count
        if outcome in _POINTS:
            self.scores.add(units, _POINTS[outcome])
        if outcome is not None:
            self.strict.add(units, _POINTS.get(outcome, 0.0))

    def add_points(self, points: float, times: int) -> None:
        """Count comparisons with another player. points: 1, 1/2 or 0 of each."""
        self.wins += times * (points == 1)
        self.draws += times * (points == 0.5)
        self.losses += times * (points == 0)

    @property
    def games(self) -> int:
        """The episodes with an outcome: failed episodes have none."""
        return self.wins + self.draws + self.losses

    @property
    def score(self) -> float | None:
        """Wins and half the draws, as a share of the games."""
        return (self.wins + self.draws / 2) / self.games if self.games else None


@dataclass(slots=True)
class MoveQuality:
    """How good a player's moves were in one game.

    moves: that were judged. shares: of best moves, and regrets: the mean regret, of each episode.
    """

    moves: int = 0
    best: int = 0
    shares: Sample = field(default_factory=Sample)
    regrets: Sample = field(default_factory=Sample)

    def add(self, unit: Numbers, regrets: Sequence[float]) -> None:
        """Count the moves of an episode by their regrets. unit: of the episode."""
        best = sum(regret == 0 for regret in regrets)
        self.moves += len(regrets)
        self.best += best
        self.shares.add(unit, best / len(regrets))
        self.regrets.add(unit, sum(regrets) / len(regrets))


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

    def add(self, kind: Kind, seat: int, units: Numbers) -> None:
        """Count episodes of a kind for one of its seats. units: of each episode."""
        count = len(units)
        if kind.status == "failed":
            self.failed += count
        elif kind.status in PLAYED and kind.returns is not None:
            self.episodes += count
            for sample in (self.played, self.strict):
                sample.add(units, kind.returns[seat])
        elif kind.loser in (seat, None):
            self.forfeits += count
            self.strict.add(units, self.scale.low)
        else:
            self.forfeited_to += count

    @property
    def mean(self) -> Mean | None:
        """The mean return of the played episodes."""
        return self.played.mean(self.scale.low, self.scale.high, RETURNS)

    @property
    def strict_mean(self) -> Mean | None:
        """The mean return if each forfeit counts as the game's lowest return."""
        return self.strict.mean(self.scale.low, self.scale.high, RETURNS)
