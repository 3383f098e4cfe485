"""Which episodes are independent of each other, and which are copies of one.

The unit is the deal, not the game: all games of one line-up on one deal, in all seat orders.
Copies count once only where nothing was drawn, that is without chance events and between
players that always answer alike. Everywhere else, equal games are separate draws.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

from arena.games.game import CHANCE
from arena.games.scale import GameScale
from arena.results.rows import EpisodeRow, ModelRow, MoveRow

#: Prefixes of the backends whose engine runs here and is repeatable.
_LOCAL = ("hf_", "vllm_")


@dataclass(frozen=True, slots=True)
class Course:
    """How an episode went. trajectory: equal for equal actions. drawn: something was drawn."""

    trajectory: int
    drawn: bool

    @classmethod
    def of(cls, moves: Iterable[MoveRow]) -> Course:
        """Return the course of an episode, from its moves in the order of play."""
        digest, drawn = blake2b(digest_size=8), False
        for move in moves:
            drawn |= move.seat == CHANCE or move.policy == "random"
            if move.action is not None:
                digest.update(f"{move.ply} {move.seat} {move.action}\n".encode())
        return cls(int.from_bytes(digest.digest()) >> 1, drawn)


@dataclass(slots=True)
class GameUnits:
    """What is independent in one game.

    episodes: with a result. deals: of these. units: of line-ups on deals; copies count once.
    distinct: different trajectories. swapped: units in which each player had each seat.
    """

    episodes: int = 0
    deals: set[Hashable] = field(default_factory=set)
    orders: defaultdict[Hashable, set[tuple[str, ...]]] = field(
        default_factory=lambda: defaultdict(set)
    )
    trajectories: set[int] = field(default_factory=set)
    copies: int = 0

    @property
    def units(self) -> int:
        """The number of independent units."""
        return len(self.orders)

    @property
    def distinct(self) -> int:
        """The number of different trajectories."""
        return len(self.trajectories)

    @property
    def repeats(self) -> bool:
        """Whether more than half of the episodes repeat another one."""
        return 2 * self.distinct < self.episodes

    @property
    def estimator(self) -> str:
        """How means are estimated: sampled, or swapped if each deal was played in all seats."""
        swapped = all(
            len(orders) == len(set(_rotations(next(iter(orders))))) > 1
            for orders in self.orders.values()
        )
        return "swapped" if self.orders and swapped else "sampled"


class Units:
    """The units of all episodes of a file."""

    def __init__(
        self,
        episodes: Sequence[EpisodeRow],
        courses: Mapping[str, Course],
        scales: Mapping[str, GameScale],
        participants: Mapping[str, ModelRow],
    ) -> None:
        self._scales = scales
        fixed = {name for name, row in participants.items() if is_deterministic(row)}
        self._fixed = {
            episode.episode
            for episode in episodes
            if fixed.issuperset(episode.agents)
            and not courses[episode.episode].drawn
            and episode.status != "failed"
        }
        #: How often each fixed line-up was played: together, its episodes count once.
        self._copies = Counter(
            (episode.game, episode.agents) for episode in episodes if episode.episode in self._fixed
        )
        self.games: dict[str, GameUnits] = {}
        for episode in episodes:
            if episode.status == "failed":
                continue
            found = self.games.setdefault(episode.game, GameUnits())
            found.episodes += 1
            found.deals.add(self._deal(episode))
            found.orders[self.lineup(episode)].add(episode.agents)
            found.trajectories.add(courses[episode.episode].trajectory)
        for (game, _), count in self._copies.items():
            self.games[game].copies += count - 1

    def _deal(self, episode: EpisodeRow) -> Hashable:
        """Return what was dealt: nothing, if nothing was drawn."""
        return None if episode.episode in self._fixed else (episode.seed, episode.number)

    def lineup(self, episode: EpisodeRow) -> Hashable:
        """Return the unit of an episode's line-up, in any seat order, on its deal."""
        return episode.game, tuple(sorted(episode.agents)), self._deal(episode)

    def episode(self, episode: EpisodeRow) -> Hashable:
        """Return the unit of an episode for what is independent in each episode, such as errors."""
        if episode.episode in self._fixed:
            return episode.game, episode.agents
        return episode.episode

    def cluster(self, episode: EpisodeRow) -> Hashable:
        """Return what is independent of other clusters.

        A deal favours a seat or a player against all rivals alike, so all its games may err
        together. Without chance events, games of different line-ups are independent.
        """
        if self._scales[episode.game].chance:
            return episode.game, self._deal(episode)
        return self.lineup(episode)

    def weight(self, episode: EpisodeRow) -> float:
        """Return the weight of an episode: less than 1 if copies of it count once together."""
        if episode.episode not in self._fixed:
            return 1.0
        return 1 / self._copies[episode.game, episode.agents]


def is_deterministic(player: ModelRow) -> bool:
    """Return whether a player always answers a position alike, by its settings.

    True for alpha-beta search, and for local models that take the likeliest action or have
    temperature 0. Hosted models are not repeatable, even at temperature 0.
    """
    if player.type == "minimax":
        return True
    if not is_local(player):
        return False
    try:
        settings = json.loads(player.config)
    except ValueError:
        return False
    if not isinstance(settings, dict):
        return False
    if settings.get("reply") == "score":
        return bool(settings.get("score_pick", "argmax") == "argmax")
    return bool(settings.get("temperature") == 0)


def is_local(player: ModelRow) -> bool:
    """Return whether a player is a model of this machine, whose answers cost nothing."""
    return player.type == "llm" and (player.model or "").startswith(_LOCAL)


def _rotations(agents: tuple[str, ...]) -> Iterable[tuple[str, ...]]:
    return (agents[first:] + agents[:first] for first in range(len(agents)))
