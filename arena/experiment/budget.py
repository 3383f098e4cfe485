"""The budget of an experiment, and how much of it is used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from arena.results.rows import CallKey
from arena.results.spending import Spent
from arena_llm.prices import format_dollars
from arena_llm.types import to_picousd

#: Share of a budget, or of the credits, above which there is a warning.
NEAR = 0.8


class BudgetSpent(Exception):
    """The experiment's budget is used up. Everything played so far is saved."""

    remedy = "with a higher limit the same command continues"


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits over all runs of an experiment; None is no limit.

    max_cost_usd: a request of unknown cost counts with the most that it can have cost, if that is
    known. max_tokens_total: prompt and completion tokens together; unknown ones do not count.
    """

    max_cost_usd: float | None = None
    max_tokens_total: int | None = None

    @property
    def max_cost_picousd(self) -> int | None:
        """The limit in 10^-12 US dollars."""
        return None if self.max_cost_usd is None else to_picousd(self.max_cost_usd)

    def used(self, spent: Spent) -> tuple[float, str]:
        """The used share of the tightest limit, and the limit's key; (0, "") without limits.

        A share of 1 or more means that the budget is used up.
        """
        shares = [(0.0, "")]
        if (limit := self.max_cost_picousd) is not None:
            most = spent.cost_picousd + spent.unpriced_picousd
            shares.append((most / limit if limit else 1.0, "max_cost_usd"))
        if self.max_tokens_total is not None:
            shares.append((spent.tokens / self.max_tokens_total, "max_tokens_total"))
        return max(shares)

    def describe(self, spent: Spent) -> str:
        """How much of each limit is used, such as "$0.81 of max_cost_usd 1"."""
        parts = []
        if self.max_cost_usd is not None:
            most = f" + at most {format_dollars(spent.unpriced_picousd)}" if spent.bounded else ""
            cost = format_dollars(spent.cost_picousd)
            parts.append(f"{cost}{most} of max_cost_usd {self.max_cost_usd:g}")
        if self.max_tokens_total is not None:
            parts.append(f"{spent.tokens} of max_tokens_total {self.max_tokens_total}")
        return ", ".join(parts)

    def check(self, spent: Spent, expected: Spent) -> None:
        """Raise BudgetSpent if the budget is used up or the next call would exceed it.

        expected: the usage of the calls that have no reply yet, and of the next call.
        """
        reason = f"the budget is spent: {self.describe(spent)}"
        if self.used(spent)[0] >= 1:
            raise BudgetSpent(reason)
        if self.used(spent + expected)[0] > 1:
            raise BudgetSpent(f"{reason}, and the next call would exceed it")


class PendingCalls:
    """The calls that have no reply yet, and their expected usage.

    The expected usage of a call is the mean of the model's earlier replies, or zero before
    the first one. The first calls can therefore exceed a budget; later ones only by their
    deviation from the mean.

    replies: by model, the number of earlier replies and their usage.
    """

    def __init__(self, replies: Mapping[str, tuple[int, Spent]]) -> None:
        self._calls: dict[CallKey, str] = {}
        self._replies = dict(replies)

    def begin(self, key: CallKey, model: str) -> None:
        self._calls[key] = model

    def end(self, key: CallKey, usage: Spent | None = None) -> str | None:
        """End a call, and return its model; None if it is not pending.

        usage: of the reply; None if the call failed.
        """
        model = self._calls.pop(key, None)
        if model is not None and usage is not None:
            count, sums = self._replies.get(model, (0, Spent()))
            self._replies[model] = count + 1, sums + usage
        return model

    def drop(self, episode: str) -> None:
        """End all calls of an episode that its worker gave up."""
        for key in [key for key in self._calls if key.episode == episode]:
            self.end(key)

    def expected(self, model: str) -> Spent:
        """The expected usage of all pending calls and of one more call to this model."""
        tokens = cost = 0
        for name, calls in Counter([*self._calls.values(), model]).items():
            if name in self._replies:
                replies, usage = self._replies[name]
                tokens += _scale(usage.tokens, calls, replies - usage.uncounted)
                cost += _scale(usage.cost_picousd, calls, replies - usage.unpriced)
        return Spent(tokens, cost)


def _scale(total: int, calls: int, replies: int) -> int:
    """Scale the total of these replies to a number of calls, rounded up."""
    return -(-total * calls // replies) if replies else 0
