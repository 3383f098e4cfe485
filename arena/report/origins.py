"""Who answered for each player, and how: several providers of one model are not one model."""

from __future__ import annotations

from collections import Counter

from arena.results.columns import SeatCounts
from arena.results.rows import Origin


class Origins:
    """Counts the answers of one player by their origin."""

    def __init__(self) -> None:
        self._answers: Counter[Origin] = Counter()
        self._illegal: Counter[Origin] = Counter()

    def add(self, found: SeatCounts) -> None:
        """Count the answers in seats."""
        for origin, answers, illegal in found.origins:
            self._answers[origin] += found.seats * answers
            self._illegal[origin] += found.seats * illegal

    @property
    def several(self) -> bool:
        """Whether the answers have more than one origin."""
        return len(self._answers) > 1

    @property
    def total(self) -> int:
        """The number of all answers."""
        return self._answers.total()

    def listed(self) -> list[tuple[Origin, int, int]]:
        """Each origin with the number of its answers and of illegal ones, most answers first."""
        ordered = sorted(self._answers.items(), key=lambda item: (-item[1], item[0]))
        return [(origin, answers, self._illegal[origin]) for origin, answers in ordered]
