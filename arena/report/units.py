"""Which episodes are independent of each other, and which are copies of one.

The unit is the deal, not the game: all games of one line-up on one deal, in all seat orders.
Copies count once only where nothing was drawn, that is without chance events and between
players that always answer alike. Everywhere else, equal games are separate draws.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from arena.games.scale import GameScale
from arena.results.columns import Episodes, Flags
from arena.results.rows import ModelRow
from arena.statistics.groups import renumber

#: Prefixes of the backends whose engine runs here and is repeatable.
_LOCAL = ("hf_", "vllm_")


@dataclass(frozen=True, slots=True)
class GameUnits:
    """What is independent in one game.

    episodes: with a result. deals: of these. units: of line-ups on deals; copies count once.
    distinct: different trajectories. copies: episodes that repeat another one and count once
    with it. swapped: each line-up played each deal in all seat orders.
    """

    episodes: int
    deals: int
    units: int
    distinct: int
    copies: int
    swapped: bool

    @property
    def repeats(self) -> bool:
        """Whether more than half of the episodes repeat another one."""
        return 2 * self.distinct < self.episodes

    @property
    def estimator(self) -> str:
        """How means are estimated: sampled, or swapped if each deal was played in all seats."""
        return "swapped" if self.swapped else "sampled"


class Units:
    """The units of episodes: arrays with one number for each, equal for what belongs together.

    lineup: the unit of a line-up, in any seat order, on its deal. cluster: what is independent of
    other clusters. episode: what is independent in each episode, such as errors. weight: less
    than 1 if copies count once together. games: what is independent in each game.

    A deal favours a seat or a player against all rivals alike, so all its games may err together.
    Without chance events, games of different line-ups are independent.
    """

    def __init__(
        self,
        episodes: Episodes,
        scales: Mapping[str, GameScale],
        participants: Mapping[str, ModelRow],
    ) -> None:
        kinds, count = episodes.kinds, len(episodes)
        alike = {name for name, row in participants.items() if is_deterministic(row)}
        self._fixed = ~episodes.replaced & episodes.where(
            alike.issuperset(kind.agents)
            and not scales[kind.game].chance
            and kind.status != "failed"
            for kind in kinds
        )
        games = _number(kind.game for kind in kinds)
        self._order = episodes.of_kind(_number((kind.game, kind.agents) for kind in kinds))
        players = episodes.of_kind(_number((kind.game, *sorted(kind.agents)) for kind in kinds))
        # What was dealt: 0, if nothing was drawn. Episodes are in the order of their deals.
        deals = np.cumsum(np.diff(episodes.deal, prepend=episodes.deal[:1]) != 0) + 1
        self._deal = np.where(self._fixed, 0, deals)
        self.lineup = renumber(players * (count + 1) + self._deal)
        self.cluster = self.lineup
        chance = episodes.where(scales[kind.game].chance for kind in kinds)
        if chance.any():
            on_deal = episodes.of_kind(games) * (count + 1) + self._deal
            # The numbers of clusters of both sorts differ in their sign.
            self.cluster = renumber(np.where(chance, -1 - on_deal, self.lineup))
        last = len(kinds) - 1
        self.episode = np.where(self._fixed, last - self._order, last + 1 + np.arange(count))
        # How often each fixed line-up was played: together, its episodes count once.
        played = np.bincount(self._order[self._fixed], minlength=len(kinds))
        self.weight = np.where(self._fixed, 1 / np.maximum(played[self._order], 1), 1.0)
        self.games: dict[str, GameUnits] = {}
        for name in dict.fromkeys(kind.game for kind in kinds):
            ended = episodes.where(kind.game == name and kind.status != "failed" for kind in kinds)
            if ended.any():
                self.games[name] = self._count(episodes, ended)

    def _count(self, episodes: Episodes, chosen: Flags) -> GameUnits:
        unit = renumber(self.lineup[chosen])
        units = int(unit.max()) + 1
        fixed = self._order[chosen & self._fixed]
        # How many different seat orders a unit has, and how many it could have.
        kinds = len(episodes.kinds)
        orders = np.unique(unit * kinds + self._order[chosen]) // kinds
        rotations = np.zeros(units, np.int64)
        rotations[unit] = episodes.of_kind(
            len(set(_rotations(kind.agents))) for kind in episodes.kinds
        )[chosen]
        return GameUnits(
            episodes=int(chosen.sum()),
            deals=int(renumber(self._deal[chosen]).max()) + 1,
            units=units,
            distinct=len(np.unique(episodes.trajectory[chosen])),
            copies=len(fixed) - len(np.unique(fixed)),
            swapped=bool(((np.bincount(orders) == rotations) & (rotations > 1)).all()),
        )


def _number(values: Iterable[Hashable]) -> list[int]:
    """Number values in the order of their first use; equal values have equal numbers."""
    numbers: dict[Hashable, int] = {}
    return [numbers.setdefault(value, len(numbers)) for value in values]


def is_deterministic(player: ModelRow) -> bool:
    """Return whether a player is deterministic: the same answer to the same position.

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
