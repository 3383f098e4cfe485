"""Which episode is next: a slow model must not take the places of the others."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable

from arena.experiment.schedule import EpisodeSpec


class FairQueue:
    """Episodes that wait, and those that were taken and have not ended.

    The next one is that whose busiest model is in the fewest episodes now; among equals,
    the first in the order given. So while others have work, a model holds no more than
    its share of the places, however slowly it answers.
    """

    def __init__(
        self, specs: Iterable[EpisodeSpec], models_of: Callable[[EpisodeSpec], frozenset[str]]
    ) -> None:
        """models_of: the models that an episode asks."""
        self._models_of = models_of
        self._waiting: dict[frozenset[str], deque[tuple[int, EpisodeSpec]]] = {}
        self._taken: dict[str, tuple[int, EpisodeSpec]] = {}
        self._busy: Counter[str] = Counter()
        for place, spec in enumerate(specs):
            self._waiting.setdefault(models_of(spec), deque()).append((place, spec))

    @property
    def taken(self) -> dict[str, EpisodeSpec]:
        """The episodes that were taken and have not ended."""
        return {episode: spec for episode, (_, spec) in self._taken.items()}

    def take(self) -> EpisodeSpec | None:
        """The next episode to play; None if none waits."""
        groups = [(models, waiting) for models, waiting in self._waiting.items() if waiting]
        if not groups:
            return None
        models, waiting = min(groups, key=lambda group: (self._busiest(group[0]), group[1][0][0]))
        place, spec = waiting.popleft()
        self._taken[spec.episode] = place, spec
        self._busy.update(models)
        return spec

    def end(self, episode: str) -> EpisodeSpec | None:
        """A taken episode has ended; None if it had not been taken."""
        _, spec = self._taken.pop(episode, (0, None))
        if spec is not None:
            self._busy.subtract(self._models_of(spec))
        return spec

    def put_back(self, episode: str) -> None:
        """A taken episode waits again, before the others of its models."""
        place, _ = self._taken[episode]
        if spec := self.end(episode):
            self._waiting[self._models_of(spec)].appendleft((place, spec))

    def _busiest(self, models: frozenset[str]) -> int:
        return max((self._busy[model] for model in models), default=0)
