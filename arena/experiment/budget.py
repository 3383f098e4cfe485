"""What an experiment may take, and how much of it is used."""

from __future__ import annotations

from dataclasses import dataclass

from arena.results.spending import Spent

#: Part of a budget from which on there is a warning.
NEAR = 0.8


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

    def check(self, spent: Spent) -> None:
        """Raises BudgetSpent."""
        if self.used(spent) >= 1:
            raise BudgetSpent(f"the budget is spent: {self.describe(spent)}")
