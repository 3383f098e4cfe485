"""What the players answered: legal or not, how long it took, what it cost."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from arena.report.outcomes import Share
from arena.results.rows import MoveRow


@dataclass(slots=True)
class Answers:
    """A player's answers in one game.

    turns: of a seat at a ply, however many answers it took. answers: all that came, so
    none of `errors`, where a call failed. first_legal: turns whose first answer was
    legal. policies: what was done about those that were not. calls: of models; to them
    belong latencies (ms), tokens and dollars. What `unpriced` ones cost, nobody knows.
    """

    turns: int = 0
    first_legal: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    policies: Counter[str] = field(default_factory=Counter)
    calls: int = 0
    latencies: list[float] = field(default_factory=list)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    cost_usd: float = 0.0
    unpriced: int = 0

    def add(self, move: MoveRow) -> None:
        self.turns += move.attempt == 0
        self.first_legal += move.attempt == 0 and move.status == "ok"
        self.statuses[move.status] += 1
        if move.policy:
            self.policies[move.policy] += 1
        self.calls += bool(move.model)
        if move.latency_ms is not None:
            self.latencies.append(move.latency_ms)
        self.prompt_tokens += move.prompt_tokens or 0
        self.completion_tokens += move.completion_tokens or 0
        self.reasoning_tokens += move.reasoning_tokens or 0
        self.cost_usd += move.cost_usd or 0.0
        self.unpriced += move.cost_usd is None and bool(move.model)

    def __iadd__(self, other: Answers) -> Answers:
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        return self

    @property
    def errors(self) -> int:
        return self.statuses["error"]

    @property
    def answers(self) -> int:
        return self.statuses.total() - self.errors

    @property
    def illegal(self) -> Share:
        """Answers that were no move: not in the format, or in it and not legal."""
        return Share(self.statuses["illegal"] + self.statuses["unparseable"], self.answers)

    @property
    def priced(self) -> int:
        """Calls whose price is known."""
        return self.calls - self.unpriced

    def percentile(self, percent: float) -> float | None:
        """Of the latencies, in ms."""
        return float(np.percentile(self.latencies, percent)) if self.latencies else None

    def per_turn(self, total: float) -> float | None:
        return total / self.turns if self.turns else None
