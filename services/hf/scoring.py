"""One scoring job on its way through the engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

#: Takes a scoring job's sums, or its error; called from the engine's thread.
ScoringSink = Callable[[list[float] | BaseException], None]


@dataclass(eq=False, slots=True)
class ScoringJob:
    """Continuations to score; `sink` gets the list of sums, or an error.

    cached: tokens of the prompt that came from the prefix cache, known by then.
    """

    prompt: list[int]
    continuations: list[list[int]]
    sink: ScoringSink
    cached: int = 0
    cancelled: bool = False

    def cancel(self) -> None:
        """Stop after the pass that runs now."""
        self.cancelled = True

    def fail(self, error: BaseException) -> None:
        """End it with an error."""
        self.sink(error)
