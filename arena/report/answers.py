"""A player's answers: their legality, tokens, cost and time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from arena.report.outcomes import Sample
from arena.results.columns import Floats, Numbers, SeatCounts
from arena.results.rows import FailedCallRow, MoveRow
from arena.statistics.intervals import Mean

#: Counts of seats that are added unchanged, and those that are among the details.
_SUMS = (
    "turns", "first_legal", "calls", "prompt_tokens", "completion_tokens", "reasoning_tokens",
    "reasoned", "uncounted", "cost_picousd",
)  # fmt: skip
_RARE = ("replayed", "cached", "fallbacks", "retried", "failed_attempts_picousd")


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

    turns: a turn may take several answers. calls: answers of models; tokens and cost belong to
    them. latencies (ms): of the calls whose moves were read. first_legal: turns whose first answer
    was legal. illegal_shares: of each episode. policies: what was done about illegal answers. ends:
    why replies ended, other than by themselves. cost_picousd: in 10^-12 US dollars. uncounted,
    unpriced: calls with unknown tokens, and with unknown cost. reasoned: calls whose reasoning
    tokens are known.
    replayed: calls whose reply was that of an earlier call. cached: that the router's cache
    answered. fallbacks: that another model answered, because the player's could not. retried:
    calls with several requests to the provider; failed_attempts_picousd: the cost of the failed
    requests. unknown_requests: requests without a stored reply that the provider may have
    billed.
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
    cached: int = 0
    fallbacks: int = 0
    retried: int = 0
    failed_attempts_picousd: int = 0
    unknown_requests: int = 0
    illegal_shares: Sample = field(default_factory=Sample)

    def add(self, found: SeatCounts, *, local: bool = False) -> None:
        """Count what seats did. local: the model runs here, so an answer costs nothing.

        What a failed call took is in the table failed_calls.
        """
        counts, details = found.counts, found.details
        for name in _SUMS:
            setattr(self, name, getattr(self, name) + counts[name])
        self.statuses.update(
            {
                "ok": counts["ok"],
                "illegal": counts["illegal"],
                "unparseable": counts["unparseable"],
                "error": counts["errors"],
            }
        )
        self.unpriced += 0 if local else counts["unpriced"]
        for own, name in ((self.policies, "policies"), (self.ends, "ends")):
            for kind, count in details.get(name, {}).items():
                own[kind] += found.seats * count
        for name in _RARE:
            setattr(self, name, getattr(self, name) + found.seats * details.get(name, 0))

    def add_latencies(self, moves: Iterable[MoveRow]) -> None:
        """Add the latencies of answers."""
        self.latencies += (
            move.latency_ms for move in moves if move.model and move.latency_ms is not None
        )

    def add_episodes(self, units: Numbers, shares: Floats) -> None:
        """Add the illegal share of the answers in each episode. units: what is independent."""
        self.illegal_shares.add(units, shares)

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
