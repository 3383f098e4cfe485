"""What a player answered, and what the answers took."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, field

import numpy as np

from arena.report.outcomes import Sample
from arena.results.rows import FailedCallRow, MoveRow
from arena.statistics.intervals import Mean
from arena_llm.types import FinishReason


@dataclass(frozen=True, slots=True)
class Share:
    """`count` of `total`."""

    count: int
    total: int

    @property
    def value(self) -> float | None:
        """The share; None if the total is 0."""
        return self.count / self.total if self.total else None


@dataclass(slots=True)
class AnswerStats:
    """A player's turns, and the answers of its model.

    turns: a turn may take several answers. calls: answers of models; latencies (ms), tokens
    and cost belong to them. first_legal: turns whose first answer was legal. illegal_shares: of
    each episode. policies: what was done about illegal answers. ends: why replies ended, other
    than by themselves. cost_picousd: in 10^-12 US dollars. uncounted, unpriced: calls with
    unknown tokens, and with unknown cost. reasoned: calls whose reasoning tokens are known.
    replayed: calls whose reply was that of an earlier call. retried: calls with several requests
    to the provider; failed_attempts_picousd: what those of them cost that failed. unknown_requests:
    requests without a stored reply that the provider may have billed.
    """

    turns: int = 0
    first_legal: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    policies: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    calls: int = 0
    latencies: list[float] = field(default_factory=list)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    reasoned: int = 0
    uncounted: int = 0
    cost_picousd: int = 0
    unpriced: int = 0
    replayed: int = 0
    retried: int = 0
    failed_attempts_picousd: int = 0
    unknown_requests: int = 0
    illegal_shares: Sample = field(default_factory=Sample)

    def add(self, move: MoveRow, *, local: bool = False) -> None:
        """Count one row of moves. local: the model runs here, so an answer costs nothing."""
        self.turns += move.attempt == 0
        self.first_legal += move.attempt == 0 and move.status == "ok"
        self.statuses[move.status] += 1
        if move.policy:
            self.policies[move.policy] += 1
        if not move.model:
            return  # what a failed call took is in the table failed_calls
        if move.latency_ms is not None:
            self.latencies.append(move.latency_ms)
        self.prompt_tokens += move.prompt_tokens or 0
        self.completion_tokens += move.completion_tokens or 0
        self.reasoning_tokens += move.reasoning_tokens or 0
        self.cost_picousd += move.cost_picousd or 0
        self.retried += (move.attempts or 0) > 1
        self.failed_attempts_picousd += move.failed_attempts_picousd or 0
        self.calls += 1
        self.reasoned += move.reasoning_tokens is not None
        self.uncounted += move.prompt_tokens is None or move.completion_tokens is None
        self.unpriced += move.cost_picousd is None and not local
        self.replayed += bool(move.replayed)
        if move.finish_reason not in (None, FinishReason.STOP):
            self.ends[move.finish_reason] += 1

    def add_episode(self, unit: Hashable, answers: Share) -> None:
        """Count the illegal answers of an episode. unit: what is independent of other units."""
        if answers.value is not None:
            self.illegal_shares.add(unit, answers.value)

    def add_failed(self, call: FailedCallRow) -> None:
        """Count what a failed call took. It is not an answer."""
        self.prompt_tokens += call.prompt_tokens or 0
        self.completion_tokens += call.completion_tokens or 0
        self.cost_picousd += call.cost_picousd or 0
        self.unknown_requests += call.cost_picousd is None

    def __iadd__(self, other: AnswerStats) -> AnswerStats:
        """Add the counts of another player. The shares by episode stay separate."""
        for name in self.__slots__:
            if name != "illegal_shares":
                setattr(self, name, getattr(self, name) + getattr(other, name))
        return self

    @property
    def errors(self) -> int:
        """Calls that failed. They are not answers."""
        return self.statuses["error"]

    @property
    def unparseable(self) -> int:
        """Answers in a wrong format."""
        return self.statuses["unparseable"]

    @property
    def illegal(self) -> Share:
        """Models' answers that are illegal actions or in a wrong format."""
        return Share(self.statuses["illegal"] + self.unparseable, self.calls)

    @property
    def illegal_rate(self) -> Mean | None:
        """The mean of the episodes' shares of illegal answers: answers of one episode resemble
        each other, so they are not independent."""
        return self.illegal_shares.mean()

    @property
    def priced(self) -> int:
        """Calls with known cost."""
        return self.calls - self.unpriced

    def percentile(self, percent: float) -> float | None:
        """Return a percentile of the latencies, in ms."""
        return float(np.percentile(self.latencies, percent)) if self.latencies else None

    def per_turn(self, total: float) -> float | None:
        """Return a total divided by the number of turns."""
        return total / self.turns if self.turns else None
