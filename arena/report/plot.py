"""Where a value stands on an axis, in per cent of its length."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from arena.report.ratings import Rating


@dataclass(frozen=True, slots=True)
class Scale:
    """An axis from `low` to `high` with round ticks."""

    low: float
    high: float
    ticks: tuple[int, ...]

    @classmethod
    def of(cls, ratings: Sequence[Rating]) -> Scale:
        """One that holds all intervals, and a little more."""
        low, high = min(one.low for one in ratings), max(one.high for one in ratings)
        pad = max((high - low) * 0.06, 10.0)
        low, high = low - pad, high + pad
        rough = (high - low) / 5
        power = 10 ** math.floor(math.log10(rough))
        step = next(int(power * factor) for factor in (1, 2, 5, 10) if power * factor >= rough)
        return cls(
            low, high, tuple(range(math.ceil(low / step) * step, math.floor(high) + 1, step))
        )

    def place(self, value: float) -> str:
        return f"{100 * (value - self.low) / (self.high - self.low):.2f}%"
