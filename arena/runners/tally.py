"""How far an experiment is."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Tally:
    """How far an experiment is.

    total: episodes that it has. episodes: those that have ended, by status; of failed
    ones, this run's. playing: those under way. answers, illegal: of models, in the
    episodes that ended in this run. tokens, cost_usd: of all runs; budget: the used share
    of the tightest limit (0: there is no limit); budget_key: that limit's key. work, done:
    moves that models are expected to make in this run, and those made. failures: reasons
    of this run's failed episodes.
    lost: workers that died and were replaced. stopped: why no more calls are begun;
    empty while they are.
    """

    total: int
    episodes: Counter[str] = field(default_factory=Counter)
    playing: int = 0
    answers: int = 0
    illegal: int = 0
    tokens: int = 0
    cost_usd: float = 0.0
    budget: float = 0.0
    budget_key: str = ""
    work: float = 0.0
    done: float = 0.0
    failures: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    stopped: str = ""
