"""What the episodes of an experiment can show: whether they tell players apart."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import combinations

from arena.experiment.file import Experiment, GamePlan

#: The expected scores to tell from 50 %.
SCORES = (0.55, 0.6, 0.7, 0.8)
#: Two shares of drawn games: none, and usual for even players.
DRAWS = (0.0, 0.3)


@dataclass(frozen=True, slots=True)
class Power:
    """What the episodes of a pair of players in one game can show.

    episodes: of the pair that meets most rarely, in all seat orders; 0 if nobody meets. score:
    the smallest of SCORES that these episodes tell from 50 % with a power of 80 %, if no game is
    drawn; None if there is none.
    """

    game: str
    episodes: int
    score: float | None


@dataclass(frozen=True, slots=True)
class Needed:
    """How many episodes of a pair tell a score from 50 %, without draws and with 30 %."""

    score: float
    episodes: int
    with_draws: int


def list_needed() -> tuple[Needed, ...]:
    """Return for each of SCORES how many independent episodes it needs."""
    # Imported here because the import takes longer than most commands.
    from arena.statistics.power import games_needed

    return tuple(
        Needed(score, *(games_needed(score, draws) for draws in DRAWS)) for score in SCORES
    )


def list_powers(experiment: Experiment) -> tuple[Power, ...]:
    """Return for each game what its episodes can show."""
    needed = list_needed()
    powers = []
    for game in experiment.games:
        episodes = _count_rarest(game)
        enough = [row.score for row in needed if row.episodes <= episodes]
        powers.append(Power(game.spec, episodes, min(enough, default=None)))
    return tuple(powers)


def _count_rarest(game: GamePlan) -> int:
    pairs = Counter(
        pair for lineup in game.lineups for pair in combinations(sorted(set(lineup)), 2)
    )
    return game.episodes * min(pairs.values(), default=0)
