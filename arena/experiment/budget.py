"""What an experiment may take, and how much of it is used."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from arena.results.rows import CallKey
from arena.results.spending import Spent

#: Part of a budget from which on there is a warning.
NEAR = 0.8

#: By which part of a budget its sum of dollars may be off: it is in floating point.
_ROUNDING = 1e-9


class BudgetSpent(Exception):
    """The experiment's budget is used up. What was played so far is saved."""


@dataclass(frozen=True, slots=True)
class Budget:
    """Bounds of an experiment, over all its runs; None is no bound.

    max_tokens_total: prompt and completion tokens together.
    """

    max_cost_usd: float | None = None
    max_tokens_total: int | None = None

    def used(self, spent: Spent) -> float:
        """The part that is used, of the bound that is nearest: 1 and more is all."""
        bounds = ((spent.cost_usd, self.max_cost_usd), (spent.tokens, self.max_tokens_total))
        return max((amount / bound for amount, bound in bounds if bound is not None), default=0.0)

    def describe(self, spent: Spent) -> str:
        """How much of which bound is used, such as "$0.81 of max_cost_usd 1"."""
        parts = []
        if self.max_cost_usd is not None:
            parts.append(f"${spent.cost_usd:.4f} of max_cost_usd {self.max_cost_usd:g}")
        if self.max_tokens_total is not None:
            parts.append(f"{spent.tokens} of max_tokens_total {self.max_tokens_total}")
        return ", ".join(parts)

    def check(self, spent: Spent, expected: Spent) -> None:
        """Raises BudgetSpent where it is used up, or one more call would pass it.

        expected: what comes on top, by the calls under way and the next one.
        """
        told = f"the budget is spent: {self.describe(spent)}"
        if self.used(spent) >= 1:
            raise BudgetSpent(told)
        total = Spent(spent.tokens + expected.tokens, spent.cost_usd + expected.cost_usd)
        if self.used(total) > 1 + _ROUNDING:
            raise BudgetSpent(f"{told}, and the next call would pass it")


class UnderWay:
    """The calls that have no reply yet, and what those will take.

    A reply is expected to take what its model's replies took so far, in the mean; nothing
    where there is none. So a model's first replies can pass a budget, and others by no
    more than they differ from that mean.

    replies: those that are there: by model, how many and what they took.
    """

    def __init__(self, replies: Mapping[str, tuple[int, Spent]]) -> None:
        self._calls: dict[CallKey, str] = {}
        self._replies = dict(replies)

    def begin(self, key: CallKey, model: str) -> None:
        self._calls[key] = model

    def end(self, key: CallKey, took: Spent | None = None) -> None:
        """took: by its reply; None: there is none."""
        model = self._calls.pop(key, None)
        if model is not None and took is not None:
            count, sums = self._replies.get(model, (0, Spent(0, 0.0)))
            sums = Spent(sums.tokens + took.tokens, sums.cost_usd + took.cost_usd)
            self._replies[model] = count + 1, sums

    def drop(self, episode: str) -> None:
        """End all calls of an episode: who made them may be gone."""
        for key in [key for key in self._calls if key.episode == episode]:
            self.end(key)

    def expected(self, model: str) -> Spent:
        """What they will take, and one more call of this model."""
        tokens = cost_usd = 0.0
        for name, calls in Counter([*self._calls.values(), model]).items():
            if name in self._replies:
                replies, took = self._replies[name]
                tokens += calls * took.tokens / replies
                cost_usd += calls * took.cost_usd / replies
        return Spent(math.ceil(tokens), cost_usd)
