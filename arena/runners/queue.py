"""The episodes of a run that wait, and those in play."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
from itertools import count

from arena.experiment.schedule import EpisodeSpec


class FairQueue:
    """Waiting episodes, and those in play.

    `take` returns the episode whose busiest model plays in the fewest episodes; among equals,
    the first one in the original order. So a slow model does not take more than its share of
    the places while episodes of other models wait.
    """

    def __init__(
        self, specs: Iterable[EpisodeSpec], find_models: Callable[[EpisodeSpec], frozenset[str]]
    ) -> None:
        """find_models: returns the models that an episode calls."""
        self._find_models = find_models
        self._waiting: dict[frozenset[str], deque[tuple[int, EpisodeSpec]]] = {}
        self._taken: dict[str, tuple[int, EpisodeSpec]] = {}
        self._busy: Counter[str] = Counter()
        self._places = count()
        for spec in specs:
            self.add(spec)

    def add(self, spec: EpisodeSpec) -> None:
        """Let an episode wait, behind all others."""
        waiting = self._waiting.setdefault(self._find_models(spec), deque())
        waiting.append((next(self._places), spec))

    @property
    def taken(self) -> dict[str, EpisodeSpec]:
        """The episodes in play, by id."""
        return {episode: spec for episode, (_, spec) in self._taken.items()}

    @property
    def is_empty(self) -> bool:
        """Whether no episode waits."""
        return not any(self._waiting.values())

    def take(self) -> EpisodeSpec | None:
        """Take the next episode to play; None if no episode waits."""
        groups = [(models, waiting) for models, waiting in self._waiting.items() if waiting]
        if not groups:
            return None
        models, waiting = min(groups, key=lambda group: (self._load(group[0]), group[1][0][0]))
        place, spec = waiting.popleft()
        self._taken[spec.episode] = place, spec
        self._busy.update(models)
        return spec

    def end(self, episode: str) -> EpisodeSpec | None:
        """Remove an episode in play; None if it was not in play."""
        _, spec = self._taken.pop(episode, (0, None))
        if spec is not None:
            self._busy.subtract(self._find_models(spec))
        return spec

    def put_back(self, episode: str) -> None:
        """Let an episode in play wait again, ahead of its models' other episodes."""
        place, _ = self._taken[episode]
        if spec := self.end(episode):
            self._waiting[self._find_models(spec)].appendleft((place, spec))

    def _load(self, models: frozenset[str]) -> int:
        """Return the number of episodes in play of the busiest of these models."""
        return max((self._busy[model] for model in models), default=0)
